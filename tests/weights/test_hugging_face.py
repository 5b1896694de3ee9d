import dataclasses
import json
import sys

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from hyperdecoders_jax import model
from hyperdecoders_jax.modeling.config import AdapterConfig
from hyperdecoders_jax.weights import (
    arrays,
    exported_folder,
    hugging_face,
    names,
    safetensors_files,
)
from tests import tiny
from tests.weights import test_adapter_folder

GEOMETRIES = {
    "v1.0": dict(mlp_activations=("relu",), logits_via_embedding=True),
    "v1.1": dict(),
    "ByT5": dict(num_encoder_layers=4),
    "UL2": dict(mlp_activations=("silu", "linear")),
}
# As published, without what transformers alone reads.
T5_BASE = dict(
    d_ff=3072,
    d_kv=64,
    d_model=768,
    dropout_rate=0.1,
    layer_norm_epsilon=1e-06,
    model_type="t5",
    n_positions=512,
    num_heads=12,
    num_layers=12,
    relative_attention_num_buckets=32,
    vocab_size=32128,
)
BYT5_SMALL = dict(
    T5_BASE,
    d_ff=3584,
    d_model=1472,
    feed_forward_proj="gated-gelu",
    num_decoder_layers=4,
    num_heads=6,
    tie_word_embeddings=False,
    vocab_size=384,
)


def make(geometry="v1.1", dtype=np.float32):
    config = tiny.make_config(
        encoder_adapter=AdapterConfig(),
        decoder_adapter=AdapterConfig(),
        num_tasks=None,
        **GEOMETRIES[geometry],
    )
    params = tiny.make_params(model.Model(config))
    flat = {path: np.asarray(x).astype(dtype) for path, x in names.flatten(params).items()}
    return config, flat


def write(folder, geometry="v1.1", max_shard_bytes=5 << 30, **extra):
    """A folder with such a model, and its configuration and parameters."""
    config, flat = make(geometry)
    theirs = hugging_face.from_ours(arrays.in_memory(flat), config)
    theirs |= arrays.in_memory(extra)
    hugging_face.write(folder, config, theirs, max_shard_bytes)
    return config, flat


def edit_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def assert_read(accounted, flat):
    found = {path: array.read() for path, array in accounted.arrays.items()}
    assert {path: x.dtype for path, x in found.items()} == {p: x.dtype for p, x in flat.items()}
    jax.tree.map(np.testing.assert_array_equal, found, flat)
    for path, array in accounted.arrays.items():
        assert array.shape == flat[path].shape


@pytest.mark.parametrize("max_shard_bytes", [5 << 30, 900])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_folder_gives_back_the_model(tmp_path, geometry, max_shard_bytes):
    config, flat = write(tmp_path, geometry, max_shard_bytes)
    assert len(list(tmp_path.glob("*.safetensors"))) > 3 or max_shard_bytes > 900
    found_config, found = hugging_face.open(str(tmp_path))
    assert found_config == config
    accounted = hugging_face.to_ours(found, config)
    assert not accounted.left
    assert_read(accounted, flat)


def test_bfloat16_stays_bfloat16(tmp_path):
    config, flat = make(dtype=ml_dtypes.bfloat16)
    theirs = hugging_face.from_ours(arrays.in_memory(flat), config)
    hugging_face.write(tmp_path, config, theirs)
    assert_read(hugging_face.to_ours(hugging_face.open(tmp_path)[1], config), flat)


def test_adapters_of_a_configuration_are_no_part_of_the_t5(tmp_path):
    config, flat = write(tmp_path)
    adapted = dataclasses.replace(config, decoder_adapter=AdapterConfig("manual", 3))
    assert_read(hugging_face.to_ours(hugging_face.open(tmp_path)[1], adapted), flat)


