"""Packed rows: attention masks, adapters and gates of each segment.

A packed row holds several examples, its segments. All that a model computes for an example, it
computes for a segment: a condition, adapters, gates. These functions say which tokens they reach.
Tokens see the tokens of their own segment alone, so that a packed batch has the losses and the
gradients of its examples in rows of their own.

Relative positions need nothing: a segment's tokens follow one another, so that their distances in
the row are those in the example.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hyperdecoders_jax.types import Adapters, GridGates, LayerContext, PackedAdapters, Segments


def members(segments: Segments) -> Bool[Array, "batch segments length"]:
    """Whether a token is one of a segment's.

    >>> ids = jnp.array([[1, 1, 2, 0]])
    >>> members(Segments(ids, ids, 2)).astype(int)
    Array([[[1, 1, 0, 0],
            [0, 0, 1, 0]]], dtype=int32)
    """
    return segments.ids[:, None] == jnp.arange(1, segments.count + 1)[:, None]


def attention_mask(queries: Segments, keys: Segments) -> Bool[Array, "batch queries length"]:
    """Whether a query and a key are of one segment; padding sees padding."""
    return queries.ids[:, :, None] == keys.ids[:, None]


def adapters_of_tokens(layer_adapters: Adapters, segments: Segments | None) -> Adapters:
    """One layer's adapters `[batch * segments, ...]` with the tokens that they reach.

    Adapters that all examples share are returned as they are, and so are all without segments.
    """
    if segments is None:
        return layer_adapters
    is_member = members(segments)

    def of_tokens(adapter):
        if adapter.down_kernel.ndim == 2:
            return adapter
        rows = jax.tree.map(lambda leaf: by_row(leaf, segments), adapter)
        return PackedAdapters(rows, is_member)

    return {site: of_tokens(adapter) for site, adapter in layer_adapters.items()}


def gates_of_tokens(gates: GridGates, segments: Segments | None) -> GridGates:
    """Each token's gates `[batch, length, rows, cols]`; zeros at padding.

    Gates that all examples share are returned as they are, and so are all without segments.
    """
    if segments is None:
        return gates
    is_member = members(segments)

    def of_tokens(of_segments: Float[Array, "*lead rows cols"] | None):
        if of_segments is None or of_segments.ndim == 2:
            return of_segments
        return jax.vmap(of_own_segment)(by_row(of_segments, segments), is_member)

    return GridGates(of_tokens(gates.wi), of_tokens(gates.wo))


def of_own_segment(
    x: Float[Array, "segments *rest"], is_member: Bool[Array, "segments length"]
) -> Float[Array, "length *rest"]:
    """For each token of a row what its segment has in `x`; zeros at padding."""
    # A product, as a gather's gradient is a scatter, slow on a TPU. The highest precision makes it
    # exact, as only one term is not zero.
    highest = jax.lax.Precision.HIGHEST
    return jnp.tensordot(is_member.astype(x.dtype), x, axes=([0], [0]), precision=highest)


def context_of_tokens(context: LayerContext, segments: Segments | None) -> LayerContext:
    """A decoder layer's constants, with adapters and gates of each of the decoder's tokens."""
    return context.replace(
        adapters=adapters_of_tokens(context.adapters, segments),
        gates=gates_of_tokens(context.gates, segments),
    )


def by_row(x: Array, segments: Segments) -> Array:
    """`[batch * segments, ...]` as `[batch, segments, ...]`."""
    return x.reshape(-1, segments.count, *x.shape[1:])
