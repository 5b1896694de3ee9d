import dataclasses

import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.weights import arrays as arrays_lib
from hyperdecoders_jax.weights import infer_config, names
from tests import tiny

GEOMETRIES = {
    "v1.0": dict(mlp_activations=("relu",), logits_via_embedding=True),
    "v1.1": dict(mlp_activations=("gelu", "linear"), logits_via_embedding=False),
    "v1.1, tied": dict(mlp_activations=("gelu", "linear"), logits_via_embedding=True),
}


def make(encoder="none", decoder="none", **kw):
    """A configuration, and zeros in the shapes of its parameters."""
    config = tiny.make_config(encoder, decoder, relpos_buckets=9, num_tasks=None, **kw)
    shapes = names.flatten(model.Model(config).param_shapes())
    arrays = {path: np.zeros(leaf.shape, np.float32) for path, leaf in shapes.items()}
    return config, arrays_lib.in_memory(arrays)


@pytest.mark.parametrize("geometry_name", GEOMETRIES)
def test_shapes_give_the_configuration_back(geometry_name):
    config, arrays = make(**GEOMETRIES[geometry_name])
    plain = dataclasses.replace(
        infer_config.infer_config(arrays),
        encoder_adapter=config.encoder_adapter,
        decoder_adapter=config.decoder_adapter,
    )
    assert plain == config


def test_adapters_beside_the_backbone_are_not_looked_at():
    _, arrays = make("none", "manual")
    assert any(path.startswith("decoder_adapters/") for path in arrays)
    assert infer_config.infer_config(arrays).decoder_adapter.source == "none"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("token_embedder/embedding", "must hold token_embedder/embedding with two axes; got none"),
        ("encoder/relpos_bias/rel_embedding", "UMT5, whose layers each have positions"),
        ("decoder/layers_1/mlp/wo/kernel", r"missing: decoder/layers_1/mlp/wo/kernel; unexp"),
    ],
)
def test_a_missing_array_is_named(path, message):
    _, arrays = make()
    del arrays[path]
    with pytest.raises(ValueError, match=message):
        infer_config.infer_config(arrays)


def test_an_array_that_no_t5_has_is_named():
    _, arrays = make()
    arrays |= arrays_lib.in_memory({"encoder/layers_0/mlp/wi_0/bias": np.zeros(14, np.float32)})
    with pytest.raises(ValueError, match=r"unexpected: encoder/.*wi_0/bias; .*use those of a T5"):
        infer_config.infer_config(arrays)


def test_an_array_of_another_shape_is_named():
    _, arrays = make()
    path = "decoder/layers_2/self_attention/key/kernel"
    arrays |= arrays_lib.in_memory({path: np.zeros((8, 13), np.float32)})
    with pytest.raises(
        ValueError, match=r"key/kernel is \(8, 13\) there and \(8, 12\) in the model"
    ):
        infer_config.infer_config(arrays)


def test_a_kernel_with_an_axis_for_heads_is_named():
    _, arrays = make()
    path = "encoder/layers_0/attention/query/kernel"
    arrays |= arrays_lib.in_memory({path: np.zeros((8, 2, 6), np.float32)})
    with pytest.raises(ValueError, match=r"query/kernel with two axes; got \(8, 2, 6\)"):
        infer_config.infer_config(arrays)
