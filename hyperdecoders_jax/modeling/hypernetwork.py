"""Hypernetworks: networks that write the adapters of all layers from a condition.

From a hidden state of condition and layer, linear heads write the arrays of that layer's adapters.
Source: Ivison & Peters 2022 (arXiv:2203.08304), section 2; allenai/hyperdecoders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from hyperdecoders_jax.modeling import initializers, layers
from hyperdecoders_jax.modeling.config import HypernetworkConfig, PerLayerHypernetworkConfig
from hyperdecoders_jax.modeling.sites import ArraySpec, Site

# Arrays with leading axes [layers, batch], by the name of their site and their own.
Written = dict[str, dict[str, Array]]


class PooledMLP(nn.Module):
    """Two dense layers between the pooled states and the hypernetwork."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, pooled: Float[Array, "batch emb"]) -> Float[Array, "batch emb"]:
        emb_dim = pooled.shape[-1]
        init = initializers.linear(emb_dim)
        # Partitioned as the heads are: emb x emb is too large to be copied to every device.
        sizes = (emb_dim, ("hyper_in", "hyper_out"), self.dtype, init, init)
        hidden = nn.relu(layers.Dense(*sizes, name="dense_0")(pooled))
        return layers.Dense(*sizes, name="dense_1")(hidden)


class Hypernetwork(nn.Module):
    """The paper's hypernetwork: one for all layers, which a learned embedding tells apart."""

    config: HypernetworkConfig
    sites: Mapping[str, Site]
    num_layers: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, condition: Float[Array, "batch cond"]) -> Written:
        """Writes every array; 12.7 MB an example for T5 large, float32 and a bottleneck of 64."""
        init, axes = initializers.LEARNED_EMBEDDING, ("layers", "hyper_in")
        shape = (self.num_layers, self.config.layer_embedding_dim)
        embedding = layers.param("layer_embedding", init, shape, axes, self.dtype)
        dense = _LayerwiseDense(self.config.bottleneck_dim, self.dtype, name="hidden")
        hidden = dense(condition, embedding)
        return _write(self.sites, hidden, is_per_layer=False, dtype=self.dtype)


class Heads(nn.Module):
    """The heads that write the arrays of one site, shared by all layers or each layer's own."""

    specs: Mapping[str, ArraySpec]
    is_per_layer: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, hidden: Float[Array, "layers batch hidden"]) -> dict[str, Array]:
        written, axes = {}, ("hyper_hidden", "hyper_out")
        for name, spec in self.specs.items():
            # As wide as the array has numbers: by far the largest kernels that are new.
            sizes = (math.prod(spec.shape), axes, self.is_per_layer, self.dtype)
            init = initializers.head_kernel(hidden.shape[-1], spec.fan_in, spec.head_gain)
            y = _Dense(*sizes, init, initializers.ZEROS, name=name)(hidden)
            written[name] = y.reshape(*y.shape[:2], *spec.shape)
        return written


class _Dense(nn.Module):
    """x @ kernel + bias, shared by all layers or each layer's own."""

    features: int
    axes: tuple[str, str]
    is_per_layer: bool
    dtype: DTypeLike
    kernel_init: Initializer
    bias_init: Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "layers batch fan_in"]) -> Float[Array, "layers batch out"]:
        lead, axis = ((x.shape[0],), ("layers",)) if self.is_per_layer else ((), ())
        kernel_shape = (*lead, x.shape[-1], self.features)
        kernel_axes, bias_axes = (*axis, *self.axes), (*axis, self.axes[1])
        kernel = layers.param("kernel", self.kernel_init, kernel_shape, kernel_axes, self.dtype)
        bias = layers.param("bias", self.bias_init, (*lead, self.features), bias_axes, self.dtype)
        return x @ kernel + bias[..., None, :]


class _LayerwiseDense(nn.Module):
    """relu(concat(condition, layer embedding) @ kernel + bias) for every layer and example."""

    features: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, condition: Float[Array, "batch cond"], embedding: Float[Array, "layers layer_emb"]
    ) -> Float[Array, "layers batch hidden"]:
        cond_dim, embedding_dim = condition.shape[-1], embedding.shape[-1]
        init = initializers.linear(cond_dim + embedding_dim)
        shape = (cond_dim + embedding_dim, self.features)
        kernel = layers.param("kernel", init, shape, ("hyper_in", "hyper_hidden"), self.dtype)
        bias = layers.param("bias", init, shape[1:], ("hyper_hidden",), self.dtype)
        # A split kernel multiplies layers + batch rows, a concatenation would layers * batch.
        for_condition, for_layer = lax.split(kernel, [cond_dim, embedding_dim])
        of_condition = condition.astype(self.dtype) @ for_condition  # [batch, hidden]
        of_layer = embedding @ for_layer  # [layers, hidden]
        return nn.relu(of_layer[:, None] + of_condition + bias)


class PerLayerHypernetwork(nn.Module):
    """A network of its own for every layer."""

    config: PerLayerHypernetworkConfig
    sites: Mapping[str, Site]
    num_layers: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, condition: Float[Array, "batch cond"]) -> Written:
        init, axes = initializers.linear(condition.shape[-1]), ("hyper_in", "hyper_hidden")
        sizes = (self.config.bottleneck_dim, axes, True, self.dtype)
        dense = _Dense(*sizes, init, init, name="hidden")
        hidden = dense(jnp.broadcast_to(condition, (self.num_layers, *condition.shape)))
        return _write(self.sites, nn.relu(hidden), is_per_layer=True, dtype=self.dtype)


def _write(
    sites: Mapping[str, Site],
    hidden: Float[Array, "layers batch hidden"],
    is_per_layer: bool,
    dtype: DTypeLike,
) -> Written:
    """Within a compact method: every array of every site."""
    return {
        name: Heads(site.specs, is_per_layer, dtype, name=name)(hidden)
        for name, site in sites.items()
    }
