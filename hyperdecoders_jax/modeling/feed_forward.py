"""T5's feed-forward block, with the adapter beside it and gates over its kernels.

It adds `dropout(wo(activations(wi(normed)))) + adapter(residual)` to the residual stream.
Source: t5x/examples/t5/layers.py (MlpBlock); Ivison & Peters 2022 (arXiv:2203.08304).
"""

from __future__ import annotations

import functools
import operator
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from hyperdecoders_jax.modeling import adapters, gated_matmul, initializers, layers
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Adapters, GridGates

States = Float[Array, "batch length emb"]
_ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,  # the tanh approximation, as T5 v1.1 was trained with
    "silu": jax.nn.silu,
    "linear": lambda x: x,
}


class GatedDense(nn.Module):
    """A dense layer without bias, whose kernel may be gated."""

    features: int
    axes: tuple[str, str]
    blocked_axis: Literal["rows", "cols"]  # the `mlp` side, which devices cut
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length fan_in"],
        gates: Float[Array, "*lead rows cols"] | None,
        groups: Int[Array, "batch"] | None,
    ) -> Float[Array, "batch length fan_out"]:
        shape = (x.shape[-1], self.features)
        kernel = layers.param("kernel", initializers.DENSE_KERNEL, shape, self.axes, self.dtype)
        x = x.astype(self.dtype)
        if gates is None:
            return jnp.dot(x, kernel)
        return gated_matmul.gated_matmul(x, kernel, gates, self.blocked_axis, groups)


class FeedForward(nn.Module):
    """T5's feed-forward block, gated (v1.1) or plain (v1.0), adapted or not."""

    config: TransformerConfig
    adapter_reads_normed: bool

    @nn.compact
    def __call__(
        self,
        normed: States,
        residual: States,
        layer_adapters: Adapters,
        gates: GridGates,
        *,
        deterministic: bool,
    ) -> States:
        """What the block adds to the residual stream."""
        config, dtype = self.config, self.config.compute_dtype
        # v1.1 multiplies two activated projections, wi_0 and wi_1; v1.0 has one, wi.
        activated = []
        for i, activation in enumerate(config.mlp_activations):
            name = "wi" if len(config.mlp_activations) == 1 else f"wi_{i}"
            wi = GatedDense(config.mlp_dim, ("embed", "mlp"), "cols", dtype, name=name)
            activated.append(_ACTIVATIONS[activation](wi(normed, gates.wi, gates.groups)))
        hidden = functools.reduce(operator.mul, activated)  # [batch, length, mlp]
        hidden = layers.dropout(config)(hidden, deterministic=deterministic)
        wo = GatedDense(config.emb_dim, ("mlp", "embed"), "rows", dtype, name="wo")
        y = wo(hidden, gates.wo, gates.groups)
        y = adapters.add(layer_adapters, "after_feed_forward", y, y)
        # Before the parallel adapter, which the original does not drop out.
        y = layers.dropout(config)(y, deterministic=deterministic)
        # By default the residual stream as it is, not the normed states: so do the paper's models.
        adapter_input = normed if self.adapter_reads_normed else residual
        return adapters.add(layer_adapters, "feed_forward", y, adapter_input)
