import json
import math

from hyperdecoders_jax.analysis import report, results, study
from tests.analysis.constructed import make_examples


def make_study(step, num=12):
    unknown = results.Ablation("a", "zero", "score", 2.0, -1.0, math.nan, math.nan)
    own = results.Ablation("a", "own", "score", 3.0, 0.0, 0.0, 0.0)
    examples = make_examples(12)
    return study.Study(examples, num, [], [own, unknown], [], ["decoder_adapters"], step)


def test_captions_name_the_step_where_there_is_one():
    assert report.captions(make_study(7))[0].endswith("tasks, at step 7.")
    assert report.captions(make_study(0))[0].endswith("tasks.")


def test_captions_say_how_many_examples_are_shown():
    assert not any("drawn" in line for line in report.captions(make_study(7)))
    of_many = report.captions(make_study(7, num=1_300))
    assert of_many[0].startswith("1,300 examples of 3 tasks")
    assert of_many[1] == "Probes and maps are of 12 of them, drawn from each task at random."


def test_an_interval_that_is_unknown_is_not_shown():
    line = report.text(make_study(7)).splitlines()[-1]
    assert line.split() == ["a", "score", "3.0", "-1.0"]


def test_numbers_are_json_that_every_reader_takes():
    found = json.loads(json.dumps(report._to_dict(make_study(7)), allow_nan=False))
    assert found["ablations"][1]["low"] is None
    assert found["ablations"][1]["difference"] == -1
