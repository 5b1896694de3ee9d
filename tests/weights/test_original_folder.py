import dataclasses
import itertools
import json
import pathlib

import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.weights import arrays, names, original_folder
from tests import tiny

GOLDENS = sorted((pathlib.Path(__file__).parents[1] / "goldens").glob("*.npz"))
PAIRS = list(itertools.product(modeling_config.SOURCES, repeat=2))
TASKS = ("alpha", "beta", "gamma", "delta")


def read_golden(path):
    """The config.json and the state of a stored model of the original."""
    golden = np.load(path)
    state = {name[2:]: golden[name] for name in golden.files if name.startswith("w.")}
    return json.loads(bytes(golden["meta"])) | {"model_type": "t5"}, state


def make(encoder="manual", decoder="generated", **kw):
    """A configuration whose fields that nothing reads are at their defaults."""
    config = tiny.make_config(encoder, decoder, **kw)
    for side in ("encoder_adapter", "decoder_adapter"):
        adapter = dataclasses.replace(getattr(config, side), lora=modeling_config.LoraConfig())
        network = modeling_config.HypernetworkConfig()
        if adapter.source == "none":
            adapter = modeling_config.AdapterConfig()
        elif adapter.source == "task":
            network = dataclasses.replace(adapter.hypernetwork, pooled_mlp=network.pooled_mlp)
        elif adapter.source == "generated":
            network = adapter.hypernetwork
        adapter = dataclasses.replace(adapter, hypernetwork=network)
        config = dataclasses.replace(config, **{side: adapter})
    return config if config.reads_tasks else dataclasses.replace(config, num_tasks=None)


def make_arrays(config):
    params = names.flatten(tiny.make_params(model.Model(config)))
    return arrays.in_memory({path: np.asarray(x) for path, x in params.items()})


def read_all(held):
    return {name: array.read() for name, array in held.items()}


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in found.items():
        assert (value.shape, value.dtype) == (expected[name].shape, expected[name].dtype)
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_a_state_of_the_original_comes_back_bit_for_bit(path):
    fields, state = read_golden(path)
    config = original_folder.config_from_json(fields)
    accounted = original_folder.to_ours(arrays.in_memory(state), config)
    for path, array in accounted.arrays.items():
        assert array.shape == array.read().shape, path

    found = original_folder.to_state(accounted.arrays, config)
    made = original_folder.unused_names(config)
    assert {name: array.shape for name, array in found.items()} == {
        name: x.shape for name, x in state.items()
    }
    expected = {name: np.zeros_like(x) if name in made else x for name, x in state.items()}
    assert_same(read_all(found), expected)
    with_unused = original_folder.to_state(accounted.arrays, config, arrays.in_memory(state))
    assert_same(read_all(with_unused), state)


def test_what_the_original_never_reads_is_left():
    fields, state = read_golden(next(path for path in GOLDENS if path.stem == "manual_generated"))
    config = original_folder.config_from_json(fields)
    left = original_folder.to_ours(arrays.in_memory(state), config).left
    unused = original_folder.unused_names(config)
    assert len(unused) == 2 * 4
    assert left == {
        "encoder.embed_tokens.weight": "a copy of shared.weight",
        "decoder.embed_tokens.weight": "a copy of shared.weight",
        **dict.fromkeys(unused, "the original makes it beside a hypernetwork and never reads it"),
    }


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_every_pair_of_sources_round_trips(encoder, decoder):
    config = make(encoder, decoder, norm_input=True, pooled_mlp=False)
    fields = json.loads(json.dumps(original_folder.config_to_json(config, TASKS)))
    assert original_folder.config_from_json(fields) == config
    assert original_folder.task_names(fields) == TASKS
    held = make_arrays(config)
    state = original_folder.to_state(held, config)
    assert_same(read_all(original_folder.to_ours(state, config).arrays), read_all(held))


def test_tied_models_have_a_copy_of_the_embedding_as_head():
    config = make("none", "none", mlp_activations=("relu",), logits_via_embedding=True)
    state = original_folder.to_state(make_arrays(config), config)
    assert state["lm_head.weight"] is state["shared.weight"]
    assert "lm_head.weight" in original_folder.to_ours(state, config).left


def test_fields_that_older_versions_did_not_save_are_at_their_defaults():
    fields, _ = read_golden(next(path for path in GOLDENS if path.stem == "manual_generated"))
    for name in ("adapter_norm_input", "process_encoder_output", "hypernetwork_bottleneck"):
        del fields[name]
    adapter = original_folder.config_from_json(fields).decoder_adapter
    assert (adapter.norm_input, adapter.hypernetwork.bottleneck_dim) == (False, 128)
    assert adapter.hypernetwork.pooled_mlp


