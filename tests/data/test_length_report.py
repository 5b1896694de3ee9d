import re

import numpy as np
import pytest
import seqio

from hyperdecoders_jax.commands import main
from hyperdecoders_jax.data import length_report
from tests.data.conftest import _make_task

pytestmark = pytest.mark.usefixtures("forget_configuration")


def test_lengths_of_a_mixture_count_as_it_draws_them(register):
    short = _make_task("short", inputs=["x" * 9] * 20, targets=["yes"] * 20)
    long = _make_task("long", inputs=["x" * 99] * 20, targets=["y"] * 20)
    name = register(seqio.Mixture("of_two", [(short, 3.0), (long, 1.0)]))
    text = length_report.report(name, "bytes")
    rows = {line.split("  ")[0]: re.findall(r"\d+, \d+", line) for line in text.splitlines()}
    assert rows["short"] == ["10, 4"] * 5
    assert rows["long"] == ["100, 2"] * 5
    mean = rows["as mixed"][0].split(", ")
    np.testing.assert_allclose(int(mean[0]), 0.75 * 10 + 0.25 * 100, atol=2)
    assert re.search(r" 9 to 16 +7\d\.\d% #{28,32}\n", text)
    assert re.search(r" 65 to 128 +2\d\.\d% #{8,12}\n", text)
    assert "TASK_FEATURE_LENGTHS = {'inputs': 104, 'targets': 8}" in text
    # Four examples of 33 tokens in 128: of 112 tokens each has 128 + 24 over four.
    fill, per_row = re.search(r"(\d+)% are padding, (\d\.\d) examples a row", text).groups()
    assert int(fill) < 25
    assert 3 < float(per_row) < 5


def test_the_command_shows_them(capsys):
    assert main.main(["tasks", "demo_topic", "--lengths"]) == 0
    assert "PACK = True, ROW_LENGTHS = {'inputs': 128" in capsys.readouterr().out
    assert main.main(["tasks", "--lengths"]) == 2
    assert "--lengths needs a task or mixture" in capsys.readouterr().err
