"""T5X reads and evaluates numbered tasks by their own names, and our evaluator agrees with it."""

import dataclasses

import jax
import numpy as np
import pytest
import seqio
from flax.core import freeze

pytest.importorskip("t5x", reason="T5X is not installed")

from t5x import eval as t5x_eval
from t5x import partitioning, train_state, utils

from hyperdecoders_jax import model, types
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.decoding.decoded import Decoded
from hyperdecoders_jax.evaluation import evaluator
from hyperdecoders_jax.evaluation.config import EvaluationConfig
from hyperdecoders_jax.t5x import tasks
from hyperdecoders_jax.t5x.model import HyperdecoderModel
from tests import tiny
from tests.data.conftest import make_task, register

__all__ = ["make_task", "register"]

pytestmark = pytest.mark.t5x

LENGTHS = {"inputs": 9, "targets": 4}
NAMES = ["second", "unused", "first"]


@pytest.fixture
def mixture(make_task, register):
    """A registered mixture of two tasks whose metrics note what they get."""
    seen = {}

    def note(targets, predictions, aux_values):
        seen[tuple(targets)] = (predictions, aux_values)
        return {"right": 100 * np.mean([a == b for a, b in zip(targets, predictions, strict=True)])}

    for name, answers in (("first", ["a", "b", "cd"]), ("second", ["e", "f", "g", "hi"])):
        splits = ("train", "validation")
        register(make_task(name, targets=answers, splits=splits, metric_fns=[note]))
    return register(seqio.Mixture("both", ["first", "second"], default_rate=1)), seen


def dataset_config(name, split, batch_size=4):
    return utils.DatasetConfig(name, LENGTHS, split, batch_size, shuffle=False, seed=0)


def test_t5x_reads_the_number_of_every_example(mixture):
    name = tasks.register_task_ids(mixture[0], NAMES)
    assert name == "both"
    converter = HyperdecoderModel.FEATURE_CONVERTER_CLS
    batches = utils.get_dataset(dataset_config(name, "train"), 0, 1, converter, num_epochs=1)
    batch = next(batches.as_numpy_iterator())
    first = seqio.ByteVocabulary().encode("f")[0]
    is_first = batch["encoder_input_tokens"][:, 0] == first
    np.testing.assert_array_equal(batch["task_ids"], np.where(is_first, 2, 0))

    by_task = utils.get_training_eval_datasets(
        dataset_config(name, "validation", 2), 0, 1, eval_steps=1, feature_converter_cls=converter
    )
    found = {name: next(ds.as_numpy_iterator())["task_ids"] for name, ds in by_task.items()}
    assert set(found) == {"first", "second", "both"}
    np.testing.assert_array_equal(found["first"], [2, 2])
    np.testing.assert_array_equal(found["second"], [0, 0])


def test_numbers_may_be_given_again(mixture):
    tasks.register_task_ids(mixture[0], NAMES)
    name = tasks.register_task_ids(mixture[0])
    (example,) = seqio.get_mixture_or_task("second").get_dataset(None, "train").take(1)
    assert example["task_ids"].numpy() == [1]
    assert [task.name for task in seqio.get_mixture_or_task(name).tasks] == ["first", "second"]


def test_a_single_task_is_numbered(make_task, register):
    name = tasks.register_task_ids(register(make_task("alone")), ["unused", "alone"])
    (example,) = seqio.get_mixture_or_task(name).get_dataset(None, "train").take(1)
    assert example["task_ids"].numpy() == [1]


def test_a_task_that_was_not_trained_on_is_evaluated_where_the_model_takes_it(mixture):
    def accepts(unseen_tasks):
        config = tiny.make_config("none", "task", num_tasks=None)
        adapter = dataclasses.replace(config.decoder_adapter, unseen_tasks=unseen_tasks)
        config = dataclasses.replace(config, decoder_adapter=adapter)
        return tasks.accepts_unseen_tasks(model.Model(config))

    assert (accepts("mean"), accepts("error")) == (True, False)
    with pytest.raises(ValueError, match="must hold every task that is read; got 'second'"):
        tasks.register_task_ids(mixture[0], ["first"])
    tasks.register_task_ids(mixture[0], ["first"], accepts_unseen=True)
    (example,) = seqio.get_mixture_or_task("second").get_dataset(None, "train").take(1)
    assert example["task_ids"].numpy() == [types.UNSEEN_TASK_ID]


def test_t5x_predicts_and_scores_what_our_evaluator_does(mixture):
    name, seen = mixture
    config = tiny.make_config("none", "task", vocab_size=300, num_tasks=None)
    vocabulary = seqio.ByteVocabulary()
    wrapped = HyperdecoderModel(model.Model(config), vocabulary, vocabulary, None, NAMES)
    params = tiny.make_params(wrapped.model)
    predict = jax.jit(lambda batch: wrapped.model.predict(params, batch, max_len=4))

    data = PipelineConfig(name, LENGTHS, batch_size=4)
    ours = evaluator.Evaluator(data, EvaluationConfig(), NAMES)
    expected = ours.evaluate(lambda batch, _: Decoded(*map(np.asarray, predict(batch))), step=0)
    expected_seen = dict(seen)

    tasks.register_task_ids(name, NAMES)
    partitioner = partitioning.PjitPartitioner(num_partitions=1)
    evaluate = t5x_eval.InferenceEvaluator(
        dataset_config(name, "validation"), seqio.Evaluator, wrapped, partitioner
    )
    initializer = utils.TrainStateInitializer(
        None, wrapped.get_initial_variables, evaluate.model_feature_shapes, partitioner
    )
    state = train_state.InferenceState(step=np.int32(0), params=freeze(params))
    found = evaluate.evaluate(state, initializer.train_state_axes).result()
    evaluate.close()

    assert found == expected
    for targets, (predictions, aux) in expected_seen.items():
        found_predictions, found_aux = seen[targets]
        assert found_predictions == predictions
        np.testing.assert_allclose(found_aux["scores"], aux["scores"], rtol=1e-6)
        np.testing.assert_array_equal(found_aux["num_tokens"], aux["num_tokens"])
