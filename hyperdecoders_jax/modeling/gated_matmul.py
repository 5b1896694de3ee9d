"""Products of states with a kernel whose blocks an example's gates scale; no kernel per example.

States [batch, length, fan_in], a kernel [fan_in, fan_out] and gates [batch, rows, cols] go in; out
comes, for each example b,

    y[b] = x[b] @ (kernel * repeat(gates[b]))      gates[b, r, c] scales block (r, c) of the kernel

without the bracket, as large as the kernel for every example. What the gates scale is as large as
the states instead, cut along one axis of the kernel:

| blocked axis | the product                                          | made for                |
|--------------|------------------------------------------------------|-------------------------|
| "rows"       | the sum over r of (x_r @ kernel_r) * repeat(gates_r) | `wo`, with more rows    |
| "cols"       | the parts (x * repeat(gates_c)) @ kernel_c, joined   | `wi`, with more columns |

Two ways to go over the blocks have the same result. *At once*, as one product with a batch axis
`blocks`: a kernel cut over devices along its blocked axis stays where it is, and XLA merges the
scaling into the product on TPUs. *In turn*, in a loop: memory for one block, best on a CPU, but the
loop would gather a kernel that is cut over devices. Either is differentiated by doing a block again
(`jax.checkpoint`): a plain gradient would keep all products, `blocks` times the states.

Source: Tay et al. 2021 (arXiv:2007.05891), the gates; the order of the products is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# The axes of (states, kernel, gates) along which blocks lie, as `_cut_rows`, `_cut_cols` cut them.
_ROW_AXES = (2, 0, 1)
_COL_AXES = (None, 1, 2)


def gated_matmul(
    x: Float[Array, "batch length fan_in"],
    kernel: Float[Array, "fan_in fan_out"],
    gates: Float[Array, "batch rows cols"] | Float[Array, "rows cols"],
    blocked_axis: Literal["rows", "cols"],
) -> Float[Array, "batch length fan_out"]:
    """`x[b] @ (kernel * repeat(gates[b]))` for every example b.

    >>> x, kernel = jnp.array([[[1.0, 1.0]]]), jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> gated_matmul(x, kernel, jnp.array([[[1.0, 2.0], [0.5, 0.0]]]), "rows")
    Array([[[2.5, 4. ]]], dtype=float32)

    Gates without a batch axis hold for all examples and are folded into the kernel; gates with one
    row, or one column, scale the products, or the states. `blocked_axis` matters to the others.

    Cost: the blocked forms do the work of the plain product, and its gradient that of one more;
        a frozen kernel saves its part of it.

    Raises:
        ValueError: the grid does not divide the kernel.
    """
    _check_grid(kernel.shape, gates.shape[-2:])
    rows, cols = gates.shape[-2:]
    if gates.ndim == 2:
        return jnp.dot(x, fold(kernel, gates))
    if cols == 1:
        return jnp.dot(_scale(x, gates[:, :, 0]), kernel)
    if rows == 1:
        return _scale(jnp.dot(x, kernel), gates[:, 0])
    if blocked_axis == "rows":
        at_once, in_turn, num_scaled = rows_at_once, rows_in_turn, rows * kernel.shape[1]
    else:
        at_once, in_turn, num_scaled = cols_at_once, cols_in_turn, cols * kernel.shape[0]
    if x.shape[0] * x.shape[1] * num_scaled <= kernel.size:
        # A decoding step: all that is scaled is no larger than the kernel, which must be read.
        return at_once(x, kernel, gates)
    return jax.checkpoint(_of_platform(at_once, in_turn))(x, kernel, gates)


def fold(
    kernel: Float[Array, "fan_in fan_out"], gates: Float[Array, "rows cols"]
) -> Float[Array, "fan_in fan_out"]:
    """The kernel, scaled for good by gates that hold for all examples, or by those of one.

    >>> fold(jnp.ones((2, 4)), jnp.array([[1.0, 0.5]]))
    Array([[1. , 1. , 0.5, 0.5],
           [1. , 1. , 0.5, 0.5]], dtype=float32)

    Raises:
        ValueError: the grid does not divide the kernel.
    """
    _check_grid(kernel.shape, gates.shape)
    (rows, cols), (fan_in, fan_out) = gates.shape, kernel.shape
    of_rows = jnp.repeat(gates, fan_in // rows, axis=0)
    return (kernel * jnp.repeat(of_rows, fan_out // cols, axis=1)).astype(kernel.dtype)


def rows_at_once(
    x: Float[Array, "batch length fan_in"],
    kernel: Float[Array, "fan_in fan_out"],
    gates: Float[Array, "batch rows cols"],
) -> Float[Array, "batch length fan_out"]:
    """The sum of gated products of the kernel's rows, in one product with a batch axis `rows`."""
    blocks = _cut_rows(x, kernel, gates)
    products = jax.vmap(_row_block, in_axes=_ROW_AXES)(*blocks)  # [rows, batch, length, fan_out]
    return jnp.sum(products, axis=0).astype(_dtype(x, kernel))