def test_published_configurations_are_those_of_the_gin_files():
    config = hugging_face.config_from_json(T5_BASE)
    assert (config.num_decoder_layers, config.mlp_activations) == (12, ("relu",))
    assert config.logits_via_embedding
    config = hugging_face.config_from_json(BYT5_SMALL)
    assert (config.num_encoder_layers, config.num_decoder_layers) == (12, 4)
    assert (config.mlp_activations, config.head_dim) == (("gelu", "linear"), 64)
    assert not config.logits_via_embedding


def test_mt5_is_gated_and_untied_unless_it_says_otherwise():
    config = hugging_face.config_from_json(T5_BASE | dict(model_type="mt5"))
    assert (config.mlp_activations, config.logits_via_embedding) == (("gelu", "linear"), False)
    assert hugging_face.config_from_json(
        T5_BASE | dict(model_type="mt5", tie_word_embeddings=True)
    ).logits_via_embedding


def test_transformers_5_says_by_another_field_that_a_t5_is_untied():
    saved = BYT5_SMALL | dict(tie_word_embeddings=True, scale_decoder_outputs=False)
    assert not hugging_face.config_from_json(saved).logits_via_embedding


KERNEL = "decoder/logits_dense/kernel"
EMBEDDING = "token_embedder/embedding"


def write_as_5(folder, fields, has_head, version="5.24.0"):
    """A folder as transformers 5 writes it: `tie_word_embeddings` is always true."""
    config, flat = make("v1.1")
    theirs = hugging_face.from_ours(arrays.in_memory(flat), config)
    if not has_head:
        del theirs["lm_head.weight"]
    hugging_face.write(folder, config, theirs)
    made = {"tie_word_embeddings": True, "transformers_version": version}
    written = {**json.loads((folder / "config.json").read_text()), **made}
    del written["scale_decoder_outputs"]
    (folder / "config.json").write_text(json.dumps(written | fields))
    return flat


@pytest.mark.parametrize("fields", [{"model_type": "mt5"}, {"scale_decoder_outputs": False}])
@pytest.mark.parametrize("has_head", [True, False], ids=["untied", "tied"])
def test_what_5_does_not_scale_has_a_head_its_own_or_a_copy(tmp_path, fields, has_head):
    flat = write_as_5(tmp_path, fields, has_head)
    expected = flat if has_head else flat | {KERNEL: flat[EMBEDDING].T}
    config, found = hugging_face.open(tmp_path)
    assert config == hugging_face.open_config(tmp_path)
    assert not config.logits_via_embedding
    assert_read(hugging_face.to_ours(found, config), expected)


def test_a_head_that_5_scales_is_scaled(tmp_path, caplog):
    # So 5.0 saves every T5 v1.1.
    flat = write_as_5(tmp_path, {"scale_decoder_outputs": True}, True, version="5.0.0")
    with caplog.at_level("WARNING", logger="absl"):
        config, found = hugging_face.open(tmp_path)
    assert "set scale_decoder_outputs to false in config.json" in caplog.text
    assert config == hugging_face.open_config(tmp_path)
    scaled = flat[KERNEL] * np.float32(config.emb_dim**-0.5)
    assert_read(hugging_face.to_ours(found, config), flat | {KERNEL: scaled})


@pytest.mark.parametrize("copies", [[], ["lm_head.weight", "encoder.embed_tokens.weight"]])
def test_a_t5_that_5_ties_and_scales_is_one_of_v1_0(tmp_path, copies):
    config, flat = make("v1.0")
    table = flat[EMBEDDING]
    write(tmp_path, "v1.0", **dict.fromkeys(copies, table))
    edit_config(tmp_path, transformers_version="5.24.0")
    assert hugging_face.open_config(tmp_path) == config
    assert_read(hugging_face.to_ours(hugging_face.open(tmp_path)[1], config), flat)


