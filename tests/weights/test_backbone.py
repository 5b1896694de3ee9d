"""A run starts from weights of any format, or says what is wrong with them."""

import json
import pathlib

import jax
import ml_dtypes
import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.weights import arrays, backbone, formats, names
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel
from tests import tiny


def make(encoder="manual", decoder="generated", **kw):
    tiny_model = model.Model(tiny.make_config(encoder, decoder, **kw))
    return tiny_model.config, jax.tree.map(np.asarray, tiny.make_params(tiny_model))


def write(path, name, params, config):
    """Weights in one of the formats."""
    flat = arrays.in_memory(names.flatten(params))
    formats.FORMATS[name].write(path, TrainedModel(Description(config), flat))
    return str(path)


def load(path, config):
    """All that a run of `config` starts from, as it does."""
    start = backbone.open(path, config).arrays
    return names.unflatten({p: np.asarray(x.read(), np.float32) for p, x in start.items()})


def plain(params):
    return {key: params[key] for key in model.BACKBONE_KEYS}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    jax.tree.map(np.testing.assert_array_equal, found, dict(expected))


@pytest.mark.parametrize("name", ["hugging_face", "t5x", "t5x_orbax", "safetensors"])
def test_a_run_starts_from_any_format(tmp_path, name):
    config, params = make()
    plain_config = tiny.make_config("none", "none")
    path = write(tmp_path / "t5", name, plain(params), plain_config)
    assert_equal(load(path, config), plain(params))


@pytest.mark.parametrize("name", ["t5x", "safetensors"])
def test_a_run_starts_from_adapters_where_there_are_some(tmp_path, name):
    config, params = make()
    path = write(tmp_path / "t5", name, params, config)
    assert_equal(load(path, config), params)


@pytest.mark.torch
def test_a_run_starts_from_a_trained_state_of_the_original(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    config, params = make("generated", "manual")
    path = write(tmp_path / "state", "original", params, config)
    assert_equal(load(path, config), params)
    assert set(backbone.open(path, config).skipped) == {
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
    }


def test_the_order_of_tasks_that_weights_know_is_told(tmp_path, caplog):
    config, params = make("none", "manual_specific")
    flat = arrays.in_memory(names.flatten(params))
    description = Description(config, task_names=("cola", "sst2", "mrpc", "rte"))
    weights = TrainedModel(description, flat)
    formats.FORMATS["safetensors"].write(tmp_path / "t5.safetensors", weights)
    assert_equal(load(str(tmp_path / "t5.safetensors"), config), params)
    assert "which must be the run's: cola, sst2, mrpc, rte" in caplog.text


def test_bfloat16_becomes_float32(tmp_path):
    config, params = make("none", "none")
    stored = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), params)
    found = load(write(tmp_path / "t5", "hugging_face", stored, config), config)
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    assert_equal(found, jax.tree.map(lambda x: x.astype(np.float32), stored))


def test_what_is_skipped_is_told(tmp_path):
    config, params = make("none", "none")
    path = write(tmp_path / "t5", "t5x", params, config)
    assert backbone.open(path, config).skipped == {"state/step": "the count of steps"}


def test_saving_and_loading_keeps_every_bit(tmp_path):
    config, params = make()
    path = tmp_path / "tiny.safetensors"
    backbone.save(path, params, {"made_by": "a test"})
    assert_equal(load(str(path), config), plain(params))
    assert formats.read(str(path)).metadata["made_by"] == "a test"


def test_weights_of_another_model_are_refused(tmp_path):
    config, params = make("none", "none")
    folder = write(tmp_path / "t5", "hugging_face", params, config)
    with pytest.raises(
        ValueError, match=r"num_decoder_layers is 3 there and 4 in the conf.*models"
    ):
        backbone.open(folder, tiny.make_config(num_decoder_layers=4))
    file = write(tmp_path / "t5.safetensors", "safetensors", params, config)
    pathlib.Path(file).unlink()
    backbone.save(file, params, {})
    with pytest.raises(
        ValueError, match=r"missing: decoder/layers_3.*and \d+ more; unexpected: no"
    ):
        backbone.open(file, tiny.make_config(num_decoder_layers=4))
    with pytest.raises(ValueError, match=r"wi_0/kernel is \(8, 14\) there and \(8, 15\) in"):
        backbone.open(file, tiny.make_config(mlp_dim=15))


def test_adapters_of_another_model_are_refused(tmp_path):
    config, params = make()
    file = write(tmp_path / "t5.safetensors", "safetensors", params, config)
    with pytest.raises(ValueError, match=r"decoder_adapter.norm_input is False there"):
        backbone.open(file, tiny.make_config("manual", "generated", norm_input=True))


def test_missing_empty_and_damaged_weights_are_named(tmp_path):
    config, params = make("none", "none")
    with pytest.raises(FileNotFoundError, match=r"nothing at .*absent\. Correct the path"):
        backbone.open(str(tmp_path / "absent"), config)
    with pytest.raises(ValueError, match=r"none of them: an empty folder"):
        backbone.open(str(tmp_path), config)
    folder = pathlib.Path(write(tmp_path / "t5", "hugging_face", params, config))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-9])
    with pytest.raises(ValueError, match=r"model\.safetensors is not: .*again"):
        backbone.open(str(folder), config)
    index = {"weight_map": {"shared.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match=r"missing: model-00001-of-00002.safetensors"):
        backbone.open(str(folder), config)


def test_a_file_of_the_package_is_found():
    with pytest.raises(ValueError, match="must name a file that ships with the package"):
        backbone.open("package://tasks/none.safetensors", tiny.make_config())
