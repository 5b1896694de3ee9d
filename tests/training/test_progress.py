import io

import pytest

from hyperdecoders_jax.training.progress import Progress

VALUES = {
    "loss_per_token": 2.5,
    "learning_rate": 3e-4,
    "steps_per_sec": 2.0,
    "examples_per_sec": 16.0,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_lines():
    stream = io.StringIO()
    progress = Progress(0, 10, stream)
    for _ in range(4):
        progress.advance()
    progress.report(4, VALUES)
    progress.close()
    assert stream.getvalue() == (
        "step 4/10  loss/token 2.5000  lr 3.00e-04  2.00 steps/s  16.0 examples/s  ETA 0:00:03\n"
    )


def test_a_terminal_gets_a_bar_with_the_newest_metrics():
    stream = Terminal()
    progress = Progress(2, 4, stream)
    progress.advance()
    progress.report(3, VALUES)
    progress.say("evaluated")
    progress.close()
    assert "3/4" in stream.getvalue()
    assert "loss 2.5000" in stream.getvalue()
    assert "evaluated\n" in stream.getvalue()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_bar_fits_its_terminal_and_has_one_rate_and_one_eta(columns, monkeypatch):
    # What tqdm measures of a terminal that is none of this process's.
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda file: (columns, 24))
    stream = Terminal()
    progress = Progress(0, 65_536, stream)
    for _ in range(12_345):
        progress.advance()
    progress.report(12_345, VALUES | {"steps_per_sec": 12.5})
    progress.report_evaluation(12_345, 3.0, {"cola": {"accuracy": 70.0}, "sst2": {"f1": 81.5}})
    progress.close()
    bar = stream.getvalue().split("\r")[-1].rstrip("\n")
    assert len(bar) <= columns
    assert bar.startswith("12345/65536 |")
    assert bar.endswith("| loss 2.5000  eval average 75.75  12.50 steps/s  ETA 1:10:55")
    assert "steps/s" not in bar.replace("12.50 steps/s", "")


def test_a_process_that_shows_nothing_writes_nothing():
    stream = Terminal()
    progress = Progress(0, 4, stream, is_shown=False)
    progress.advance()
    progress.report(1, VALUES)
    progress.close()
    assert stream.getvalue() == ""


def test_only_steps_under_the_clock_count():
    progress = Progress(0, 4, io.StringIO())
    progress.advance()
    assert progress.take_rate() is None
    progress.start_clock()
    progress.advance()
    progress.stop_clock()
    assert progress.take_rate() > 0
    assert progress.take_rate() is None