@pytest.mark.parametrize(
    ("version", "fields", "is_scaled"),
    [
        # Release 4 knows no other field; a tied mT5 it scales, and 5 does not.
        ("4.57.6", dict(tie_word_embeddings=True, scale_decoder_outputs=False), True),
        ("4.57.6", dict(tie_word_embeddings=True, model_type="mt5"), True),
        ("5.0.0", dict(tie_word_embeddings=True, model_type="mt5"), False),
        ("6.0.0.dev0", dict(tie_word_embeddings=True, scale_decoder_outputs=False), False),
        ("5.24.0", dict(tie_word_embeddings=False), False),
        ("5.24.0", {}, True),
        (None, dict(tie_word_embeddings=True, scale_decoder_outputs=False), False),
        (["5"], dict(tie_word_embeddings=False), False),
    ],
)
def test_the_release_that_wrote_a_folder_says_whether_logits_are_scaled(version, fields, is_scaled):
    config = hugging_face.config_from_json(T5_BASE | fields | {"transformers_version": version})
    assert config.logits_via_embedding == is_scaled


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_configurations_round_trip(geometry):
    config, _ = make(geometry)
    assert hugging_face.config_from_json(hugging_face.config_to_json(config)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(model_type="umt5"), r"got 'umt5'\. umT5 has a table .* in every layer"),
        (dict(model_type=["t5"]), r"model_type .* got \['t5'\]\. Choose"),
        (dict(dropout_rate=None), r"dropout_rate .* must be a number; got None\. T5's"),
        (dict(model_type="bart"), r"model_type .* among \('t5', 'mt5'\); got 'bart'\. Choose"),
        (dict(feed_forward_proj="gelu"), r"feed_forward_proj .* got 'gelu', which .* Choose"),
        (dict(layer_norm_epsilon=1e-5), r"layer_norm_epsilon .* got 1e-05, .* Choose"),
        (dict(eos_token_id=2), r"eos_token_id .* got 2, which .* Choose"),
        (dict(quantization_config={"bits": 8}), r"quantization_config .*'bits': 8.* Choose"),
    ],
)
def test_what_this_t5_does_not_compute_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        hugging_face.config_from_json(T5_BASE | fields)


def test_a_configuration_without_sizes_is_refused():
    with pytest.raises(ValueError, match=r"it lacks d_ff, vocab_size\. Copy or download"):
        hugging_face.config_from_json(
            {k: v for k, v in T5_BASE.items() if k not in ("d_ff", "vocab_size")}
        )


def test_a_model_that_hugging_face_has_not_is_refused():
    config = tiny.make_config("none", "none", mlp_activations=("silu",))
    with pytest.raises(ValueError, match=r"mlp_activations .* got \('silu',\)\. Keep this"):
        hugging_face.config_to_json(config)


@pytest.mark.parametrize(
    ("geometry", "held"),
    [
        ("v1.0", ["encoder.embed_tokens.weight", "lm_head.weight"]),
        ("v1.1", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]),
    ],
)
def test_copies_of_the_embedding_are_left(tmp_path, geometry, held):
    _, flat = make(geometry)
    table = flat["token_embedder/embedding"]
    config, _ = write(tmp_path, geometry, **dict.fromkeys(held, table))
    accounted = hugging_face.to_ours(hugging_face.open(tmp_path)[1], config)
    assert accounted.left == dict.fromkeys(held, "a copy of shared.weight")
    assert_read(accounted, flat)


def test_a_copy_stands_for_an_embedding_that_is_not_there():
    config, flat = make()
    theirs = hugging_face.from_ours(arrays.in_memory(flat), config)
    theirs["decoder.embed_tokens.weight"] = theirs.pop("shared.weight")
    accounted = hugging_face.to_ours(theirs, config)
    assert not accounted.left
    assert_read(accounted, flat)


def test_the_table_that_t5_never_reads_is_left():
    config, flat = make("v1.0")
    theirs = hugging_face.from_ours(arrays.in_memory(flat), config)
    name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    theirs |= arrays.in_memory({name: np.zeros((32, 2), np.float32)})
    accounted = hugging_face.to_ours(theirs, config)
    assert accounted.left == {name: "T5 never reads it"}
    assert_read(accounted, flat)


