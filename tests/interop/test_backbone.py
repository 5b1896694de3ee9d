import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from hyperdecoders_jax import model
from hyperdecoders_jax.interop import backbone, names
from tests import tiny


def make(**kw):
    tiny_model = model.Model(tiny.make_config("manual", "generated", **kw))
    return tiny_model.config, jax.tree.map(np.asarray, tiny.make_params(tiny_model))


def save_hugging_face(folder, params, config, num_files=1, **extra):
    """A Hugging Face folder with these weights."""
    flat, theirs = names.flatten(params), names.hugging_face_names(config)
    arrays = {
        name: np.ascontiguousarray(names.transpose(path, flat[path]))
        for path, name in theirs.items()
    } | extra
    for i in range(num_files):
        part = {name: arrays[name] for name in sorted(arrays)[i::num_files]}
        safetensors_numpy.save_file(part, folder / f"model-{i}.safetensors")


def assert_backbones_equal(found, expected):
    assert set(found) == set(model.BACKBONE_KEYS)
    jax.tree.map(np.testing.assert_array_equal, found, {k: expected[k] for k in found})


@pytest.mark.parametrize("num_files", [1, 3])
def test_a_hugging_face_folder_loads(tmp_path, num_files):
    config, params = make()
    shared = params["token_embedder"]["embedding"]
    save_hugging_face(
        tmp_path, params, config, num_files, **{"encoder.embed_tokens.weight": shared}
    )
    assert_backbones_equal(backbone.load(tmp_path, config), params)


def test_a_tied_hugging_face_folder_loads_with_or_without_the_head(tmp_path):
    config, params = make(logits_via_embedding=True, mlp_activations=("relu",))
    shared = params["token_embedder"]["embedding"]
    save_hugging_face(tmp_path, params, config, **{"lm_head.weight": shared})
    assert_backbones_equal(backbone.load(tmp_path, config), params)


@pytest.mark.parametrize(
    ("name", "is_tied", "message"),
    [
        ("lm_head.weight", True, "Set LOGITS_VIA_EMBEDDING = False"),
        ("encoder.embed_tokens.weight", False, "another architecture: choose"),
        ("decoder.embed_tokens.weight", True, "another architecture: choose"),
    ],
)
def test_a_copy_that_differs_is_refused(tmp_path, name, is_tied, message):
    config, params = make(logits_via_embedding=is_tied)
    other = params["token_embedder"]["embedding"].copy()
    other[3, 2] += 1
    save_hugging_face(tmp_path, params, config, **{name: other})
    with pytest.raises(ValueError, match=f"{name} must be a copy of shared.weight.*{message}"):
        backbone.load(tmp_path, config)


def test_weights_that_are_no_floats_are_refused(tmp_path):
    config, params = make()
    integers = params["token_embedder"]["embedding"].astype(np.int64)
    save_hugging_face(tmp_path, params, config, **{"shared.weight": integers})
    with pytest.raises(ValueError, match=r"of type F32, .*; shared.weight in .* I64. Save the w"):
        backbone.load(tmp_path, config)


def test_saving_and_loading_keeps_every_bit_and_type(tmp_path):
    config, params = make()
    params = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), params)
    backbone.save(tmp_path / "tiny.safetensors", params, {"made_by": "a test"})
    found = backbone.load(tmp_path / "tiny.safetensors", config)
    assert_backbones_equal(found, params)
    assert found["token_embedder"]["embedding"].dtype == ml_dtypes.bfloat16


def test_weights_of_another_model_are_refused(tmp_path):
    config, params = make()
    save_hugging_face(tmp_path, params, config)
    deeper = tiny.make_config(num_decoder_layers=4)
    with pytest.raises(
        ValueError, match=r"missing: decoder\.block\.3.*and \d+ more; unexpected: none"
    ):
        backbone.load(tmp_path, deeper)
    wider = tiny.make_config(mlp_dim=15)
    with pytest.raises(ValueError, match=r"wi_0/kernel has shape \(8, 14\) there and \(8, 15\)"):
        backbone.load(tmp_path, wider)


def test_missing_empty_and_damaged_files_are_named(tmp_path):
    config, params = make()
    with pytest.raises(FileNotFoundError, match=r"nothing at .*absent.*INITIAL_CHECKPOINT_PATH"):
        backbone.load(tmp_path / "absent", config)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"holds pytorch_model\.bin\. Save the model"):
        backbone.load(tmp_path, config)
    with pytest.raises(ValueError, match=r"must be a \.safetensors file .*pytorch_model\.bin"):
        backbone.load(tmp_path / "pytorch_model.bin", config)
    backbone.save(tmp_path / "a.safetensors", params, {})
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(whole[:-9])
    with pytest.raises(ValueError, match=r"a\.safetensors is not: .*again"):
        backbone.load(tmp_path, config)
