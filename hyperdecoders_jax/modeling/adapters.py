"""Applying adapters, whoever made their parameters: `add` is what a layer calls.

Source: Ivison & Peters 2022 (arXiv:2203.08304), section 2; Hu et al. 2021 (arXiv:2106.09685),
section 4.1; Mahabadi et al. 2021 (arXiv:2106.04489), section 2.
"""

from __future__ import annotations

import functools

import jax
from jaxtyping import Array, Float

from hyperdecoders_jax.modeling import layers
from hyperdecoders_jax.types import AdapterParams, Adapters, LoraParams, SerialAdapterParams

# PyTorch's default, as in HyperFormer's norm; T5's own is 1e-6.
NORM_EPSILON = 1e-5


@functools.singledispatch
def apply_adapter(adapter: AdapterParams, x: Float[Array, "length emb"]) -> Array:
    """What an adapter adds, for one example. `AdapterParams`: no residual, dropout or norm.

    >>> eye = jax.numpy.eye(2)
    >>> adapter = AdapterParams(eye, jax.numpy.array([0.0, 1.0]), eye, jax.numpy.array([0.5, 0.0]))
    >>> apply_adapter(adapter, jax.numpy.array([[-1.0, 2.0]]))
    Array([[0.5, 3. ]], dtype=float32)
    """
    hidden = jax.nn.relu(x @ adapter.down_kernel + adapter.down_bias)
    return hidden @ adapter.up_kernel + adapter.up_bias


@apply_adapter.register
def _(adapter: SerialAdapterParams, x: Float[Array, "length emb"]) -> Array:
    """A normed bottleneck, added to `x`, the output of a sub-layer."""
    hidden = jax.nn.gelu(x @ adapter.down_kernel + adapter.down_bias)
    normed = layers.standardize(hidden @ adapter.up_kernel + adapter.up_bias, NORM_EPSILON)
    return normed * adapter.norm_scale + adapter.norm_bias


@apply_adapter.register
def _(adapter: LoraParams, x: Float[Array, "length fan_in"]) -> Array:
    """A low-rank change, added to a projection of `x`.

    >>> ones = jax.numpy.ones((2, 1))
    >>> apply_adapter(LoraParams(ones, 3 * ones.T), jax.numpy.array([[1.0, 2.0]]))
    Array([[9., 9.]], dtype=float32)
    """
    # Through the rank: multiplying the kernels first would make a full matrix for each example.
    return (x @ adapter.down_kernel) @ adapter.up_kernel


def apply_adapters(
    adapter: AdapterParams | SerialAdapterParams | LoraParams,
    x: Float[Array, "batch length fan_in"],
) -> Float[Array, "batch length fan_out"]:
    """`apply_adapter` for a batch that shares it or has one each; `length` may be hypotheses."""
    is_per_example = adapter.down_kernel.ndim == 3
    adapter = jax.tree.map(lambda leaf: leaf.astype(x.dtype), adapter)
    # vmap makes one batched product of own adapters, and a plain one of shared adapters.
    return jax.vmap(apply_adapter, in_axes=(0 if is_per_example else None, 0))(adapter, x)


def add(
    layer_adapters: Adapters,
    site: str,
    y: Float[Array, "batch length fan_out"],
    x: Float[Array, "batch length fan_in"],
) -> Float[Array, "batch length fan_out"]:
    """`y` plus what the adapter at `site` makes of `x`; `y` itself where there is none."""
    adapter = layer_adapters.get(site)
    return y if adapter is None else y + apply_adapters(adapter, x)
