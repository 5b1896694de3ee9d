"""T5X evaluates tasks by their own lengths and beams, and its metrics choose a checkpoint."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

pytest.importorskip("t5x", reason="T5X is not installed")

from hyperdecoders_jax.data.feature_converter import AnyTaskFeatureConverter
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.t5x import evaluation
from hyperdecoders_jax.training.trainer import BestCheckpointConfig
from tests import tiny
from tests.t5x import runs

pytestmark = pytest.mark.t5x

NAME = "evaluated_by_t5x"
NUM_EXAMPLES, LENGTHS = 3, {"inputs": 6, "targets": 8}


def mean_score(targets, scores):
    return {"mean_score": float(np.mean(scores))}


def same(targets, predictions):
    return {"same": 100.0 * np.mean([a == b for a, b in zip(targets, predictions, strict=True)])}


@pytest.fixture(scope="module", autouse=True)
def _task():
    texts = ["ab", "abcdefg", "abcd"]

    def read(split, shuffle_files, seed=None):
        return tf.data.Dataset.from_tensor_slices({"inputs": texts, "targets": texts})

    seqio.TaskRegistry.add(
        NAME,
        source=seqio.FunctionDataSource(read, splits=["validation"]),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={name: seqio.Feature(runs.VOCABULARY) for name in LENGTHS},
        metric_fns=[mean_score, same],
    )
    yield
    seqio.TaskRegistry.remove(NAME)


def make(**kw):
    return evaluation.Evaluator(
        mixture_or_task_name=NAME,
        feature_converter=AnyTaskFeatureConverter(pack=False),
        eval_split="validation",
        sequence_length=LENGTHS,
        model=Model(tiny.make_config()),
        logger_cls=(),
        **kw,
    )


def test_a_task_with_lengths_of_its_own_is_told_by_a_shape_and_scored_whole():
    features = {}

    def keep(kind, found):
        def call(dataset):
            batches = list(dataset.batch(NUM_EXAMPLES).as_numpy_iterator())
            features[kind] = batches[0][1]
            return list(enumerate([found] * NUM_EXAMPLES))

        return call

    evaluator = make(generation={NAME: (2, 3), "another": (5, 6)})
    calls = {"predict_fn": keep("predict", [3, 1]), "score_fn": keep("score", -2.0)}
    found, _ = evaluator.evaluate(compute_metrics=True, **calls)
    assert found.result()[NAME]["mean_score"] == -2.0
    evaluator.close()
    model, max_len = evaluation.decoding_of(Model(tiny.make_config()), features["predict"])
    assert (model.decoding, max_len) == (BeamSearchConfig(num_beams=3), 2)
    assert (features["score"]["decoder_loss_weights"].sum(axis=1) == [3, 8, 5]).all()
    plain = {name: x for name, x in features["score"].items() if name != "generation"}
    unchanged = Model(tiny.make_config())
    assert evaluation.decoding_of(unchanged, plain) == (unchanged, LENGTHS["targets"])


def test_what_cannot_be_decoded_or_chosen_is_told():
    with pytest.raises(ValueError, match=r"GENERATION must give a task .* got 64 for"):
        make(generation={NAME: 64})
    calls = {"predict_fn": lambda data: list(enumerate([[3, 1]] * NUM_EXAMPLES))}
    calls["score_fn"] = lambda data: list(enumerate([-2.0] * NUM_EXAMPLES))
    evaluator = make(best=BestCheckpointConfig(f"{NAME}/accuracy"))
    with pytest.raises(KeyError, match=rf"'{NAME}/accuracy'\. Choose one of .*/mean_score"):
        evaluator.evaluate(compute_metrics=True, **calls)
    evaluator.evaluate(compute_metrics=False, **calls)  # Of several processes the first computes.
    evaluator.close()
