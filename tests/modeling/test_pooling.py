import jax
import jax.numpy as jnp
import numpy as np

from hyperdecoders_jax.modeling import pooling


def test_padding_states_do_not_reach_the_mean_even_as_nan():
    states = jnp.array([[[1.0, 2.0], [3.0, 4.0], [jnp.nan, jnp.inf]]])
    mask = jnp.array([[True, True, False]])
    np.testing.assert_array_equal(pooling.masked_mean(states, mask), [[2.0, 3.0]])


def test_an_example_without_real_positions_is_zero_and_has_finite_gradients():
    mask = jnp.zeros((1, 3), bool)
    states = jnp.ones((1, 3, 2))
    np.testing.assert_array_equal(pooling.masked_mean(states, mask), [[0.0, 0.0]])
    gradient = jax.grad(lambda x: pooling.masked_mean(x, mask).sum())(states)
    np.testing.assert_array_equal(gradient, np.zeros((1, 3, 2)))


def test_bfloat16_states_are_summed_in_float32():
    states = jnp.full((1, 1000, 1), 1.01, jnp.bfloat16)
    found = pooling.masked_mean(states, jnp.ones((1, 1000), bool))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), states[:, 0].astype(jnp.float32))
