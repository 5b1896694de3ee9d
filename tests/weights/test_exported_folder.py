"""Exported folders give back what they were made of; what is damaged, or another's, is refused."""

import dataclasses
import functools
import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest

from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, T5XScoring
from hyperdecoders_jax.hub import tokenizer_files
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.weights import (
    arrays,
    exported_folder,
    fingerprints,
    flax_files,
    formats,
    hugging_face,
    names,
    safetensors_files,
    trained_model,
)
from tests import tiny
from tests.data import test_tokenizer_json
from tests.weights import test_adapter_folder, test_conversion

MODELS = {
    "manual, generated": dict(),
    "of tasks": dict(encoder="manual_specific", decoder="task", num_trained_tasks=3),
    "of a T5 v1.0": dict(decoder="none", mlp_activations=("relu",), logits_via_embedding=True),
    "HyperFormer, LoRA": dict(
        encoder="task",
        network=modeling_config.HyperFormerConfig(7, 9, 11),
        encoder_sites=("after_self_attention", "after_feed_forward"),
        decoder_sites=("self_attention_query", "cross_attention_out"),
    ),
    "a network a layer, gates": dict(
        encoder="none",
        network=modeling_config.PerLayerHypernetworkConfig(11),
        **test_conversion.GRIDS,
    ),
}
BYTES = trained_model.Vocabulary(tokenizer.BYTES_MODEL, 125)


@functools.cache
def make_params(name):
    config = tiny.make_config(**MODELS[name])
    params = names.flatten(tiny.make_params(Model(config)))
    return config, {path: np.asarray(x) for path, x in params.items()}


def make(name="manual, generated", dtype=np.float32, **fields):
    """A description of such a model, and its parameters."""
    config, params = make_params(name)
    description = test_adapter_folder.describe(model=config, backbone=None, **fields)
    return description, {path: x.astype(dtype) for path, x in params.items()}


def write(folder, description, flat, formats=("flax",), **kw):
    exported_folder.write_weights(folder, description, arrays.in_memory(flat), formats, **kw)
    if description.vocabulary != BYTES:
        (folder / "spiece.model").write_bytes(description.vocabulary.model)


def assert_read(folder, description, flat):
    assert exported_folder.is_hyperdecoder(folder)
    found = exported_folder.read(folder)
    assert found.description == description
    assert set(found.arrays) == set(flat)
    for path, array in found.arrays.items():
        assert (array.shape, array.dtype) == (flat[path].shape, flat[path].dtype)
        np.testing.assert_array_equal(array.read(), flat[path])


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_comes_back(tmp_path, name):
    description, flat = make(name, decoding=BeamSearchConfig(2, scoring=T5XScoring(0.3)))
    write(tmp_path, description, flat)
    assert_read(tmp_path, description, flat)


def test_bfloat16_in_shards_comes_back_and_bytes_need_no_file(tmp_path):
    description, flat = make(dtype=ml_dtypes.bfloat16, vocabulary=BYTES)
    write(tmp_path, description, flat, ["safetensors"], max_shard_bytes=900)
    assert len(list(tmp_path.glob("*.safetensors"))) > 10
    assert_read(tmp_path, description, flat)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of the model of tasks, which nobody changes."""
    folder = tmp_path_factory.mktemp("written")
    write(folder, *make("of tasks"), ["flax", "safetensors"])
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """The same with Flax's files alone, which may be changed."""
    ignored = shutil.ignore_patterns("*.safetensors")
    return shutil.copytree(written, tmp_path, ignore=ignored, dirs_exist_ok=True)


def test_safetensors_come_before_flaxs_files(written, folder):
    description, flat = make("of tasks")
    negative = {path: -x for path, x in flat.items()}
    write(folder, description, negative)
    assert_read(folder, description, negative)
    shutil.copy(written / "model.safetensors", folder)
    with pytest.raises(ValueError, match=r"must be those that were written there, of fingerprint"):
        exported_folder.read(folder)
    shutil.copy(written / "config.json", folder)
    assert_read(folder, description, flat)


def test_flaxs_names_in_safetensors_are_read(folder):
    """As `save_pretrained` of a Flax model writes with `safe_serialization`."""
    stored = {name.replace("/", "."): x for name, x in flax_files.open(folder).items()}
    safetensors_files.write_sharded(folder, stored, metadata={"format": "flax"})
    (folder / "flax_model.msgpack").unlink()
    assert_read(folder, *make("of tasks"))


