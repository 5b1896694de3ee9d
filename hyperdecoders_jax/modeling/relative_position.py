"""T5's relative positions: learned biases of attention logits, by head and bucket of distances.

Buckets are exact for small distances, logarithmic beyond. All layers of a stack share one table.
Source: Raffel et al. 2020 (arXiv:1910.10683), section 2.1; t5x/examples/t5/layers.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from hyperdecoders_jax.modeling import initializers, layers
from hyperdecoders_jax.modeling.config import TransformerConfig


def _buckets_of_distances(num_buckets: int, max_distance: int) -> np.ndarray:
    """The bucket of each distance up to `max_distance`, from where on all share the last."""
    distances = np.arange(max_distance + 1)
    num_exact = num_buckets // 2
    # By NumPy in float32 with T5X's epsilon: accelerators' logarithms round otherwise at borders.
    ratio = distances.astype(np.float32) / num_exact + np.finfo(np.float32).eps
    far = np.log(ratio) / np.log(max_distance / num_exact) * (num_buckets - num_exact)
    far = np.minimum(num_exact + far.astype(np.int32), num_buckets - 1)
    return np.where(distances < num_exact, distances, far).astype(np.int32)


def bucket(
    distance: Int[Array, "*lead"], *, bidirectional: bool, num_buckets: int, max_distance: int
) -> Int[Array, "*lead"]:
    """The bucket of `distance` = key position - query position, in tokens.

    >>> args = dict(num_buckets=8, max_distance=16)
    >>> bucket(jnp.array([-20, -1, 0, 1, 20]), bidirectional=True, **args)
    Array([3, 1, 0, 5, 7], dtype=int32)
    >>> bucket(jnp.array([-20, -1, 0, 1, 20]), bidirectional=False, **args)
    Array([7, 1, 0, 0, 0], dtype=int32)
    """
    if bidirectional:  # half of the buckets for keys before the query, half for those behind it
        num_buckets //= 2
        offset = jnp.where(distance > 0, num_buckets, 0).astype(jnp.int32)
        distance = jnp.abs(distance)
    else:  # keys behind the query are masked anyway
        offset = 0
        distance = jnp.maximum(-distance, 0)
    table = jnp.asarray(_buckets_of_distances(num_buckets, max_distance))
    return table[jnp.minimum(distance, max_distance)] + offset


class RelativePositionBias(nn.Module):
    """A learned bias for every head and bucket."""

    num_heads: int
    num_buckets: int
    max_distance: int
    bidirectional: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, query_positions: Int[Array, "queries"], key_positions: Int[Array, "keys"]
    ) -> Float[Array, "heads queries keys"]:
        init, shape = initializers.RELPOS_EMBEDDING, (self.num_heads, self.num_buckets)
        axes = ("heads", "relpos_buckets")
        table = layers.param("rel_embedding", init, shape, axes, self.dtype)
        buckets = bucket(
            key_positions[None, :] - query_positions[:, None],
            bidirectional=self.bidirectional,
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
        )
        # A product with one-hot rows, as gathering heads * queries * keys numbers is slow on a TPU.
        # The highest precision makes it exact; the default rounds the table to bfloat16 there.
        one_hot = jax.nn.one_hot(buckets, self.num_buckets, dtype=self.dtype)
        return jnp.einsum("hb,qkb->hqk", table, one_hot, precision=jax.lax.Precision.HIGHEST)


def of_stack(
    config: TransformerConfig, *, bidirectional: bool, name: str | None = None
) -> RelativePositionBias:
    """The one table of a stack, whose layers share it: T5 has no other notion of positions."""
    table = (config.num_heads, config.relpos_buckets, config.relpos_max_distance)
    dtype = config.compute_dtype
    return RelativePositionBias(*table, bidirectional=bidirectional, dtype=dtype, name=name)
