"""Applying adapters, whoever made their parameters: `add` is what a layer calls.

The adapters of a packed row's S segments are applied as one that is S times as wide: a product
with all of their down-projections side by side, then each token keeps the hidden features of its
own segment, then one product with all of their up-projections. No weights are gathered or copied
for each token. The products cost S times those of one adapter: with T5 base, a bottleneck of 64 and
8 segments a tenth of a layer's.

Source: Ivison & Peters 2022 (arXiv:2203.08304), section 2; Hu et al. 2021 (arXiv:2106.09685),
section 4.1; Mahabadi et al. 2021 (arXiv:2106.04489), section 2.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hyperdecoders_jax.modeling import layers
from hyperdecoders_jax.types import (
    AdapterParams,
    Adapters,
    LoraParams,
    PackedAdapters,
    SerialAdapterParams,
)

# PyTorch's default, as in HyperFormer's norm; T5's own is 1e-6.
NORM_EPSILON = 1e-5


@functools.singledispatch
def apply_adapter(
    adapter: AdapterParams,
    x: Float[Array, "length emb"],
    kept: Bool[Array, "length bottleneck"] | None = None,
) -> Array:
    """What an adapter adds, for one example. `AdapterParams`: no residual, dropout or norm.

    `kept` are the hidden features that each token keeps, None: all.

    >>> eye = jax.numpy.eye(2)
    >>> adapter = AdapterParams(eye, jax.numpy.array([0.0, 1.0]), eye, jax.numpy.array([0.5, 0.0]))
    >>> apply_adapter(adapter, jax.numpy.array([[-1.0, 2.0]]))
    Array([[0.5, 3. ]], dtype=float32)
    """
    hidden = _keep(jax.nn.relu(x @ adapter.down_kernel + adapter.down_bias), kept)
    return hidden @ adapter.up_kernel + adapter.up_bias


@apply_adapter.register
def _(adapter: SerialAdapterParams, x: Float[Array, "length emb"], kept=None) -> Array:
    """A normed bottleneck, added to `x`, the output of a sub-layer."""
    hidden = _keep(jax.nn.gelu(x @ adapter.down_kernel + adapter.down_bias), kept)
    normed = layers.standardize(hidden @ adapter.up_kernel + adapter.up_bias, NORM_EPSILON)
    return normed * adapter.norm_scale + adapter.norm_bias


@apply_adapter.register
def _(adapter: LoraParams, x: Float[Array, "length fan_in"], kept=None) -> Array:
    """A low-rank change, added to a projection of `x`.

    >>> ones = jax.numpy.ones((2, 1))
    >>> apply_adapter(LoraParams(ones, 3 * ones.T), jax.numpy.array([[1.0, 2.0]]))
    Array([[9., 9.]], dtype=float32)
    """
    # Through the rank: multiplying the kernels first would make a full matrix for each example.
    return _keep(x @ adapter.down_kernel, kept) @ adapter.up_kernel


def _keep(
    hidden: Float[Array, "length bottleneck"], kept: Bool[Array, "length bottleneck"] | None
) -> Float[Array, "length bottleneck"]:
    return hidden if kept is None else jnp.where(kept, hidden, 0)


def _apply_packed(packed: PackedAdapters, x: Float[Array, "length fan_in"]) -> Array:
    """The adapters of one row, as one wide adapter."""
    is_member = packed.members.T  # [length, segments]

    def widen(path, leaf):  # [segments, ...]
        match path[-1].name:
            case "down_kernel":
                return jnp.moveaxis(leaf, 0, 1).reshape(leaf.shape[1], -1)  # [fan_in, hidden]
            case "up_kernel":
                return leaf.reshape(-1, leaf.shape[-1])  # [hidden, fan_out]
            case "down_bias":
                return leaf.reshape(-1)
        # What follows the up-projection is of one segment again: each token's own, [length, emb].
        return is_member.astype(leaf.dtype) @ leaf

    wide = jax.tree_util.tree_map_with_path(widen, packed.params)
    width = packed.params.down_kernel.shape[-1]
    return apply_adapter(wide, x, jnp.repeat(is_member, width, axis=1))


def apply_adapters(
    adapter: AdapterParams | SerialAdapterParams | LoraParams | PackedAdapters,
    x: Float[Array, "batch length fan_in"],
) -> Float[Array, "batch length fan_out"]:
    """`apply_adapter` for a batch that shares it or has one each; `length` may be hypotheses."""
    if isinstance(adapter, PackedAdapters):
        params = jax.tree.map(lambda leaf: leaf.astype(x.dtype), adapter.params)
        return jax.vmap(_apply_packed)(adapter.replace(params=params), x)
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
