"""The notebooks run: their code cells, in one process, with few steps; and they stay small."""

import json
import pathlib
import runpy

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "docs/notebooks"
RUNNER = runpy.run_path(str(FOLDER / "run.py"))
SIZES = ("NUM_ENCODER_LAYERS=1", "NUM_DECODER_LAYERS=1", "EMB_DIM=16", "MLP_DIM=24")
SMALLER = [f"--gin.{macro}" for macro in (*SIZES, "INITIAL_CHECKPOINT_PATH=None", "BATCH_SIZE=16")]
FEWER = {
    "TRAIN_STEPS=400": "TRAIN_STEPS=2",
    "STEPS, SEEDS = 100, (1, 2)": "STEPS, SEEDS = 2, (1,)",
    # test_demo.py runs an experiment with the T5 and the tasks that ship.
    "--gin.EVAL_SPLIT=None": " ".join(
        ["--gin.EVAL_SPLIT=None", "--gin.MIXTURE_OR_TASK_NAME=demo_topic", *SMALLER]
    ),
    '"--gin.BATCH_SIZE=16"]': f"*{SMALLER}]",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebooks")


def notebook(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))


# In their order, in one folder: the last one takes the run of the first.
@pytest.mark.usefixtures("forget_configuration")
@pytest.mark.parametrize("name", RUNNER["NAMES"])
def test_a_notebook_runs(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    printed = RUNNER["run"](RUNNER["code_cells"](notebook(name)), FEWER)
    assert printed[-1]


def test_every_smaller_setting_takes_the_place_of_one_that_is_there():
    sources = "".join("".join(cell["source"]) for name in RUNNER["NAMES"]
                      for cell in RUNNER["code_cells"](notebook(name)))  # fmt: skip
    assert all(setting in sources for setting in FEWER)


@pytest.mark.parametrize("name", RUNNER["NAMES"])
def test_a_notebook_is_small_and_has_its_outputs(name):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 20_000
    cells = RUNNER["code_cells"](notebook(name))
    assert "".join(cells[0]["source"]).startswith(RUNNER["INSTALL"])
    assert cells[-1]["outputs"]
