"""transformers' classes of an exported folder tell damaged weights, and those without numbers."""

import json
import logging
import shutil

import numpy as np
import pytest
import safetensors.numpy

from hyperdecoders_jax import interop
from hyperdecoders_jax.weights import exported_folder, fingerprints
from tests.weights import test_adapter_folder, test_conversion

FILES = {"flax": "flax_model.msgpack", "torch": "model.safetensors"}
KINDS = ["flax", pytest.param("torch", marks=pytest.mark.torch)]
DAMAGED = r"must be those that were written there, of fingerprint .*damaged.* Copy the folder again"


def export(folder, formats, **kw):
    weights = test_conversion.make("manual", "generated")
    description = test_adapter_folder.describe(model=weights.config, backbone=None)
    exported_folder.write_weights(folder, description, weights.arrays, formats, **kw)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with a model in both formats, in one file each."""
    folder = tmp_path_factory.mktemp("both")
    export(folder, ("flax", "safetensors"))
    return folder


@pytest.fixture(params=KINDS)
def kind(request):
    if request.param == "torch":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    return request.param


@pytest.fixture
def folder(exported, kind, tmp_path):
    """A copy with one kind of weights."""
    shutil.copytree(
        exported, tmp_path / "model", ignore=lambda *_: set(FILES.values()) - {FILES[kind]}
    )
    return tmp_path / "model"


def load(name, kind, **kw):
    prefix = "Flax" if kind == "flax" else ""
    return getattr(interop, f"{prefix}HyperdecoderForConditionalGeneration").from_pretrained(
        name, **kw
    )


def flip(file):
    """Flips a byte amid an array's values."""
    content = bytearray(file.read_bytes())
    content[-len(content) // 3] ^= 0x41
    file.write_bytes(content)


def edit(folder, **fields):
    file = folder / "config.json"
    held = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({name: x for name, x in held.items() if x is not None}))


def test_a_flipped_byte_is_refused(folder, kind):
    load(folder, kind)
    flip(folder / FILES[kind])
    with pytest.raises(ValueError, match=DAMAGED):
        load(folder, kind)
    with pytest.raises(ValueError, match=DAMAGED):
        load(folder.parent, kind, subfolder=folder.name)


def test_so_it_is_in_a_shard(tmp_path, kind):
    formats = ("flax" if kind == "flax" else "safetensors",)
    export(tmp_path, formats, max_shard_bytes=9000)
    load(tmp_path, kind)
    file = sorted(tmp_path.glob(FILES[kind].replace("model", "model-*")))[-1]
    assert "of-0000" in file.name
    flip(file)
    with pytest.raises(ValueError, match=DAMAGED):
        load(tmp_path, kind)


@pytest.mark.parametrize("change", [{fingerprints.FIELD: None}, {"transformers_version": "4.57.6"}])
def test_without_a_fingerprint_of_ours_a_folder_loads(folder, kind, change):
    edit(folder, **change)
    flip(folder / FILES[kind])
    load(folder, kind)


def test_weights_that_were_trained_on_are_saved_without_the_fingerprint(folder, kind, tmp_path):
    model = load(folder, kind)
    if kind == "flax":
        model.params = {
            **model.params,
            "shared": {"embedding": model.params["shared"]["embedding"] * 2},
        }
    else:
        model.shared.weight.data *= 2
    model.save_pretrained(tmp_path / "again")
    assert fingerprints.FIELD not in json.loads((tmp_path / "again" / "config.json").read_text())
    load(tmp_path / "again", kind)
    # Over the folder itself, too.
    model.save_pretrained(folder)
    load(folder, kind)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["torch"], indirect=True)
def test_a_model_of_the_hub_is_compared_where_it_was_downloaded(
    folder, kind, tmp_path, monkeypatch
):
    """The Flax class downloads a folder first, and reads that."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--google--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    load("google/tiny", kind, cache_dir=tmp_path)
    flip(snapshot / FILES[kind])
    with pytest.raises(ValueError, match=DAMAGED):
        load("google/tiny", kind, cache_dir=tmp_path)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_told(folder, kind, caplog, value):
    edit(folder, **{fingerprints.FIELD: None})
    with caplog.at_level(logging.WARNING, logger="absl"):
        model = load(folder, kind)
        assert not caplog.records
        if kind == "flax":
            table = model.params["shared"]["embedding"].at[1, 2:4].set(value)
            model.params = {**model.params, "shared": {"embedding": table}}
            model.save_pretrained(folder)
        else:
            held = safetensors.numpy.load_file(folder / FILES[kind])
            held["shared.weight"][1, 2:4] = value
            safetensors.numpy.save_file(held, folder / FILES[kind], {"format": "pt"})
        load(folder, kind)
    (record,) = caplog.records
    assert f" of {folder} has 2 of " in record.getMessage()
    assert "Copy the weights again" in record.getMessage()