@pytest.mark.parametrize(
    ("name", "geometry", "message"),
    [
        ("lm_head.weight", "v1.0", "Set LOGITS_VIA_EMBEDDING = False"),
        ("encoder.embed_tokens.weight", "v1.1", "another architecture: choose"),
        ("decoder.embed_tokens.weight", "v1.0", "another architecture: choose"),
    ],
)
def test_a_copy_that_differs_is_refused(name, geometry, message):
    config, flat = make(geometry)
    theirs = hugging_face.from_ours(arrays.in_memory(flat), config)
    other = flat["token_embedder/embedding"].copy()
    other[3, 2] += 1
    theirs |= arrays.in_memory({name: other})
    with pytest.raises(ValueError, match=f"{name} must be a copy of shared.weight.*{message}"):
        hugging_face.to_ours(theirs, config)


def test_weights_of_another_model_are_refused():
    config, flat = make()
    theirs = hugging_face.from_ours(arrays.in_memory(flat), config)
    deeper = dataclasses.replace(config, num_decoder_layers=4)
    with pytest.raises(
        ValueError, match=r"missing: decoder\.block\.3.*and \d+ more; unexpected: none; .*Compare"
    ):
        hugging_face.to_ours(theirs, deeper)
    wider = dataclasses.replace(config, mlp_dim=15)
    with pytest.raises(
        ValueError, match=r"wi_0/kernel is \(8, 14\) there and \(8, 15\) in .*Compare"
    ):
        hugging_face.to_ours(theirs, wider)
    flat_kernel = arrays.in_memory({"lm_head.weight": np.zeros(9, np.float32)})
    with pytest.raises(ValueError, match=r"logits_dense/kernel is \(9,\) there .*Compare"):
        hugging_face.to_ours(theirs | flat_kernel, config)
    more = theirs | arrays.in_memory({"encoder.mlp.0.weight": np.zeros((8, 8), np.float32)})
    with pytest.raises(ValueError, match=r"missing: none; unexpected: encoder\.mlp\.0\.weight"):
        hugging_face.to_ours(more, config)


def test_our_paths_in_hugging_faces_files_are_unexpected():
    config, flat = make()
    with pytest.raises(
        ValueError, match=r"missing: decoder\.block\.0.*; unexpected: decoder/decoder_norm/scale, "
    ):
        hugging_face.to_ours(arrays.in_memory(flat), config)
    theirs = hugging_face.from_ours(arrays.in_memory(flat), config)
    more = arrays.in_memory({"token_embedder/embedding": flat["token_embedder/embedding"]})
    with pytest.raises(ValueError, match=r"missing: none; unexpected: token_embedder/embedding; "):
        hugging_face.to_ours(theirs | more, config)


def test_another_number_of_vocabulary_rows_is_refused(tmp_path):
    write(tmp_path)
    edit_config(tmp_path, vocab_size=32)
    config, theirs = hugging_face.open(tmp_path)
    with pytest.raises(
        ValueError, match=r"embedding is \(31, 8\) there and \(32, 8\) in .*vocab_size=N"
    ):
        hugging_face.to_ours(theirs, config)


def test_what_adapts_a_t5_has_no_place_in_hugging_faces():
    config, flat = make()
    more = flat | {"decoder_adapters/feed_forward/up_bias": np.zeros((3, 8), np.float32)}
    with pytest.raises(
        ValueError, match=r"unexpected: decoder_adapters/.*with hyperdecoders export"
    ):
        hugging_face.from_ours(arrays.in_memory(more), config)
    del flat["decoder/logits_dense/kernel"]
    with pytest.raises(ValueError, match=r"missing: decoder/logits_dense/kernel; unexp"):
        hugging_face.from_ours(arrays.in_memory(flat), config)


