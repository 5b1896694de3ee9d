import jax
import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.weights import names
from tests import tiny

GEOMETRIES = {
    "v1.0": dict(mlp_activations=("relu",), logits_via_embedding=True),
    "v1.1": dict(mlp_activations=("gelu", "linear"), logits_via_embedding=False),
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_backbone_parameter_has_one_name_of_its_own(geometry):
    config = tiny.make_config("none", "none", **GEOMETRIES[geometry])
    found = names.hugging_face_names(config)
    assert set(found) == set(names.flatten(model.Model(config).param_shapes()))
    assert len(set(found.values())) == len(found)


def test_flatten_and_unflatten_round_trip():
    params = model.Model(tiny.make_config()).param_shapes()
    assert jax.tree.leaves(names.unflatten(names.flatten(params))) == jax.tree.leaves(params)


def test_transposing_twice_gives_the_parameter_back():
    value = np.arange(6.0).reshape(2, 3)
    for path in ("encoder/layers_0/mlp/wo/kernel", "encoder/encoder_norm/scale"):
        np.testing.assert_array_equal(names.transpose(path, names.transpose(path, value)), value)
    assert names.transpose("a/rel_embedding", value).shape == (3, 2)
    assert names.transpose("token_embedder/embedding", value).shape == (2, 3)
