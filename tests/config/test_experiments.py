"""Experiments as text: which are found, and what one resolves to."""

import subprocess
import sys

import pytest

from hyperdecoders_jax.config import experiments

RUN_FILE = """
from __gin__ import dynamic_registration
from nowhere.at_all import model
import nowhere.trainer

STEPS = %gin.REQUIRED
RATE = 0.1
SIZES = [%RATE, {'a': 3}]
CHOICE = @small/model.Model()
TURN = %BACK
BACK = %RATE
model.Model:
  rate = %RATE
  steps = %STEPS
  turn = %TURN
small/model.Model.rate = 3
nowhere.trainer.Trainer.name = 'old'
include 'experiment.gin'
"""

EXPERIMENT_FILE = """
from __gin__ import dynamic_registration
from nowhere.at_all import model as their_model

RATE = 0.5
their_model.Model.rate = %RATE
"""

RESOLVED = """\
Macros
  BACK   = %RATE (0.5)            run.gin:11
  CHOICE = @small/model.Model()   run.gin:9
  RATE   = 0.5                    experiment.gin:5
  SIZES  = [%RATE, {'a': 3}]      run.gin:8
  STEPS  = (must be set)          run.gin:6
  TURN   = %BACK (0.5)            run.gin:10

model.Model
  rate   = %RATE (0.5)            experiment.gin:6
  steps  = %STEPS (must be set)   run.gin:14
  turn   = %TURN (0.5)            run.gin:15

small/model.Model
  rate   = 4                      --gin.small/Model.rate=4

trainer.Trainer
  name   = 'new'                  --gin.nowhere.trainer.Trainer.name='new'
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.gin").write_text(RUN_FILE)
    (tmp_path / "experiment.gin").write_text(EXPERIMENT_FILE)
    return tmp_path


def words(text):
    return [line.split() for line in text.splitlines()]


def test_an_experiment_resolves_to_last_values_and_where_they_are_set(folder):
    flags = ["small/Model.rate = 4", "nowhere.trainer.Trainer.name = 'new'"]
    text = experiments.resolve(["run.gin"], flags)
    assert words(text) == words(RESOLVED)
    macros = text.split("\n\n")[0].splitlines()[1:]
    assert len({line.index(" = ") for line in macros}) == 1
    assert len({line.index(line.split()[-1]) for line in macros}) == 1


def test_long_values_push_no_other_row(folder):
    (folder / "long.gin").write_text(f"LONG = '{60 * 'x'}'\nSHORT = 3\n")
    long, short = experiments.resolve(["long.gin"]).splitlines()[1:]
    assert len(short) < 30 < len(long)


def test_every_parameter_of_a_shipped_experiment_has_a_place():
    files = ["runs/embedded/train.gin", "experiments/demo_hyperdecoder.gin"]
    text = experiments.resolve(files, ["MODEL_DIR = '/nowhere'"])
    rows = [line for line in text.splitlines() if line.startswith("  ")]
    assert all(".gin:" in row or "--gin." in row for row in rows)
    assert ["BATCH_SIZE", "=", "64", "experiments/demo_hyperdecoder.gin:18"] in words(text)
    assert "pipeline.PipelineConfig\n  batch_size" in text


def test_experiments_are_found_by_words_of_their_names_and_what_lines(tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.gin").write_text(
        "# Mine.\n# What:   The first half,\n#         and the other.\n# Run:    this\n# Expect: 3"
    )
    (tmp_path / "direct.gin").write_text("# What: Half a direct one.\nA = 3\n# not this\n")
    (tmp_path / "recipe.gin").write_text("# What experiments share.\nA = 3\n")
    found = experiments.find(["HALF"], [str(tmp_path)])
    mine = experiments.Experiment("experiments/mine.gin", "The first half, and the other.")
    assert found == [experiments.Experiment("direct.gin", "Half a direct one."), mine]
    assert experiments.find(["mine", "OTHER"], [str(tmp_path)]) == [mine]
    assert experiments.find(["mine", "direct"], [str(tmp_path)]) == []


def test_all_shipped_experiments_are_found():
    found = experiments.find()
    names = [experiment.name for experiment in found]
    assert names == sorted(names)
    assert {"experiments/demo_hyperdecoder.gin", "experiments/glue/glue_task_task.gin"} <= {*names}
    assert not any(name.endswith("recipe.gin") for name in names)
    assert all(len(experiment.what) > 20 for experiment in found)
    (found,) = experiments.find(["hyperformer", "glue"])
    assert found.what.endswith("reduction 32).")


def test_experiments_are_read_without_anything_heavy():
    code = (
        "import sys; from hyperdecoders_jax.config import experiments; "
        "assert experiments.find(['demo']); "
        "assert experiments.resolve(['runs/embedded/train.gin', 'mixtures/demo.gin']); "
        "heavy = {'jax', 'tensorflow', 'seqio', 'numpy', 'hyperdecoders_jax.tasks'}; "
        "sys.exit(f'{heavy & set(sys.modules) or str()}')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert result.stderr.strip() == ""
