"""Folders of every version open, predict what their version predicted, and continue.

A version that changes a format gets a folder here, written by that version; none is ever made anew.
"""

import json
import pathlib
import shutil

import gin
import pytest

import hyperdecoders_jax
from hyperdecoders_jax.commands import main
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.weights import run_folder

HERE = pathlib.Path(__file__).parent
KINDS = ("run", "adapters", "export")


def read(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What 8ebce41 wrote, in a folder of its own, which is this one now."""
    copy = tmp_path / "copy"
    shutil.copytree(HERE / "before_versions", copy)
    monkeypatch.chdir(copy)
    yield copy
    gin.clear_config()
    vocabulary.set_run_vocabulary(None)


@pytest.fixture
def described(folder):
    """The same, with the description of version 1."""
    shutil.copy(HERE / "version_1" / "config.json", folder / "run")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_their_version(described, kind):
    lines, expected = read(described / "lines.jsonl"), read(described / f"{kind}.jsonl")
    model = hyperdecoders_jax.load(described / kind)
    found = model.predict_scored([(line["inputs"], None) for line in lines])
    assert [scored.text for scored in found] == [line["prediction"] for line in expected]
    likelihoods = [line["log_likelihood"] for line in expected]
    assert [scored.log_likelihood for scored in found] == pytest.approx(likelihoods, rel=1e-5)


def test_a_run_without_a_description_is_refused_until_it_is_upgraded(folder, capsys):
    with pytest.raises(ValueError, match=r"hyperdecoders upgrade --model_dir=\S*run"):
        hyperdecoders_jax.load(folder / "run")
    assert main.main(["upgrade", "--model_dir=run"]) == 0
    assert "run/config.gin, which is a program" in capsys.readouterr().out
    written, expected = (
        run_folder.read_file(path) for path in (folder / "run", HERE / "version_1")
    )
    assert written.trained == expected.trained
    assert written.data == expected.data
    assert written.description.model == expected.description.model
    assert written.description.backbone.fingerprint == expected.description.backbone.fingerprint


def test_a_run_continues(folder):
    flags = ["--gin_file=run/config.gin", "--model_dir=run", "--gin.TRAIN_STEPS=23"]
    assert main.main(["train", *flags]) == 0
    lines = [line for line in read(folder / "run" / "metrics.jsonl") if line["kind"] == "train"]
    for line, expected in zip(lines[-3:], read(folder / "continued.jsonl"), strict=True):
        for name in ("step", "loss", "grad_norm", "learning_rate"):
            assert line[name] == pytest.approx(expected[name], rel=1e-5), name
    assert run_folder.is_run(folder / "run")
