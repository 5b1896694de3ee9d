"""T5's encoder: contextual states from embedded inputs; see t5x/examples/t5/network.py."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from hyperdecoders_jax.modeling import (
    adapters,
    attention,
    feed_forward,
    layer_stack,
    layers,
    relative_position,
    segments,
)
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.modeling.hypergrid import LayerGrid
from hyperdecoders_jax.types import Adapters, GridGates, Segments

States = Float[Array, "batch enc_len emb"]


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self,
        x: States,
        mask: Bool[Array, "batch #enc_len enc_len"],
        bias: Float[Array, "heads enc_len enc_len"],
        layer_adapters: Adapters,
        make_gates: Callable[[States], GridGates] | None,
        *,
        deterministic: bool,
    ) -> States:
        config, dtype = self.config, self.config.compute_dtype

        y = layers.RMSNorm(dtype, name="pre_attention_layer_norm")(x)
        self_attention = attention.Attention(config, "self_attention", name="attention")
        keys, values = self_attention.keys_values(y, layer_adapters)
        y = self_attention(y, keys, values, mask, layer_adapters, bias, deterministic=deterministic)
        # Serial: it changes the sub-layer's output before dropout and the residual connection.
        y = adapters.add(layer_adapters, "after_self_attention", y, y)
        x += layers.dropout(config)(y, deterministic=deterministic)

        y = layers.RMSNorm(dtype, name="pre_mlp_layer_norm")(x)
        gates = GridGates() if make_gates is None else make_gates(y)
        mlp = feed_forward.FeedForward(config, config.encoder_adapter.norm_input, name="mlp")
        return x + mlp(y, x, layer_adapters, gates, deterministic=deterministic)


class Encoder(nn.Module):
    """A stack of encoder layers."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self,
        embedded: States,
        mask: Bool[Array, "batch enc_len"],
        stack_adapters: tuple[Adapters, ...] | None = None,
        stack_grid: tuple[LayerGrid, ...] | None = None,
        row_segments: Segments | None = None,
        *,
        deterministic: bool,
    ) -> States:
        """The states that the decoder reads, and that are pooled."""
        config, dtype = self.config, self.config.compute_dtype
        positions = jnp.arange(embedded.shape[1])
        table = relative_position.of_stack(config, bidirectional=True, name="relpos_bias")
        bias = table(positions, positions)  # Once, for all layers.

        attention_mask = mask[:, None]
        if row_segments is not None:
            attention_mask = segments.attention_mask(row_segments, row_segments)
        x = layers.dropout(config)(embedded, deterministic=deterministic)
        num_layers = config.num_encoder_layers
        own_layers = [EncoderLayer(config, name=f"layers_{i}") for i in range(num_layers)]
        none = (None,) * num_layers
        of_layers = list(zip(stack_adapters or none, stack_grid or none, strict=True))

        def run(layer, x, own):
            own_adapters, grid = own
            own_adapters = segments.adapters_of_tokens(own_adapters or {}, row_segments)
            make_gates = grid and functools.partial(_make_gates, grid, mask, row_segments)
            of_layer = (attention_mask, bias, own_adapters, make_gates)
            return layer(x, *of_layer, deterministic=deterministic)

        x = layer_stack.run(config, own_layers, run, x, of_layers)
        # Pre-norm blocks leave the residual stream without a norm; T5 drops out the output, too.
        x = layers.RMSNorm(dtype, name="encoder_norm")(x)
        return layers.dropout(config)(x, deterministic=deterministic)


def _make_gates(
    grid: LayerGrid,
    mask: Bool[Array, "batch enc_len"],
    row_segments: Segments | None,
    states: States,
) -> GridGates:
    """A layer's gates, from what enters its feed-forward block."""
    return segments.gates_of_tokens(grid.gates(states, mask, row_segments), row_segments)
