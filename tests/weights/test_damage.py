"""A damaged file of weights is refused, or gives the bits that were written: never others."""

import json
import logging
import pathlib

import numpy as np
import pytest

from hyperdecoders_jax import errors
from hyperdecoders_jax.weights import adapter_folder, exported_folder, fingerprints, formats
from tests.weights import test_adapter_folder, test_conversion

# Not of weights.
OTHERS = ("config.json", "spiece.model")
NUM_FLIPS = 30
KINDS = (
    *("adapters", "flax", "exported safetensors", "shards"),
    *("hugging_face", "safetensors", "t5x", "t5x_orbax"),
    pytest.param("original", marks=pytest.mark.torch),
)


def write(kind, folder):
    """Writes a tiny model; returns its path and what it holds."""
    if kind == "original":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    is_adapted = kind in ("adapters", "flax", "exported safetensors", "shards", "original")
    weights = test_conversion.make(*(("manual", "generated") if is_adapted else ()))
    description = test_adapter_folder.describe(model=weights.config, backbone=None)
    if kind == "adapters":
        adapter_folder.write(folder, description, weights.arrays)
        return folder, weights
    if kind in formats.FORMATS:
        return pathlib.Path(test_conversion.write(weights, kind, folder)), weights
    name = ["flax"] if kind == "flax" else ["safetensors"]
    size = 9000 if kind == "shards" else 10**9
    exported_folder.write_weights(folder, description, weights.arrays, name, max_shard_bytes=size)
    (folder / "spiece.model").write_bytes(description.vocabulary.model)
    return folder, weights


def files_of(path):
    found = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in found if file.is_file() and file.name not in OTHERS]


def bits_of(path):
    found = formats.read(str(path)).arrays
    return {name: array.read().tobytes() for name, array in found.items()}


def bits_or_error(path):
    try:
        return bits_of(path)
    except (ValueError, OSError) as error:
        return error


@pytest.fixture(autouse=True)
def _any_vocabulary(monkeypatch):
    # That of these folders is no SentencePiece model.
    monkeypatch.setattr(formats.text_files, "read_tokenizer", lambda folder, config: {})


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_never_gives_other_weights(tmp_path, kind):
    path, _ = write(kind, tmp_path)
    expected = bits_of(path)
    files = files_of(path)
    ends = np.cumsum([file.stat().st_size for file in files])
    refused = 0
    for position in np.linspace(0, ends[-1] - 1, NUM_FLIPS, dtype=int):
        index = int(np.searchsorted(ends, position, side="right"))
        file, offset = files[index], int(position - ends[index])  # From the end.
        content = file.read_bytes()
        changed = bytearray(content)
        changed[offset] ^= 0x41
        file.write_bytes(changed)
        found = bits_or_error(path)
        file.write_bytes(content)
        refused += found != expected
        if isinstance(found, Exception):
            assert errors.is_own(found), (file.name, offset, repr(found))
        else:
            assert found == expected, (file.name, offset)
    assert refused


@pytest.mark.parametrize("kind", ["adapters", "flax", "exported safetensors", "hugging_face"])
def test_weights_of_another_model_of_the_same_shape_are_refused(tmp_path, kind):
    path, weights = write(kind, tmp_path)
    (tmp_path / "other").mkdir()
    doubled = {name: array.then(lambda x: 2 * x) for name, array in weights.arrays.items()}
    description = test_adapter_folder.describe(model=weights.config, backbone=None)
    if kind == "adapters":
        adapter_folder.write(tmp_path / "other", description, doubled)
    else:
        name = "flax" if kind == "flax" else "safetensors"
        exported_folder.write_weights(tmp_path / "other", description, doubled, [name])
    (file,) = files_of(tmp_path / "other")
    file.rename(path / file.name)
    (tmp_path / "other" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"must be those that were written there, .* Copy the fo"):
        formats.read(str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_folders_without_a_fingerprint_open(tmp_path, kind):
    """As all that were written before there was one."""
    path, weights = write(kind, tmp_path)
    if kind == "safetensors":
        path = path / "model.safetensors"
        metadata = formats.safetensors_files.metadata(path)
        del metadata[fingerprints.FIELD]
        formats.safetensors_files.write_file(path, weights.arrays, metadata)
    elif kind.startswith("t5x"):
        next(path.rglob("fingerprint.json")).unlink()
    else:
        file = path / "config.json"
        fields = json.loads(file.read_text())
        del fields[fingerprints.FIELD]
        file.write_text(json.dumps(fields))
    assert set(bits_of(path)) == set(weights.arrays)


def test_what_transformers_saved_again_has_no_fingerprint_of_ours(tmp_path):
    """`save_pretrained` keeps fields that it doesn't know, beside weights that were trained on."""
    path, weights = write("hugging_face", tmp_path)
    test_adapter_folder.edit(path, transformers_version="4.57.6", weights_fingerprint="of before")
    assert set(bits_of(path)) == set(weights.arrays)


@pytest.mark.parametrize("kind", ["safetensors", "flax"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_told_once_where_it_is_read(tmp_path, caplog, kind, value):
    weights = test_conversion.make()
    name = "decoder/layers_0/mlp/wo/kernel"

    def spoil(array):
        array = array.copy()
        array[1, 2:4] = value
        return array

    spoilt = {**weights.arrays, name: weights.arrays[name].then(spoil)}
    path = tmp_path / "weights"
    if kind == "safetensors":
        formats.FORMATS[kind].write(path, weights.replace(arrays=spoilt))
    else:
        path.mkdir()
        description = test_adapter_folder.describe(model=weights.config, backbone=None)
        exported_folder.write_weights(path, description, spoilt, [kind])
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = formats.read(str(path))
        assert not caplog.records
        for array in (*found.arrays.values(), *found.arrays.values()):
            array.read()
    (record,) = caplog.records
    assert f"{name} of {path} has 2 of " in record.getMessage()
