"""HyperGrid's consumer: a grid of gates scales blocks of a weight matrix.

`gates[r, c]` multiplies the block of rows r * fan_in / rows … and columns c * fan_out / cols … of
a kernel. An example's gates never meet the kernel itself, only the products with its blocks, so no
weights are made for each example.

Source: Tay et al. 2021 (arXiv:2007.05891).
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from hyperdecoders_jax.modeling import initializers, layers


def gated_matmul(
    x: Float[Array, "batch length fan_in"],
    kernel: Float[Array, "fan_in fan_out"],
    gates: Float[Array, "batch rows cols"],
) -> Float[Array, "batch length fan_out"]:
    """`x[b] @ (kernel * repeat(gates[b]))` for every example b.

    >>> x, kernel = jnp.array([[[1.0, 1.0]]]), jnp.array([[1.0, 2.0], [3.0, 4.0]])
    >>> gated_matmul(x, kernel, jnp.array([[[1.0], [0.5]]]))
    Array([[[2.5, 4. ]]], dtype=float32)
    """
    rows, cols = gates.shape[-2:]
    x = x.reshape(*x.shape[:-1], rows, -1)
    blocks = kernel.reshape(rows, kernel.shape[0] // rows, cols, kernel.shape[1] // cols)
    products = jnp.einsum("blrm,rmcf->blrcf", x, blocks)
    y = jnp.einsum("blrcf,brc->blcf", products, gates.astype(products.dtype))
    return y.reshape(*y.shape[:2], -1)


class GatedDense(nn.Module):
    """A dense map without bias, whose kernel may be gated."""

    features: int
    axes: tuple[str, str]
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length fan_in"],
        gates: Float[Array, "batch rows cols"] | None = None,
    ) -> Float[Array, "batch length fan_out"]:
        shape = (x.shape[-1], self.features)
        kernel = layers.param("kernel", initializers.DENSE_KERNEL, shape, self.axes, self.dtype)
        return jnp.dot(x, kernel) if gates is None else gated_matmul(x, kernel, gates)
