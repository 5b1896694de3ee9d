import re

import jax
import numpy as np
import pytest

from hyperdecoders_jax import preparation
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig
from hyperdecoders_jax.decoding.sampling import GreedyConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.training import partitioning
from tests import tiny

GENERATION = {"summary": (6, 3), "label": (2, 1)}


@pytest.fixture(scope="module")
def model():
    return Model(tiny.make_config(), decoding=GreedyConfig(min_len=2))


@pytest.fixture(scope="module")
def params(model):
    return model.init(jax.random.key(0))


def predict_fn_of(model, params, generation):
    partitioner = partitioning.make_partitioner(partitioning.PartitioningConfig())
    predictor = preparation.Predictor(model, partitioner, max_len=4, generation=generation)
    return predictor.bind(params)[0]


def test_a_task_is_decoded_with_its_own_length_and_beams(model, params):
    batch = tiny.make_batch()
    predict = predict_fn_of(model, params, GENERATION)
    decodings = {
        "summary": (BeamSearchConfig(num_beams=3, min_len=2), 6),
        "label": (GreedyConfig(min_len=2), 2),
        "another": (GreedyConfig(min_len=2), 4),
        None: (GreedyConfig(min_len=2), 4),
    }
    for task, (decoding, max_len) in decodings.items():
        expected = Model(model.config, decoding=decoding).predict(params, batch, max_len=max_len)
        np.testing.assert_array_equal(predict(batch, task).tokens, expected.tokens)


@pytest.mark.parametrize("wrong", [(1, 1), (5, 0), 5, (5,), ("5", 1)])
def test_a_task_needs_room_for_its_shortest_text_and_a_beam(model, wrong):
    preparation.check_decoding(model, 4, GENERATION)
    message = rf"GENERATION must give .* got {re.escape(str(wrong))} for 'label' with Greedy"
    with pytest.raises(ValueError, match=message):
        preparation.check_decoding(model, 4, {**GENERATION, "label": wrong})
