import jax
import jax.numpy as jnp
import numpy as np

from hyperdecoders_jax.modeling import layers


def test_unstacking_gives_each_layer_its_arrays():
    stacked = {"kernel": jnp.arange(6.0).reshape(3, 2), "bias": jnp.arange(3.0)}
    parts = layers.unstack(stacked)
    assert len(parts) == 3
    np.testing.assert_array_equal(parts[1]["kernel"], [2.0, 3.0])
    np.testing.assert_array_equal(parts[2]["bias"], 2.0)


def test_the_gradient_of_unstacking_pads_nothing():
    def loss(stacked):
        return sum(jnp.sum(part**2) * (i + 1) for i, part in enumerate(layers.unstack(stacked)))

    stacked = jnp.arange(6.0).reshape(3, 2)
    jaxpr = str(jax.make_jaxpr(jax.grad(loss))(stacked))
    assert "concatenate" in jaxpr
    assert "pad" not in jaxpr
    np.testing.assert_allclose(
        jax.grad(loss)(stacked), 2 * stacked * jnp.array([[1.0], [2.0], [3.0]])
    )


def test_rms_norm_divides_by_the_root_mean_square_alone():
    norm = layers.RMSNorm(jnp.float32)
    x = jnp.array([[3.0, 4.0]])
    variables = norm.init(jax.random.key(0), x)
    np.testing.assert_allclose(norm.apply(variables, x), x / np.sqrt(12.5), rtol=1e-6)


def test_tied_logits_are_scaled():
    embed = layers.Embed(5, 4, jnp.float32)
    variables = embed.init(jax.random.key(0), jnp.array([0]))
    table = variables["params"]["embedding"]
    states = jnp.ones((1, 4))
    np.testing.assert_allclose(
        embed.apply(variables, states, method="attend"), states @ table.T / 2.0, rtol=1e-5
    )


def test_parameters_stay_float32_under_bfloat16_compute():
    dense = layers.Dense(3, ("embed", "mlp"), jnp.bfloat16)
    x = jnp.ones((2, 4))
    variables = dense.init(jax.random.key(0), x)
    assert variables["params"]["kernel"].dtype == jnp.float32
    assert dense.apply(variables, x).dtype == jnp.bfloat16


def test_standardized_features_ignore_a_shift_in_bfloat16_too():
    x = jax.random.normal(jax.random.key(0), (3, 64)).astype(jnp.bfloat16)
    shifted = (x.astype(jnp.float32) + 8).astype(jnp.bfloat16)
    expected = layers.standardize(shifted.astype(jnp.float32) - 8, 1e-6)
    found = layers.standardize(shifted, 1e-6)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=2e-2)
