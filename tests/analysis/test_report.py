import json
import math

from hyperdecoders_jax.analysis import report, results
from tests.analysis.constructed import make_examples

ABOUT = {"mixture": "demo", "split": "test", "checkpoint": "my_run"}


def make_study(step, num=12, readers=("decoder_adapters",), variances=()):
    own = results.Ablation("a", "own", "score", 3.0, 0.0, 0.0, 0.0, 0, num)
    others = [
        results.Ablation("a", "mean of all", "score", 3.0, 0.0, 0.0, 0.0, 0, num),
        results.Ablation("a", "zero", "score", 2.0, -1.0, math.nan, math.inf, 4, num),
    ]
    task = results.Task("a", num, "class label", 2, 25.0)
    return results.Study(make_examples(12), [task], [], [own, *others], variances, readers, step)


def test_a_study_becomes_files(tmp_path):
    report.write(tmp_path, make_study(7), ABOUT)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {report.RESULTS_FILE, report.TEXT_FILE, report.PAGE_FILE, "pictures"}
    assert (tmp_path / report.TEXT_FILE).read_text() == report.text(make_study(7), ABOUT) + "\n"
    page = (tmp_path / report.PAGE_FILE).read_text()
    assert "<title>my_run on demo, test" in page
    assert "checkpoint: my_<wbr>run" in page


def test_captions_name_the_step_where_there_is_one():
    assert report.captions(make_study(7))[0].endswith("tasks, at step 7.")
    assert report.captions(make_study(0))[0].endswith("tasks.")


def test_captions_say_how_many_examples_are_shown():
    assert not any("drawn" in line for line in report.captions(make_study(7)))
    of_many = report.captions(make_study(7, num=1_300))
    assert of_many[0].startswith("1,300 examples of 3 tasks")
    assert of_many[1] == "Probes and maps are of 12 of them, drawn from each task at random."


def test_a_model_without_conditions_says_why_nothing_changes():
    assert "no ablation changes anything" in report.captions(make_study(7, readers=()))[-1]


def test_captions_say_whose_condition_is_shown():
    lines = report.captions(make_study(7, readers=("decoder_adapters", "encoder_hypergrid")))
    assert 'as "condition" that of decoder_adapters is probed' in lines[-1]


def test_a_hypernetwork_that_writes_the_same_for_all_is_told():
    collapsed = [results.Variance("decoder_adapters", layer, 0.0, 0.0, 0.0) for layer in range(2)]
    lines = report.captions(make_study(7, variances=collapsed))
    assert lines[-1] == "Mind that decoder_adapters writes the same for all examples."
    one = results.Variance("decoder_adapters", 2, 0.5, 0.25, 0.25)
    assert len(report.captions(make_study(7, variances=[*collapsed, one]))) == len(lines) - 1


def test_the_text_tells_what_was_studied():
    lines = report.text(make_study(7), ABOUT).splitlines()
    assert lines[0] == "mixture: demo; split: test; checkpoint: my_run."
    assert ["a", "12", "class", "label", "2", "25.0"] in [line.split() for line in lines]


def test_an_interval_that_is_unknown_is_not_shown_nor_one_of_no_change():
    line = report.text(make_study(7), ABOUT).splitlines()[-1]
    assert line.split() == ["a", "score", "3.0", "same", "-1.0"]


def test_numbers_are_json_that_every_reader_takes():
    found = json.loads(json.dumps(report._to_dict(make_study(7), ABOUT), allow_nan=False))
    assert found["checkpoint"] == "my_run"
    assert found["ablations"][2]["low"] is found["ablations"][2]["high"] is None
    assert found["ablations"][2]["difference"] == -1