def rows_in_turn(
    x: Float[Array, "batch length fan_in"],
    kernel: Float[Array, "fan_in fan_out"],
    gates: Float[Array, "batch rows cols"],
) -> Float[Array, "batch length fan_out"]:
    """The sum of gated products of the kernel's rows, block after block."""

    def add(y, block):
        return y + _again(_row_block)(*block), None

    y = jnp.zeros((*x.shape[:2], kernel.shape[1]), jnp.float32)
    blocks = map(jnp.moveaxis, _cut_rows(x, kernel, gates), _ROW_AXES, (0, 0, 0))
    return lax.scan(add, y, tuple(blocks))[0].astype(_dtype(x, kernel))


def cols_at_once(
    x: Float[Array, "batch length fan_in"],
    kernel: Float[Array, "fan_in fan_out"],
    gates: Float[Array, "batch rows cols"],
) -> Float[Array, "batch length fan_out"]:
    """Products of gated states with the kernel's columns, in one with a batch axis `cols`."""
    y = jax.vmap(_col_block, in_axes=_COL_AXES, out_axes=2)(*_cut_cols(x, kernel, gates))
    return y.reshape(*y.shape[:2], -1)  # from [batch, length, cols, fan_out / cols]


def cols_in_turn(
    x: Float[Array, "batch length fan_in"],
    kernel: Float[Array, "fan_in fan_out"],
    gates: Float[Array, "batch rows cols"],
) -> Float[Array, "batch length fan_out"]:
    """Products of gated states with the kernel's columns, block after block."""
    x, *blocks = _cut_cols(x, kernel, gates)
    blocks = tuple(map(jnp.moveaxis, blocks, _COL_AXES[1:], (0, 0)))
    y = lax.map(lambda block: _again(_col_block)(x, *block), blocks)
    y = jnp.moveaxis(y, 0, 2)  # [batch, length, cols, fan_out / cols]
    return y.reshape(*y.shape[:2], -1)


def _row_block(x, kernel, gates):
    """[batch, length, block], [block, fan_out], [batch, fan_out] -> [batch, length, fan_out]"""
    # Float32, because blocks are added up as the plain product adds up its terms.
    return jnp.dot(x, kernel).astype(jnp.float32) * gates[:, None]


def _col_block(x, kernel, gates):
    """[batch, length, fan_in], [fan_in, block], [batch, fan_in] -> [batch, length, block]"""
    return jnp.dot((x * gates[:, None]).astype(x.dtype), kernel)


def _cut_rows(x, kernel, gates):
    rows, cols = gates.shape[1:]
    fan_out = kernel.shape[1]
    return (
        x.reshape(*x.shape[:2], rows, -1),
        kernel.reshape(rows, -1, fan_out),
        _widen(gates, fan_out // cols, axis=2),  # [batch, rows, fan_out]
    )


def _cut_cols(x, kernel, gates):
    rows, cols = gates.shape[1:]
    fan_in = kernel.shape[0]
    return (
        x,
        kernel.reshape(fan_in, cols, -1),
        _widen(gates, fan_in // rows, axis=1),  # [batch, fan_in, cols]
    )


def _again(block: Callable) -> Callable:
    # Only outside of loops must XLA be kept from taking the second time for the first.
    return jax.checkpoint(block, prevent_cse=False)


def _of_platform(at_once: Callable, in_turn: Callable) -> Callable:
    """Chooses when the program is compiled, also if that is for devices that are not here."""
    return lambda *args: lax.platform_dependent(*args, tpu=at_once, default=in_turn)


def _scale(
    x: Float[Array, "batch length features"], gates: Float[Array, "batch blocks"]
) -> Float[Array, "batch length features"]:
    gates = _widen(gates, x.shape[-1] // gates.shape[-1], axis=1)
    return (x * gates[:, None]).astype(x.dtype)


def _widen(gates: Array, block: int, axis: int) -> Array:
    # A gate's gradient is a sum over all that it scales: in float32, whatever the gate's type.
    return jnp.repeat(gates.astype(jnp.float32), block, axis=axis)


def _dtype(x: Array, kernel: Array):
    return jnp.result_type(x, kernel)


def _check_grid(fans: tuple[int, ...], grid: tuple[int, ...]) -> None:
    for name, fan, num_blocks in zip(("rows", "cols"), fans, grid, strict=True):
        if num_blocks < 1 or fan % num_blocks:
            axis = {"rows": "fan_in", "cols": "fan_out"}[name]
            divisors = [n for n in range(1, fan + 1) if fan % n == 0]
            raise ValueError(
                f"the {name} of a grid of gates must divide the kernel's {axis}; got {num_blocks} "
                f"{name} and a kernel of {fans[0]} by {fans[1]}. Use one of {divisors}."
            )
