"""Exported folders give back what they were made of; damaged ones and those of others do not."""

import numpy as np
import pytest

from hyperdecoders_jax.interop import adapter_folder, arrays, exported_folder, names
from hyperdecoders_jax.model import Model
from tests import tiny
from tests.interop import test_adapter_folder

MODELS = {
    "manual and generated": dict(),
}


def write(folder, name="manual and generated", formats=("flax",), **kw):
    """A folder with such a model, its description and its arrays."""
    description = test_adapter_folder.describe(
        model=tiny.make_config(**MODELS[name]), backbone=None
    )
    params = tiny.make_params(Model(description.model))
    flat = {path: np.asarray(x) for path, x in names.flatten(params).items()}
    exported_folder.write_weights(folder, description, arrays.in_memory(flat), formats, **kw)
    (folder / adapter_folder.VOCABULARY_FILE).write_bytes(description.vocabulary.model)
    return description, flat


@pytest.mark.parametrize("formats", [("flax",), ("safetensors",)], ids="".join)
@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_comes_back(tmp_path, name, formats):
    written, flat = write(tmp_path, name, formats)
    assert exported_folder.is_hyperdecoder(tmp_path)
    description, stored = exported_folder.read(tmp_path)
    assert description == written
    assert set(stored) == set(flat)
    for path, array in stored.items():
        np.testing.assert_array_equal(array.read(), flat[path])