def test_a_folder_must_have_a_configuration_that_is_json(tmp_path):
    write(tmp_path)
    (tmp_path / "config.json").write_text("[3]")
    with pytest.raises(ValueError, match=r"must be a JSON object of fields; got list\. Copy"):
        hugging_face.open(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json must be JSON: .*Copy or download"):
        hugging_face.open(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold config\.json.* has none\. Download"):
        hugging_face.open(tmp_path)


def test_missing_weights_and_shards_are_named(tmp_path):
    write(tmp_path, max_shard_bytes=900)
    min(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(FileNotFoundError, match=r"missing: model-00001-of-.*again"):
        hugging_face.open(tmp_path)
    for file in tmp_path.glob("*.safetensors*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"holds config\.json\. Save the model"):
        hugging_face.open(tmp_path)


def test_a_damaged_file_is_refused(tmp_path):
    write(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"model\.safetensors is not: .*again"):
        hugging_face.open(tmp_path)


def test_flaxs_names_and_layouts_are_read(tmp_path):
    config, flat = write(tmp_path)
    theirs = safetensors_files.open(tmp_path)
    flax = {}
    for name, array in theirs.items():
        owner = name.removesuffix(".weight")
        if owner == "shared" or "bias" in owner:
            flax[f"{owner}.embedding"] = array.read()
        elif "norm" in owner:
            flax[name] = array.read()
        else:
            flax[f"{owner}.kernel"] = np.ascontiguousarray(array.read().T)
    safetensors_numpy.save_file(flax, tmp_path / "model.safetensors", {"format": "flax"})
    assert_read(hugging_face.to_ours(hugging_face.open(tmp_path)[1], config), flat)


def write_flax(folder, geometry="v1.1", max_shard_bytes=5 << 30):
    """A folder with such a model in Flax's files, and its configuration and parameters."""
    config, flat = make(geometry)
    description = test_adapter_folder.describe(model=config, backbone=None)
    folder.mkdir(parents=True, exist_ok=True)
    exported_folder.write_weights(
        folder, description, arrays.in_memory(flat), max_shard_bytes=max_shard_bytes
    )
    return config, flat


@pytest.mark.parametrize("max_shard_bytes", [5 << 30, 900])
@pytest.mark.parametrize("geometry", ["v1.0", "v1.1"])
def test_flaxs_own_files_are_read(tmp_path, geometry, max_shard_bytes):
    config, flat = write_flax(tmp_path, geometry, max_shard_bytes)
    assert len(list(tmp_path.glob("*.msgpack"))) > 3 or max_shard_bytes > 900
    found_config, found = hugging_face.open(tmp_path)
    assert found_config == config
    assert_read(hugging_face.to_ours(found, config), flat)


def test_safetensors_come_before_flaxs_files(tmp_path):
    write_flax(tmp_path)
    (tmp_path / "flax_model.msgpack").write_bytes(b"damaged")
    config, flat = write(tmp_path)
    assert_read(hugging_face.to_ours(hugging_face.open(tmp_path)[1], config), flat)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The folder of google/tiny in Hugging Face's cache, on a machine without network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--google--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    return repository / "snapshots" / ("0" * 40)


def test_a_hub_id_opens_as_its_folder_does(hub):
    config, flat = write(hub)
    found_config, found = hugging_face.open("google/tiny")
    assert found_config == config
    assert_read(hugging_face.to_ours(found, config), flat)


def test_so_does_one_that_has_flaxs_files_alone(hub):
    config, flat = write_flax(hub)
    found_config, found = hugging_face.open("google/tiny")
    assert found_config == config
    assert_read(hugging_face.to_ours(found, config), flat)


def test_a_model_that_cannot_be_downloaded_is_named(hub):
    with pytest.raises(FileNotFoundError, match=r"google/absent.* could be downloaded: .*by hand"):
        hugging_face.open("google/absent")


def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(tmp_path, monkeypatch):
    for name in (str(tmp_path / "absent"), "a-name", "./absent", "a/path/of-three"):
        with pytest.raises(FileNotFoundError, match=r"a folder, or a hub id such as .* Correct"):
            hugging_face.open(name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        ImportError, match=r"no folder google/t5.*pip install huggingface_hub\), or"
    ):
        hugging_face.open("google/t5-v1_1-base")
