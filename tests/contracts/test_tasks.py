"""What every task of the package promises, whatever it is about."""

import ast
import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax import tasks
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.tasks import demo, glue, mixtures

MODULES = [
    importlib.import_module(name)
    for _, name, _ in pkgutil.walk_packages(tasks.__path__, "hyperdecoders_jax.tasks.")
]
# "glue_cola_v200" and "demo_topic" name the file that registers them.
NAMES = sorted(name for name in seqio.TaskRegistry.names() if name.startswith(("glue_", "demo_")))
PRETRAINING = "demo_pretrain"
SUPERVISED = [name for name in NAMES if name != PRETRAINING]


@pytest.fixture(autouse=True)
def run_vocabulary():
    loaded = vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH)
    vocabulary.set_run_vocabulary(loaded)
    yield loaded
    vocabulary.set_run_vocabulary(None)


def shown_example(name):
    """The record and the rendering that the docstring of a task's first step shows."""
    step = seqio.TaskRegistry.get(name).preprocessors[0]
    record, rendered = step.__doc__.split("\n\n")[0].split("->")
    return ast.literal_eval(record.strip()), ast.literal_eval(rendered.strip())


def to_dataset(record):
    tensors = {
        name: tf.constant(value, tf.float32) if isinstance(value, float) else tf.constant(value)
        for name, value in record.items()
    }
    return tf.data.Dataset.from_tensors(tensors)


def preprocess(name, record, sequence_length=None):
    task = seqio.TaskRegistry.get(name)
    dataset = task.preprocess_precache(to_dataset(record), seed=0)
    dataset = task.preprocess_postcache(dataset, sequence_length, seed=0)
    return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_run(module):
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_all_tasks_are_known():
    assert len(NAMES) == 8 + 6 + 1


@pytest.mark.parametrize("name", NAMES)
def test_a_task_shows_an_example_that_is_true(name):
    record, rendered = shown_example(name)
    first_step = seqio.TaskRegistry.get(name).preprocessors[0]
    [example] = first_step(to_dataset(record)).as_numpy_iterator()
    assert {key: text.decode() for key, text in example.items()} == rendered


@pytest.mark.parametrize("name", SUPERVISED)
def test_an_example_becomes_tokens_that_end_in_eos_and_decode_to_the_text(name, run_vocabulary):
    record, rendered = shown_example(name)
    [example] = preprocess(name, record)
    for feature, text in rendered.items():
        ids = example[feature]
        assert ids.dtype == np.int32
        assert ids[-1] == 1
        assert 0 not in ids
        assert run_vocabulary.decode(ids.tolist()) == text.strip()
        assert example[f"{feature}_pretokenized"].decode() == text


@pytest.mark.parametrize("name", SUPERVISED)
def test_a_perfect_prediction_scores_a_hundred(name):
    task = seqio.TaskRegistry.get(name)
    texts = ["0", "1", "1", "0", "1"] if name.startswith("glue_") else ["word", "words", "worded"]
    values = [task.postprocess_fn(text, is_target=True, example={}) for text in texts]
    assert task.metric_fns == task.predict_metric_fns
    scores = [score for metric_fn in task.metric_fns for score in metric_fn(values, values).items()]
    assert scores
    for key, score in scores:
        assert score == pytest.approx(100), key


@pytest.mark.parametrize("name", SUPERVISED)
def test_a_task_is_in_a_mixture_that_states_its_lengths(name):
    mixture = name.partition("_")[0]
    assert name in {task.name for task in seqio.MixtureRegistry.get(mixture).tasks}
    [example] = preprocess(name, shown_example(name)[0])
    for feature, length in mixtures.TASK_FEATURE_LENGTHS[mixture].items():
        assert len(example[feature]) <= length


@pytest.mark.parametrize("name", NAMES)
def test_a_task_has_the_features_and_splits_that_runs_rely_on(name):
    task = seqio.TaskRegistry.get(name)
    for feature in ("inputs", "targets"):
        assert task.output_features[feature].vocabulary is vocabulary.RUN_VOCABULARY
        assert task.output_features[feature].add_eos
    assert set(task.splits) >= {"train", "validation"}


@pytest.mark.parametrize("module", [demo, glue])
def test_a_task_is_registered_by_its_literal_name(module):
    with open(module.__file__, encoding="utf-8") as file:
        source = file.read()
    family = module.__name__.rpartition(".")[2]
    for name in NAMES:
        assert (f'"{name}"' in source) == name.startswith(f"{family}_")
