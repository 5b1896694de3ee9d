"""The notebooks run: their code cells, in one process, with few steps; and they stay small."""

import json
import pathlib
import runpy

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "docs/notebooks"
RUNNER = runpy.run_path(str(FOLDER / "run.py"))
FEWER = {
    "TRAIN_STEPS=400": "TRAIN_STEPS=2",
    "STEPS, SEEDS = 100, (1, 2)": "STEPS, SEEDS = 2, (1,)",
    # As in the other one, so that it takes the step that the first one compiled.
    "--gin.EVAL_SPLIT=None": "--gin.EVAL_SPLIT=None --gin.BATCH_SIZE=16",
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


@pytest.mark.parametrize("name", RUNNER["NAMES"])
def test_a_notebook_is_small_and_has_its_outputs(name):
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 20_000
    cells = RUNNER["code_cells"](notebook(name))
    assert "".join(cells[0]["source"]).startswith(RUNNER["INSTALL"])
    assert cells[-1]["outputs"]
