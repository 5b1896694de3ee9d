import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax.modeling import attention_core

BATCH, QUERIES, KEYS, HEADS, HEAD_DIM = 3, 5, 7, 6, 4
# Float32 rounding: the softmax divides after the product with the values, not before.
ROUNDING = dict(rtol=2e-5, atol=2e-6)


def _masks():
    rng = np.random.default_rng(0)
    padding = rng.random((BATCH, 1, KEYS)) < 0.7
    padding[0] = False  # An empty input.
    causal = (np.arange(QUERIES)[:, None] >= np.arange(KEYS))[None]
    segments = rng.integers(0, 3, (BATCH, QUERIES, 1)) == rng.integers(0, 3, (BATCH, 1, KEYS))
    return {"padding": padding, "causal": causal, "segments": segments}


@pytest.mark.parametrize("mask", _masks().values(), ids=_masks().keys())
@pytest.mark.parametrize("bias_queries", [None, 1, QUERIES])
def test_heads_some_at_a_time_read_and_learn_as_all_at_once(mask, bias_queries):
    rng = np.random.default_rng(1)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    arrays = [draw(BATCH, x, HEADS, HEAD_DIM) for x in (QUERIES, KEYS, KEYS)]
    bias = None if bias_queries is None else draw(HEADS, bias_queries, KEYS)
    cotangent = draw(BATCH, QUERIES, HEADS, HEAD_DIM)

    def differentiate(attend):
        def read(query, keys, values, bias):
            return attend(query, keys, values, jnp.asarray(mask), bias)

        found, gradient = jax.vjp(read, *arrays, bias)
        return found, *jax.tree.leaves(gradient(cotangent))

    expected = differentiate(attention_core.all_at_once)

    def some(*args):
        return attention_core.some_at_a_time(2, *args)

    for found, wanted in zip(jax.jit(differentiate, static_argnums=0)(some), expected, strict=True):
        np.testing.assert_allclose(found, wanted, **ROUNDING)
