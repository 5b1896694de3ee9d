"""A configured run, opened to predict; whole runs are in tests/commands/test_train.py."""

import pathlib

import numpy as np
import pytest
import safetensors.numpy

from hyperdecoders_jax import errors
from hyperdecoders_jax.config.run_config import StartConfig
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.hub import tokenizer_files
from hyperdecoders_jax.trained import opened
from hyperdecoders_jax.weights.trained_model import VOCABULARY_KEY, Vocabulary
from tests.commands import tiny_runs


def with_names(task_names, **fields):
    data = PipelineConfig("demo", tiny_runs.LENGTHS, batch_size=4, task_names=task_names)
    return tiny_runs.make_config(data=data, **fields)


def test_tasks_of_no_run_are_those_that_are_configured():
    assert opened.task_names(with_names(["b", "a"]), None) == ("b", "a")
    assert opened.task_names(with_names(["b", "a"]), "best") == ("b", "a")
    assert opened.task_names(with_names(None), None) is None


@pytest.mark.parametrize("step", ["best", 3, None])
def test_tasks_of_a_run_are_those_that_it_was_trained_on(tmp_path, step):
    tiny_runs.write_run(tmp_path)
    run = with_names(["b", "a"], model_dir=str(tmp_path))
    assert opened.task_names(run, step) == ("demo_find", "demo_topic")


def test_a_folder_that_is_no_run_has_no_checkpoint(tmp_path):
    run = with_names(["b", "a"], model_dir=str(tmp_path))
    assert opened.task_names(run, None) == ("b", "a")
    with pytest.raises(errors.UsageError, match=r"must have left its config\.json; .*--model_dir"):
        opened.task_names(run, "best")


def test_the_vocabulary_of_a_run_is_that_of_its_tasks():
    try:
        opened.use_vocabulary(tiny_runs.make_config())
        assert vocabulary.RUN_VOCABULARY.encode("a") == [ord("a") + 3]
        opened.use_vocabulary(
            tiny_runs.make_config(start=StartConfig(None, vocabulary.DEMO_VOCABULARY_PATH))
        )
        demo = vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH)
        assert vocabulary.fingerprint(vocabulary.RUN_VOCABULARY) == vocabulary.fingerprint(demo)
    finally:
        vocabulary.set_run_vocabulary(None)


@pytest.fixture
def demo_run(tmp_path, monkeypatch):
    """Makes runs that start from weights with a vocabulary's fingerprint, and read another file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(vocabulary_path, fingerprint):
        weights = tmp_path / "t5.safetensors"
        array = {"a": np.zeros(1, np.float32)}
        safetensors.numpy.save_file(array, weights, {VOCABULARY_KEY: fingerprint})
        start = StartConfig(str(weights), str(vocabulary_path))
        return tiny_runs.make_config(start=start)

    yield make
    vocabulary.set_run_vocabulary(None)


def test_a_vocabulary_saved_by_another_program_is_the_checkpoints(tmp_path, demo_run):
    demo = pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH).read_bytes()
    tokenizer_files.write(tmp_path, Vocabulary(demo, 100), max_len=48)
    (tmp_path / "spiece.model").unlink()
    today, former = Vocabulary(demo, 100).fingerprints
    for path, stored in ((tmp_path, today), (vocabulary.DEMO_VOCABULARY_PATH, former)):
        opened.use_vocabulary(demo_run(path, stored))
    rebuilt = vocabulary.content(vocabulary.load_vocabulary(tmp_path))[0]
    assert rebuilt != demo  # Else this tests nothing.
    with pytest.raises(ValueError, match=r"must be the one .* of fingerprint f00d, and .* has "):
        opened.use_vocabulary(demo_run(tmp_path, "f00d"))


def test_parameters_before_training_are_placed_as_they_are_configured():
    run = tiny_runs.make_config(evaluation=tiny_runs.EvaluationConfig(batch_size=1))
    assert run.eval_batch_size == 1
    placed = opened.place(run, None)
    assert (placed.step, placed.task_names, placed.seed) == (0, None, 42)
    assert placed.verbs.decoding_of(None) == (run.model.decoding, 4)
