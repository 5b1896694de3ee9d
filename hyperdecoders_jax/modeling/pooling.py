"""Pooling: one vector for the states of an input, the condition that hypernetworks read."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def masked_mean(
    states: Float[Array, "batch length emb"], mask: Bool[Array, "batch length"]
) -> Float[Array, "batch emb"]:
    """Averages `states` where `mask` is True; zeros, not NaN, where it is True nowhere.

    Source: Ivison & Peters 2022 (arXiv:2203.08304), the pooled encoder output.
    >>> masked_mean(jnp.array([[[2.0], [4.0], [9.0]]]), jnp.array([[True, True, False]]))
    Array([[3.]], dtype=float32)
    """
    # Not a product with the mask: 0 * NaN is NaN. In float32, as bfloat16 stops counting at 256.
    total = jnp.sum(jnp.where(mask[..., None], states, 0.0), axis=-2, dtype=jnp.float32)
    count = jnp.sum(mask, axis=-1, dtype=jnp.float32)[..., None]
    return (total / jnp.maximum(count, 1.0)).astype(states.dtype)
