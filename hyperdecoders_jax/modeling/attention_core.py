"""Attention's core: each query's average of the values, weighted by a softmax over the keys.

`all_at_once` is T5's formula as it stands: the reference, and the faster one on a CPU. On a TPU its
weights `[batch, heads, queries, keys]` in float32 are the largest arrays of a step, and moving them
costs more than half of its time. `some_at_a_time` loops over groups of heads, so that a group's
weights stay in the chip's fast memory; only the rows' maxima and sums are kept, and the backward
pass computes the weights again. Source of that: Dao et al. 2022 (arXiv:2205.14135), section 3.1;
unlike there a row of weights is whole, so its softmax needs no correction.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

Queries = Float[Array, "batch queries heads head_dim"]
ByHead = Float[Array, "batch length heads head_dim"]
# Attention may read a mask and a bias that batch or queries share.
Mask = Bool[Array, "#batch #queries length"]
Bias = Float[Array, "heads #queries length"]
# Weights of a head and example: for fewer, as in decoding, a loop costs more than it saves.
FEW_WEIGHTS = 128 * 512


def _logits(query: Queries, keys: ByHead, mask: Mask, bias: Bias | None) -> Array:
    # No textbook 1/sqrt(head_dim): T5 has it in the queries' initializer. Softmax in float32.
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, keys, preferred_element_type=jnp.float32)
    if bias is not None:
        logits += bias
    # The least number, not -inf: a row without any real key gets even weights, not NaN.
    return jnp.where(mask[:, None], logits, jnp.finfo(logits.dtype).min)


def all_at_once(
    query: Queries,
    keys: ByHead,
    values: ByHead,
    mask: Mask,
    bias: Bias | None,
    drop_weights: Callable[[Array], Array] = lambda weights: weights,
) -> Queries:
    """T5's attention, all heads in one product; `drop_weights` is dropout."""
    weights = jax.nn.softmax(_logits(query, keys, mask, bias)).astype(query.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", drop_weights(weights), values)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def some_at_a_time(
    num_heads: int,
    query: Queries,
    keys: ByHead,
    values: ByHead,
    mask: Mask,
    bias: Bias | None,
) -> Queries:
    """The same for `num_heads` at a time, a divisor of all heads."""
    return _forward(num_heads, query, keys, values, mask, bias)[0]


def _forward(num_heads, query, keys, values, mask, bias):
    def attend(query, keys, values, bias=None):
        logits = _logits(query, keys, mask, bias)
        row_max = jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(logits - row_max).astype(query.dtype)
        # A column of ones gives the rows' sums with the same product, where a TPU has room: its
        # multiplier is 128 wide, and a head 64.
        ones = jnp.ones((*values.shape[:-1], 1), values.dtype)
        read = jnp.einsum(
            "bhqk,bkhd->bqhd",
            weights,
            jnp.concatenate([values, ones], axis=-1),
            preferred_element_type=jnp.float32,
        )
        scale = 1.0 / read[..., -1:]
        return (read[..., :-1] * scale).astype(query.dtype), row_max, scale

    by_head = [(query, 2), (keys, 2), (values, 2)] + ([] if bias is None else [(bias, 0)])
    read, row_max, scale = _loop(attend, num_heads, by_head, (2, 1, 2))
    return read, (query, keys, values, mask, bias, read, row_max, scale)


def _backward(num_heads, saved, d_read):
    # Or XLA would find the forward pass's weights, and keep them until here.
    query, keys, values, mask, bias, read, row_max, scale = lax.optimization_barrier(saved)

    def differentiate(query, keys, values, read, row_max, scale, d_read, bias=None):
        # Scaled here, so that the weights need not be divided by their sums.
        scaled = d_read.astype(jnp.float32) * scale
        # The softmax's own term, without a sum over the keys: Dao et al., equation 4.
        inner = jnp.einsum("bqhd,bqhd->bhq", scaled, read.astype(jnp.float32))[..., None]
        scaled = scaled.astype(d_read.dtype)
        weights = jnp.exp(_logits(query, keys, mask, bias) - row_max)
        d_values = jnp.einsum("bhqk,bqhd->bkhd", weights.astype(query.dtype), scaled)
        d_weights = jnp.einsum(
            "bqhd,bkhd->bhqk", scaled, values, preferred_element_type=jnp.float32
        )
        d_logits = weights * (d_weights - inner)
        d_logits = jnp.where(mask[:, None], d_logits, 0.0)
        d_low = d_logits.astype(query.dtype)
        d_query = jnp.einsum("bhqk,bkhd->bqhd", d_low, keys)
        d_keys = jnp.einsum("bhqk,bqhd->bkhd", d_low, query)
        if bias is None:
            return d_query, d_keys, d_values
        # XLA drops it where the table of relative positions is frozen.
        over = (0,) if bias.shape[1] > 1 else (0, 2)
        d_bias = jnp.sum(d_logits, axis=over).reshape(bias.shape).astype(bias.dtype)
        return d_query, d_keys, d_values, d_bias

    by_head = [(query, 2), (keys, 2), (values, 2), (read, 2), (row_max, 1), (scale, 2)]
    by_head += [(d_read, 2)] + ([] if bias is None else [(bias, 0)])
    axes = (2, 2, 2) + (() if bias is None else (0,))
    d_query, d_keys, d_values, *d_bias = _loop(differentiate, num_heads, by_head, axes)
    return d_query, d_keys, d_values, None, (d_bias[0] if d_bias else None)


some_at_a_time.defvjp(_forward, _backward)


def _loop(
    function: Callable[..., tuple[Array, ...]],
    num_heads: int,
    by_head: Sequence[tuple[Array, int]],
    out_axes: Sequence[int],
) -> list[Array]:
    """`function` for groups of heads; each array comes with its axis of heads."""
    all_heads = by_head[0][0].shape[by_head[0][1]]
    num_groups = all_heads // num_heads

    # Group i takes heads i, i + n, …, so that devices that share the heads keep those they have.
    def cut(x, axis):
        return x.reshape(*x.shape[:axis], num_heads, num_groups, *x.shape[axis + 1 :])

    groups = [(cut(x, axis), axis + 1) for x, axis in by_head]

    def of_group(index):
        return function(*(lax.dynamic_index_in_dim(x, index, a, keepdims=False) for x, a in groups))

    shapes = jax.eval_shape(of_group, 0)
    results = [
        jnp.zeros((*x.shape[: a + 1], num_groups, *x.shape[a + 1 :]), x.dtype)
        for x, a in zip(shapes, out_axes, strict=True)
    ]

    # Not `lax.map`: it stacks the groups along a first axis, which costs a transposition each.
    def put(index, results):
        found = of_group(index)
        return [
            lax.dynamic_update_index_in_dim(x, y, index, a + 1)
            for x, y, a in zip(results, found, out_axes, strict=True)
        ]

    results = lax.fori_loop(0, num_groups, put, results)
    return [
        x.reshape(*x.shape[:a], all_heads, *x.shape[a + 2 :])
        for x, a in zip(results, out_axes, strict=True)
    ]
