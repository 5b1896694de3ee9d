"""Matrix product with a block-gated kernel, without a kernel per example.

For states [batch, length, fan_in], a kernel [fan_in, fan_out] and gates [batch, rows, cols]

    y[b] = x[b] @ (kernel * repeat(gates[b]))      gates[b, r, c] scales block (r, c) of the kernel

is computed without the bracket, which is as large as the kernel. The kernel is cut along one axis,
and the gates scale arrays as large as the states:

| blocked axis | the product                                          | made for                |
|--------------|------------------------------------------------------|-------------------------|
| "rows"       | the sum over r of (x_r @ kernel_r) * repeat(gates_r) | `wo`, with more rows    |
| "cols"       | the parts (x * repeat(gates_c)) @ kernel_c, joined   | `wi`, with more columns |

- *In turn*: a loop over blocks, with memory for one of them; the best that a CPU can do. Devices
  that share the model cut the kernel along the blocked axis, which a loop would gather; there the
  loop goes along the other one.
- *At once*: one product with a batch axis for the blocks, for decoding and for TPUs, where XLA
  merges scaling and summing into it (with blocks of a multiple of 128, the width of its tiles).
  Always by rows, the gradient of the states by columns: sums merge, parts are joined by a copy.
- *Folded*: a batch that shares its gates, as one of a single task may, has one plain product.

In packed rows each token has gates of its own, `[batch, length, rows, cols]`: the same products,
where each token is an example of length one.

Plain autodiff would keep all products, `blocks` times the states; here they are recomputed.
Source: Tay et al. 2021 (arXiv:2007.05891), the gates; the products' order is ours, measured by
benchmarks/hypergrid.py.
"""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

BlockedAxis = Literal["rows", "cols"]
Inputs = Float[Array, "batch length fan_in"]
Outputs = Float[Array, "batch length fan_out"]
Kernel = Float[Array, "fan_in fan_out"]
Gates = Float[Array, "batch rows cols"]


def gated_matmul(
    x: Inputs,
    kernel: Kernel,
    gates: Gates | Float[Array, "rows cols"] | Float[Array, "batch length rows cols"],
    blocked_axis: BlockedAxis,
    groups: Int[Array, "batch"] | None = None,
) -> Outputs:
    """`x[b] @ (kernel * repeat(gates[b]))` for every example b, or every token of packed rows.

    The kernel's `blocked_axis` is cut over devices. Examples with the same number in `groups` have
    the same gates *by construction*, so that a gradient may go to those of any; None: each has its
    own. Cost: the products of a plain one, and at most one more for the gates' gradient. Raises
    ValueError for a grid that does not divide the kernel, TypeError for forward-mode
    differentiation of states that are not short.
    >>> x, kernel = jnp.array([[[1.0, 1.0]]]), jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> gated_matmul(x, kernel, jnp.array([[[1.0, 2.0], [0.5, 0.0]]]), "rows")
    Array([[[2.5, 4. ]]], dtype=float32)
    """
    _check_grid(kernel.shape, gates.shape[-2:])
    rows, cols = gates.shape[-2:]
    if gates.ndim == 2:
        return jnp.dot(x, fold(kernel, gates))
    if gates.ndim == 4:
        of_tokens = (x.reshape(-1, 1, x.shape[-1]), kernel, gates.reshape(-1, rows, cols))
        return gated_matmul(*of_tokens, blocked_axis).reshape(*x.shape[:2], -1)
    # One-sided gates commute with the product: a plain one, bit for bit where they are ones.
    if cols == 1:
        return jnp.dot(_scale(x, gates[:, :, 0]), kernel)
    if rows == 1:
        return _scale(jnp.dot(x, kernel), gates[:, 0])
    if 4 * x.shape[0] * x.shape[1] * rows <= kernel.shape[0]:
        # A decoding step: all products together are small against the kernel.
        return rows_at_once(x, kernel, gates)
    # Devices share the model: known of arguments on a mesh. T5X's meshes name this axis the same.
    if jax.typeof(kernel).sharding.mesh.shape.get("model", 1) > 1:
        blocked_axis = {"rows": "cols", "cols": "rows"}[blocked_axis]
    is_shared = None if groups is None else jnp.all(groups == groups[0])
    return _of_platform(blocked_axis, x, kernel, gates, is_shared)


