"""The hypernetwork: one condition an example becomes the adapters of all layers.

A condition and an embedding of the layer give a hidden state, and four linear heads, shared by all
layers, write the kernels and biases of that layer's adapter. Everything is one batched product
over layers and examples; nothing here knows where a condition comes from.

Source: Ivison & Peters 2022 (arXiv:2203.08304), section 2; allenai/hyperdecoders.
"""

from __future__ import annotations

import math

from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from hyperdecoders_jax.modeling import initializers, layers
from hyperdecoders_jax.modeling.config import HypernetworkConfig
from hyperdecoders_jax.types import AdapterParams


class PooledMLP(nn.Module):
    """Two dense layers between the pooled states and the hypernetwork."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, pooled: Float[Array, "batch emb"]) -> Float[Array, "batch emb"]:
        emb_dim = pooled.shape[-1]
        init = initializers.linear(emb_dim)

        def dense(name):
            return layers.Dense(emb_dim, ("hyper_in", "embed"), self.dtype, init, init, name=name)

        return dense("dense_1")(nn.relu(dense("dense_0")(pooled)))


class Hypernetwork(nn.Module):
    """Writes the adapters of `num_layers` layers for every example."""

    config: HypernetworkConfig
    num_layers: int
    emb_dim: int
    adapter_dim: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, condition: Float[Array, "batch cond"]) -> AdapterParams:
        """Returns parameters with leading axes `[layers, batch]`.

        Cost: `layers * batch * 2 * emb * bottleneck` numbers; 12.7 MB an example for T5 large in
        float32 with a bottleneck of 64.
        """
        hidden = self._hidden(condition)  # [layers, batch, hidden]
        emb_dim, adapter_dim = self.emb_dim, self.adapter_dim
        return AdapterParams(
            down_kernel=self._head("down_kernel", hidden, (emb_dim, adapter_dim), fan_in=emb_dim),
            down_bias=self._head("down_bias", hidden, (adapter_dim,), fan_in=1),
            up_kernel=self._head("up_kernel", hidden, (adapter_dim, emb_dim), fan_in=adapter_dim),
            up_bias=self._head("up_bias", hidden, (emb_dim,), fan_in=1),
        )

    def _hidden(self, condition: Float[Array, "batch cond"]) -> Float[Array, "layers batch hidden"]:
        embedding = layers.param(
            "layer_embedding",
            initializers.LAYER_EMBEDDING,
            (self.num_layers, self.config.layer_embedding_dim),
            ("layers", "hyper_in"),
            self.dtype,
        )
        return _LayerwiseDense(self.config.bottleneck_dim, self.dtype, name="hidden")(
            condition, embedding
        )

    def _head(
        self,
        name: str,
        hidden: Float[Array, "layers batch hidden"],
        shape: tuple[int, ...],
        fan_in: int,
    ) -> Float[Array, "layers batch ..."]:
        y = layers.Dense(
            math.prod(shape),
            ("hyper_hidden", "hyper_out"),
            self.dtype,
            initializers.head_kernel(hidden.shape[-1], fan_in),
            initializers.ZEROS,
            name=name,
        )(hidden)
        return y.reshape(*y.shape[:2], *shape)


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
        # The two parts of a concatenation meet its kernel apart: the condition's share is the same
        # for all layers, the embedding's for all examples.
        for_condition, for_layer = lax.split(kernel, [cond_dim, embedding_dim])
        of_condition = condition.astype(self.dtype) @ for_condition  # [batch, hidden]
        of_layer = embedding @ for_layer  # [layers, hidden]
        return nn.relu(of_layer[:, None] + of_condition + bias)