def test_the_mean_of_task_embeddings_is_for_unseen_tasks():
    fields, _ = read_golden(next(path for path in GOLDENS if path.stem == "task_manual_specific"))
    config = original_folder.config_from_json(fields | {"mean_task_embeddings": True})
    assert config.encoder_adapter.unseen_tasks == "mean"
    assert original_folder.config_to_json(config, TASKS[:3])["mean_task_embeddings"]


def test_a_plain_t5_is_no_folder_of_the_original(tmp_path):
    assert not original_folder.is_at(tmp_path)
    fields = original_folder.config_to_json(make())
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert original_folder.is_at(tmp_path)
    del fields["encoder_adapter"], fields["decoder_adapter"]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert not original_folder.is_at(tmp_path)
    with pytest.raises(ValueError, match=r"must have encoder_adapter and decoder_adapter\. Copy"):
        original_folder.config_from_json(fields)


def test_states_of_another_configuration_are_refused():
    config = make()
    state = original_folder.to_state(make_arrays(config), config)
    del state["decoder.param_gen.decoder.linear1.bias"]
    state |= arrays.in_memory({"encoder.mlp.0.weight": np.zeros((8, 8), np.float32)})
    with pytest.raises(
        ValueError, match=r"missing: .*linear1\.bias.*unexpected: .*mlp\.0.* Copy the config"
    ):
        original_folder.to_ours(state, config)
    state = original_folder.to_state(make_arrays(config), config)
    wider = dataclasses.replace(config.encoder_adapter, bottleneck_dim=7)
    with pytest.raises(ValueError, match=r"down_kernel is \(2, 8, 5\) there and \(2, 8, 7\) in"):
        original_folder.to_ours(state, dataclasses.replace(config, encoder_adapter=wider))


def test_layers_of_several_shapes_are_refused():
    config = make()
    state = original_folder.to_state(make_arrays(config), config)
    name = "encoder.block.1.layer.1.adapter_layer.adapter_up_manual.bias"
    state |= arrays.in_memory({name: np.zeros(9, np.float32)})
    with pytest.raises(ValueError, match=rf"one shape; {name} has \(9,\) and .* \(8,\)\. Copy"):
        original_folder.to_ours(state, config)


def test_tasks_must_be_a_list():
    fields = original_folder.config_to_json(make())
    assert original_folder.task_names(fields | {"tasks": None}) == ()
    with pytest.raises(ValueError, match=r"tasks in config.json must be a list .*; got 3\. Copy"):
        original_folder.task_names(fields | {"tasks": 3})


def test_parameters_of_another_configuration_are_refused():
    config = make()
    held = make_arrays(config) | arrays.in_memory({"encoder_hypergrid/gate": np.zeros(3)})
    del held["encoder/encoder_norm/scale"]
    with pytest.raises(
        ValueError, match=r"missing: .*encoder_norm.*unexpected: .*hypergrid/gate.* Give all"
    ):
        original_folder.to_state(held, config)


def test_what_the_original_cannot_compute_is_refused():
    lora = make(decoder_sites=("self_attention_query",))
    with pytest.raises(ValueError, match=r"feed-forward blocks alone.* Keep such a model"):
        original_folder.config_to_json(lora)
    config = make("task", "manual_specific")
    with pytest.raises(ValueError, match=r"all 4 tasks; got 1: \('alpha',\)\. Give the ordered"):
        original_folder.config_to_json(config, TASKS[:1])
    raw = dataclasses.replace(config.decoder_adapter, norm_input=True)
    with pytest.raises(ValueError, match=r"one norm_input for both .* False and True\. Keep"):
        original_folder.config_to_json(dataclasses.replace(config, decoder_adapter=raw), TASKS)


@pytest.mark.torch
@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_a_folder_gives_back_the_configuration_the_tasks_and_every_bit(path, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    fields, state = read_golden(path)
    config = original_folder.config_from_json(fields)
    original_folder.write(tmp_path, config, arrays.in_memory(state), fields["tasks"])
    found_config, task_names, found = original_folder.open(tmp_path)
    assert (found_config, list(task_names)) == (config, fields["tasks"])
    assert_same(read_all(found), state)

    ours = original_folder.to_ours(found, config)
    original_folder.write(
        tmp_path / "again", config, original_folder.to_state(ours.arrays, config, found), task_names
    )
    loaded = torch.load(tmp_path / "again" / "pytorch_model.bin", weights_only=True)
    assert_same({name: tensor.numpy() for name, tensor in loaded.items()}, state)