def fold(kernel: Kernel, gates: Float[Array, "rows cols"]) -> Kernel:
    """The kernel with gates multiplied into it, those of all examples or of one.

    >>> fold(jnp.ones((2, 4)), jnp.array([[1.0, 0.5]]))
    Array([[1. , 1. , 0.5, 0.5],
           [1. , 1. , 0.5, 0.5]], dtype=float32)
    """
    _check_grid(kernel.shape, gates.shape)
    (rows, cols), (fan_in, fan_out) = gates.shape, kernel.shape
    of_rows = jnp.repeat(gates, fan_in // rows, axis=0)
    return (kernel * jnp.repeat(of_rows, fan_out // cols, axis=1)).astype(kernel.dtype)


def rows_at_once(x: Inputs, kernel: Kernel, gates: Gates) -> Outputs:
    """The gated product by rows, in one product for all blocks."""

    def product(x, kernel, gates):
        # Float32, because blocks are added up as a plain product adds up its terms.
        return jnp.dot(x, kernel).astype(jnp.float32) * gates[:, None]

    # [rows, batch, length, fan_out]
    products = jax.vmap(product, in_axes=(2, 0, 1))(*_cut_rows(x, kernel, gates))
    return jnp.sum(products, axis=0).astype(jnp.result_type(x, kernel))


def gradients_at_once(
    dy: Outputs, x: Inputs, kernel: Kernel, gates: Gates
) -> tuple[Inputs, Kernel, Gates]:
    """Gradients with respect to states, kernel and gates, given that of the gated product."""
    # Each is a product that shares nothing with others or the forward pass: XLA would store it.
    dy, x, kernel, gates = lax.optimization_barrier((dy, x, kernel, gates))
    dx = rows_at_once(dy, kernel.T, gates.swapaxes(1, 2))
    _, rows, wide_gates = _cut_rows(x, kernel, gates)
    if x.shape[1] == 1:
        # Tokens with gates of their own, whose number would multiply the next way's work.
        scaled = dy * wide_gates  # [tokens, rows, fan_out]
        dkernel = jnp.einsum("trm,trf->rmf", x[:, 0].reshape(-1, *rows.shape[:2]), scaled)
        dkernel = dkernel.reshape(kernel.shape)
    else:
        # As large as a kernel for each example, and never stored: a TPU sums while it multiplies.
        of_examples = jnp.einsum("blm,blf->bmf", x, dy).reshape(-1, *rows.shape)
        dkernel = jnp.sum(of_examples * wide_gates[:, :, None], axis=0).reshape(kernel.shape)
    _, to_dgates = jax.vjp(lambda gates: rows_at_once(x, kernel, gates), gates)
    return dx.astype(x.dtype), dkernel.astype(kernel.dtype), *to_dgates(dy)


def rows_in_turn(x: Inputs, kernel: Kernel, gates: Gates) -> Outputs:
    """The gated product by rows, block after block."""
    rows, fan_out = gates.shape[1], kernel.shape[1]

    @_again
    def product(block):
        x, kernel, gates = block
        # Widened here: the gates of all blocks would be `rows` times the states, where each token
        # has its own.
        return _dot_of_tokens(x, kernel).astype(jnp.float32) * _widen(gates, fan_out, 1)[:, None]

    blocks = (
        jnp.moveaxis(x.reshape(*x.shape[:2], rows, -1), 2, 0),  # [rows, batch, length, block]
        kernel.reshape(rows, -1, fan_out),
        jnp.moveaxis(gates, 1, 0),  # [rows, batch, cols]
    )
    # A float32 carry, as a plain product accumulates; one block's products are alive at a time.
    y = jnp.zeros((*x.shape[:2], kernel.shape[1]), jnp.float32)
    y, _ = lax.scan(lambda y, block: (y + product(block), None), y, blocks)
    return y.astype(jnp.result_type(x, kernel))


def cols_in_turn(x: Inputs, kernel: Kernel, gates: Gates) -> Outputs:
    """The gated product by columns, block after block."""
    fan_in, cols = kernel.shape[0], gates.shape[2]
    kernels = jnp.moveaxis(kernel.reshape(fan_in, cols, -1), 1, 0)  # [cols, fan_in, block]

    @_again
    def product(block):
        kernel, gates = block
        scaled = x * _widen(gates, fan_in, axis=1)[:, None]
        return _dot_of_tokens(scaled.astype(x.dtype), kernel)

    y = lax.map(product, (kernels, jnp.moveaxis(gates, 2, 0)))  # [cols, batch, length, block]
    return jnp.moveaxis(y, 0, 2).reshape(*x.shape[:2], -1)


_IN_TURN = {"rows": rows_in_turn, "cols": cols_in_turn}
# Recomputed by autodiff, not kept. No slow barrier is needed: in a loop XLA cannot merge the two.
_again = functools.partial(jax.checkpoint, prevent_cse=False)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _of_platform(blocked_axis, x, kernel, gates, is_shared):
    def of_each(*args):
        # Chosen when the program is compiled, perhaps for devices that are not here.
        in_turn = _IN_TURN[blocked_axis]
        return lax.platform_dependent(*args, tpu=rows_at_once, default=in_turn)

    return _unless_shared(is_shared, of_each, _folded, (x, kernel, gates))


def _forward(blocked_axis, *args):
    return _of_platform(blocked_axis, *args), args


def _backward(blocked_axis, args, dy):
    def in_turn(dy, *args):
        return jax.vjp(_IN_TURN[blocked_axis], *args)[1](dy)

    def of_each(dy, *args):
        return lax.platform_dependent(dy, *args, tpu=gradients_at_once, default=in_turn)

    def folded(dy, *args):
        return jax.vjp(_folded, *args)[1](dy)

    *args, is_shared = args
    return *_unless_shared(is_shared, of_each, folded, (dy, *args)), None


_of_platform.defvjp(_forward, _backward)


def _unless_shared(is_shared, of_each, folded, args):
    # A `cond` runs one branch alone; under vmap it would become a `select` that runs both.
    return of_each(*args) if is_shared is None else lax.cond(is_shared, folded, of_each, *args)


def _folded(x, kernel, gates):
    return _dot_of_tokens(x, fold(kernel, gates[0])).astype(jnp.result_type(x, kernel))


def _cut_rows(x, kernel, gates):
    """[batch, length, rows, block], [rows, block, fan_out], [batch, rows, fan_out]"""
    rows, fan_out = gates.shape[1], kernel.shape[1]
    return (
        x.reshape(*x.shape[:2], rows, -1),
        kernel.reshape(rows, -1, fan_out),
        _widen(gates, fan_out, axis=2),
    )


def _dot_of_tokens(x: Inputs, kernel: Kernel) -> Outputs:
    # For the kernel's gradient: a CPU takes twice as long to sum over two axes as over one.
    return jnp.dot(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:2], -1)


def _scale(
    x: Float[Array, "batch length features"], gates: Float[Array, "batch blocks"]
) -> Float[Array, "batch length features"]:
    return (x * _widen(gates, x.shape[-1], axis=1)[:, None]).astype(x.dtype)


def _widen(gates: Array, size: int, axis: int) -> Array:
    # A gate's gradient is a sum over all that it scales: in float32, whatever the gate's type.
    return jnp.repeat(gates.astype(jnp.float32), size // gates.shape[axis], axis=axis)


def _check_grid(fans: tuple[int, ...], grid: tuple[int, ...]) -> None:
    for name, fan, num_blocks in zip(("rows", "cols"), fans, grid, strict=True):
        if num_blocks < 1 or fan % num_blocks:
            axis = {"rows": "fan_in", "cols": "fan_out"}[name]
            divisors = [n for n in range(1, fan + 1) if fan % n == 0]
            raise ValueError(
                f"The {name} of a grid of gates must divide the kernel's {axis}; got {num_blocks} "
                f"{name} and a kernel of {fans[0]} by {fans[1]}. Use one of {divisors}."
            )