def test_config_json_has_every_field_once(folder):
    fields = json.loads((folder / "config.json").read_text())
    assert (fields["model_type"], fields["format_version"]) == ("hyperdecoder", 1)
    assert fields["architectures"] == ["HyperdecoderForConditionalGeneration"]
    assert (fields["d_model"], fields["num_decoder_layers"]) == (8, 3)
    assert not {"emb_dim", "num_encoder_layers", "mlp_activations"} & set(fields)
    assert fields["decoder_adapter"]["source"] == "task"
    assert fields["encoder_hypergrid"] is None
    assert (fields["num_tasks"], fields["num_trained_tasks"]) == (4, 3)
    assert fields["task_names"] == ["cola", "sst2"]
    assert fields["task_feature_lengths"] == {"inputs": 7, "targets": 5}
    assert fields["decoding"] == {"type": "GreedyConfig", "min_len": 2}
    assert fields["vocabulary"]["num_sentinels"] == 3
    assert fields["step"] == 11
    assert fields["made_by"].startswith("hyperdecoders_jax ")


@pytest.mark.parametrize("geometry", test_conversion.GEOMETRIES)
def test_a_t5_that_nothing_adapts_is_a_plain_one(tmp_path, geometry):
    weights = test_conversion.make(**test_conversion.GEOMETRIES[geometry])
    description = test_adapter_folder.describe(model=weights.config, backbone=None)
    exported_folder.write_weights(
        tmp_path, description, weights.arrays, ["flax", "safetensors"], max_shard_bytes=2000
    )
    assert not exported_folder.is_hyperdecoder(tmp_path)
    theirs = tmp_path / "theirs"
    t5 = hugging_face.from_ours(weights.arrays, weights.config)
    hugging_face.write(theirs, weights.config, t5, max_shard_bytes=2000)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written.pop(fingerprints.FIELD) == fingerprints.fingerprint(weights.arrays)
    assert written == json.loads((theirs / "config.json").read_text())
    for file in theirs.iterdir():
        if file.name != "config.json":
            assert (tmp_path / file.name).read_bytes() == file.read_bytes()
        if file.suffix == ".safetensors" or "index" in file.name:
            (tmp_path / file.name).unlink()
    # Flax's are left.
    found = formats.read(str(tmp_path))
    assert found.config.logits_via_embedding == weights.config.logits_via_embedding
    assert set(found.arrays) == set(weights.arrays)
    for path, array in found.arrays.items():
        np.testing.assert_array_equal(array.read(), weights.arrays[path].read())


@pytest.mark.parametrize("name", ["a network a layer, gates", "of a T5 v1.0"])
def test_trees_are_renamed_under_jit_too(name):
    description, flat = make(name)
    params = names.unflatten(flat)
    config = description.model
    tree = jax.jit(lambda params: exported_folder.to_flax_tree(params, config))(params)
    q = tree["decoder"]["block"]["2"]["layer"]["1"]["EncDecAttention"]["q"]["kernel"]
    np.testing.assert_array_equal(
        q, flat["decoder/layers_2/encoder_decoder_attention/query/kernel"]
    )
    positions = tree["encoder"]["block"]["0"]["layer"]["0"]["SelfAttention"]
    assert positions["relative_attention_bias"]["embedding"].shape == (32, 2)
    back = jax.jit(lambda tree: exported_folder.from_flax_tree(tree, config))(tree)
    jax.tree.map(np.testing.assert_array_equal, back, params)


