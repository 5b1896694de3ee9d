"""Layers in a loop: the numbers and the parameters of layers that are written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hyperdecoders_jax import model as model_lib
from hyperdecoders_jax.modeling import layer_stack
from hyperdecoders_jax.modeling.compute import ComputeConfig
from tests import tiny
from tests.modeling import test_packed_rows as packed


def make_model(case, layers=(2, 2), **choices):
    sizes = dict(zip(("num_encoder_layers", "num_decoder_layers"), layers, strict=True))
    return packed.make_model(case, compute=ComputeConfig(**choices), **sizes)


# Together: adapters of an example and of all, serial and low-rank ones, gates, two passes.
@pytest.mark.parametrize(
    ("case", "layers", "remat"),
    [
        ("generated", (2, 1), "none"),
        ("of tasks", (1, 2), "none"),
        ("of all examples", (2, 2), "layer"),
    ],
)
def test_a_loop_over_layers_changes_no_loss_and_no_gradient(case, layers, remat):
    model, scanned = (
        make_model(case, layers, **choices)
        for choices in ({}, {"scan_layers": True, "remat": remat})
    )
    params = tiny.make_params(model, scale=0.2)
    jax.tree.map(np.testing.assert_array_equal, tiny.make_params(scanned, scale=0.2), params)
    batch = packed.pack(packed.make_examples(0, [2, 3, 1]))
    expected = packed.losses_and_gradients(model, params, batch)
    found = packed.losses_and_gradients(scanned, params, batch)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b) + 1e-7


def hardware_key(seed):
    """The key of `DROPOUT = 'hardware'`."""
    return model_lib._hardware_key(jax.random.key(seed))


class Noise(nn.Module):
    """A stack that adds noise of layer 1 to its input, and ten times that of layer 2."""

    @nn.compact
    def __call__(self, x):
        layers = [nn.Dropout(0.5, deterministic=False) for _ in range(2)]

        def add(layer, x, factor):
            return x + factor * layer(jnp.ones_like(x))

        config = tiny.make_config(compute=ComputeConfig(scan_layers=True))
        return layer_stack.run(config, layers, add, x, [jnp.array(1.0), jnp.array(10.0)])


@pytest.mark.parametrize("make_key", [jax.random.key, hardware_key])
def test_each_layer_of_a_loop_draws_noise_of_its_own(make_key):
    def draw(seed):
        return Noise().apply({}, jnp.zeros((20, 3, 50)), rngs={"dropout": make_key(seed)})

    drawn = draw(0)
    np.testing.assert_array_equal(drawn, draw(0))
    assert not np.array_equal(drawn, draw(1))
    # Kept features are doubled: all four combinations of two layers' masks.
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [0.0, 2.0, 20.0, 22.0]
    np.testing.assert_allclose(counts / drawn.size, 1 / 4, atol=0.05)


def test_the_program_of_a_loop_does_not_grow_with_the_depth():
    def products(depth, **choices):
        model = make_model("of all examples", layers=(depth, 1), **choices)
        tokens = tiny.make_batch().encoder_input_tokens

        def encode(params):
            return model.module.apply({"params": params}, tokens, method="encode")

        program = jax.make_jaxpr(encode)(model.param_shapes())
        return str(program).count("dot_general")

    assert products(2, scan_layers=True) == products(4, scan_layers=True)
    assert products(2) < products(4)
