import dataclasses
import re

import jax
import numpy as np
import pytest

from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig
from hyperdecoders_jax.decoding.sampling import GreedyConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.trained import preparation
from hyperdecoders_jax.training import partitioning
from hyperdecoders_jax.weights import adapter_folder, exported_folder
from tests import tiny
from tests.trained import test_text_model

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


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model that was trained on the tasks "cola" and "sst2", exported."""
    adapters, folder = (tmp_path_factory.mktemp(name) for name in ("adapters", "exported"))
    test_text_model.write_folder(adapters, "none", "task")
    description, stored = adapter_folder.read(adapters)
    exported_folder.write_weights(folder, description, stored)
    return folder, Model(description.model)


@pytest.mark.parametrize("names", [("sst2", "cola"), ("cola",), ("cola", "rte")])
def test_tasks_keep_the_numbers_that_they_were_trained_with(exported, names):
    folder, model = exported
    preparation.check_start(str(folder), model, ("cola", "sst2"))
    preparation.check_start(str(folder), model, ("cola", "sst2", "rte"))
    preparation.check_start(str(folder), Model(tiny.make_config()), names)
    preparation.check_start(None, model, names)
    with pytest.raises(
        ValueError, match=r"numbers them \('cola', 'sst2'\), and this run \('.*Set TA"
    ):
        preparation.check_start(str(folder), model, names)


def test_tasks_of_no_run_are_those_that_are_configured(model):
    config = preparation.TrainedConfig(
        model, None, None, "bytes", None, None, "float32", None, 0, task_names=["b", "a"]
    )
    assert preparation.task_names_of(config) == ("b", "a")
    assert preparation.task_names_of(dataclasses.replace(config, task_names=None)) is None