# What is refused.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "t5"}, r"must be 'hyperdecoder'; .*config\.json says 't5'\. Name a folder"),
        ({"format_version": 2}, r"be of version 1; .*config\.json is of 2, made by hyper.*Update"),
        ({"decoder_adapter": {"sourse": "task"}}, r"fields of a AdapterConfig .*'sourse'.*correct"),
        ({"d_ff": 15}, r"wi_0/kernel is \(8, 14\) there and \(8, 15\) in the model.*Compare the"),
        ({"num_layers": 3}, r"must hold exactly .*missing: encoder\.block\.2\..*Compare the"),
        ({"encoder_hypergrid": {"rows": 2, "cols": 2}}, r"weights in .* must hold exactly the "
         r"parameters .*missing: encoder_hypergrid/.*\. Copy the folder again, or undo what"),
        ({"num_tasks": 5}, r"shape: decoder_adapters/task_embedding is \(4, .*and \(5, .*\. Copy"),
        ({"num_tasks": 1}, r"must be at least the 2 of task_names; got 1\. Copy it from"),
        ({"task_names": None}, r"task_names in .*json must be a list of texts; got None\. Copy"),
        ({"task_feature_lengths": None}, r"must say what an exported model is; .*NoneType.*again"),
        ({"task_feature_lengths": {"inputs": 3}}, r"does not: KeyError 'targets'\. Copy it from"),
        ({"decoding": {"type": "Greedy"}}, r"one of .*'GreedyConfig'.*got 'Greedy'\. Did you mean"),
        ({"vocabulary": {"num_sentinels": 3}}, r"does not: KeyError 'fingerprint'\. Copy it from"),
        ({"vocabulary": {"num_sentinels": "3", "fingerprint": "9"}}, r"sentinels in .* got '3'"),
        ({"step": None}, r"step in .*config\.json must be a number of steps; got None\. Copy it"),
        ({"vocabulary": {"num_sentinels": 4, "fingerprint": "98765"}},
         r"spiece\.model must be .* of fingerprint 98765; it has \w+\. Copy it from the export"),
        ({"feed_forward_proj": "gelu"}, r"feed_forward_proj in config\.json must be .* got 'gelu'"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_is_refused(folder, fields, message):
    test_adapter_folder.edit(folder, **fields)
    with pytest.raises(ValueError, match=message):
        exported_folder.read(folder)


def test_what_is_missing_is_named(tmp_path):
    assert not exported_folder.is_hyperdecoder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"must hold config\.json, .* has none\. Download"):
        exported_folder.read(tmp_path)
    write(tmp_path, *make(), max_shard_bytes=900)
    next(tmp_path.glob("flax_model-00003-*")).unlink()
    with pytest.raises(FileNotFoundError, match=r"missing: flax_model-00003-of-\d+\.msgpack\. Cop"):
        exported_folder.read(tmp_path)
    for file in tmp_path.glob("flax_model*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds config\.json, spiece\.model\. Save the mo"):
        exported_folder.read(tmp_path)
    (tmp_path / "spiece.model").unlink()
    with pytest.raises(ValueError, match=r"spiece\.model must be .*; it is missing\. Copy it from"):
        exported_folder.read(tmp_path)
    file = tmp_path / "config.json"
    fields = json.loads(file.read_text())
    del fields["step"]
    file.write_text(json.dumps(fields))
    with pytest.raises(
        ValueError, match=r"must say what an exported model is; .*KeyError 'step'\."
    ):
        exported_folder.read(tmp_path)
    file.write_text("{")
    assert not exported_folder.is_hyperdecoder(tmp_path)
    with pytest.raises(
        ValueError, match=r"config\.json must be JSON: .*\. Copy or download it aga"
    ):
        exported_folder.read(tmp_path)


def test_a_tokenizer_json_alone_does_where_it_is_the_same_vocabulary(tmp_path):
    made = trained_model.Vocabulary(test_tokenizer_json.make_model().SerializeToString(), 7)
    tokenizer_files.write(tmp_path, made, max_len=5)
    kept = tokenizer_files.with_own_sentinels(made)
    description, flat = make(vocabulary=kept)
    write(tmp_path, description, flat)
    (tmp_path / "spiece.model").unlink()
    found = exported_folder.read(tmp_path).description
    assert found.vocabulary.model != kept.model  # Rebuilt: what is kept of training is gone.
    assert found.vocabulary.fingerprint == kept.fingerprint
    other = trained_model.Vocabulary(kept.model, 1)
    write(tmp_path, dataclasses.replace(description, vocabulary=other), flat)
    (tmp_path / "spiece.model").unlink()
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text().replace('"num_sentinels": 1', '"num_sentinels": 0')
    )
    with pytest.raises(ValueError, match=r"spiece\.model must be .*; it has \w+\. Copy it from"):
        exported_folder.read(tmp_path)


def test_arrays_that_are_not_the_models_are_refused(tmp_path):
    description, flat = make()
    path = "decoder_adapters/hypernetwork/layer_embedding"
    cut = {**flat, path: flat[path][:, :3]}
    less = {p: x for p, x in flat.items() if p != path}
    for wrong, message in (
        (cut, rf"shape: {path} is \(.* Copy"),
        (less, rf"missing: {path};.* Copy"),
    ):
        with pytest.raises(ValueError, match=rf"The arrays of an export must hold .*{message}"):
            write(tmp_path, description, wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["flax_model.msgpack", "model.safetensors"])
def test_a_damaged_file_is_refused(written, folder, name):
    shutil.copy(written / name, folder)
    file = folder / name
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(
        ValueError, match=rf"must be complete .*{name} is not: .*\. Copy or download it"
    ):
        exported_folder.read(folder)


def test_no_file_is_of_another_format(tmp_path):
    with pytest.raises(ValueError, match=r"'safetensors'\), with commas; got 'safetensor'\. Did"):
        write(tmp_path, *make(), ["safetensor"])
    assert not list(tmp_path.iterdir())
