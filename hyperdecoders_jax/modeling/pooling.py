"""Pooling: one vector for the states of an input, the condition that hypernetworks read."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
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


def segment_means(
    states: Float[Array, "batch length emb"], members: Bool[Array, "batch segments length"]
) -> Float[Array, "batch*segments emb"]:
    """Averages the states of each segment of packed rows; zeros for a segment without a token.

    >>> members = jnp.array([[[True, True, False], [False, False, True]]])
    >>> segment_means(jnp.array([[[2.0], [4.0], [9.0]]]), members)
    Array([[3.],
           [9.]], dtype=float32)
    """
    # One product instead of a sum for each segment, and float32 as in `masked_mean`.
    of_segments = members.astype(jnp.float32)
    total = jnp.einsum(
        "bsl,ble->bse", of_segments, states.astype(jnp.float32), precision=lax.Precision.HIGHEST
    )
    means = total / jnp.maximum(jnp.sum(of_segments, axis=-1), 1.0)[..., None]
    return means.reshape(-1, states.shape[-1]).astype(states.dtype)
