import re

import jax
import numpy as np
import pytest

from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig
from hyperdecoders_jax.decoding.sampling import GreedyConfig, SamplingConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.trained import placed
from hyperdecoders_jax.trained.placed import Placed, Verbs
from hyperdecoders_jax.training import partitioning
from hyperdecoders_jax.training.trainable import TrainableConfig
from hyperdecoders_jax.weights import arrays, names
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel
from tests import tiny

GENERATION = {"summary": (6, 3), "label": (2, 1)}


@pytest.fixture(scope="module")
def model():
    return Model(tiny.make_config(), decoding=GreedyConfig(min_len=2))


@pytest.fixture(scope="module")
def params(model):
    return model.init(jax.random.key(0))


def make_verbs(model, generation=None):
    partitioner = partitioning.make_partitioner(partitioning.PartitioningConfig())
    return Verbs(model, partitioner, max_len=4, generation=generation)


def test_a_task_is_decoded_with_its_own_length_and_beams(model, params):
    batch = tiny.make_batch()
    predict = Placed(make_verbs(model, GENERATION), params).predict_fn()
    decodings = {
        "summary": (BeamSearchConfig(num_beams=3, min_len=2), 6),
        "label": (GreedyConfig(min_len=2), 2),
        "another": (GreedyConfig(min_len=2), 4),
        None: (GreedyConfig(min_len=2), 4),
    }
    for task, (decoding, max_len) in decodings.items():
        expected = Model(model.config, decoding=decoding).predict(params, batch, max_len=max_len)
        np.testing.assert_array_equal(predict(batch, task).tokens, expected.tokens)


def test_many_ways_of_decoding_are_compiled_once(model):
    tasks = [f"of_{length}" for length in range(1, 8)]
    generation = {task: (length, 1) for length, task in enumerate(tasks, 1)}
    verbs = make_verbs(model, generation)
    first = [verbs.predict(task) for task in tasks]
    assert len(set(map(id, first))) == len(tasks)
    # More than `share_programs` keeps, and the same objects again: JAX knows a program by these.
    assert [verbs.predict(task) for task in tasks] == first


def test_each_predict_function_samples_from_the_first_key_on(model, params):
    sampling = Model(model.config, decoding=SamplingConfig())
    of_model = Placed(make_verbs(sampling), params, seed=5)
    batch = tiny.make_batch()
    predict, again = of_model.predict_fn(), of_model.predict_fn()
    first, second = predict(batch).tokens, predict(batch).tokens
    np.testing.assert_array_equal(again(batch).tokens, first)
    assert not np.array_equal(first, second)
    key = jax.random.fold_in(jax.random.key(5), 1)
    expected = sampling.predict(params, batch, key, max_len=4)
    np.testing.assert_array_equal(second, expected.tokens)


@pytest.mark.parametrize("wrong", [(1, 1), (5, 0), 5, (5,), ("5", 1)])
def test_a_task_needs_room_for_its_shortest_text_and_a_beam(model, wrong):
    placed.check_decoding(model, 4, GENERATION)
    message = rf"GENERATION must give .* got {re.escape(str(wrong))} for 'label' with Greedy"
    with pytest.raises(ValueError, match=message):
        placed.check_decoding(model, 4, {**GENERATION, "label": wrong})


def test_sampling_has_no_beams(model):
    sampling = Model(model.config, decoding=SamplingConfig())
    placed.check_decoding(sampling, 4, {"label": (2, 1)})
    with pytest.raises(ValueError, match=r"got \(6, 3\) for 'summary'.*sampling has no beams"):
        placed.check_decoding(sampling, 4, GENERATION)


def test_frozen_parameters_alone_are_cast(model, params):
    stored = arrays.in_memory({p: np.asarray(x) for p, x in names.flatten(params).items()})
    trained = TrainedModel(Description(model.config), stored)
    found = placed.place(trained, make_verbs(model), "bfloat16", TrainableConfig())
    for path, x in names.flatten(found).items():
        dtype = "float32" if "adapters" in path else "bfloat16"
        assert x.dtype == dtype, path
        np.testing.assert_array_equal(x, names.flatten(params)[path].astype(dtype), err_msg=path)
