"""T5's decoder: logits from a context and tokens, for all positions at once or one by one.

Both ways run the same layer. Beams use the position axis, so the context is never tiled.
Source: t5x/examples/t5/network.py.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from hyperdecoders_jax.modeling import (
    adapters,
    attention,
    feed_forward,
    layer_stack,
    layers,
    relative_position,
    segments,
)
from hyperdecoders_jax.modeling.attention import KeyValueCache
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Adapters, DecoderContext, GridGates, LayerContext, Segments

States = Float[Array, "batch length emb"]
BeamStates = Float[Array, "batch beams emb"]
Encoded = Float[Array, "batch enc_len emb"]
# What positions of the decoder may read of the inputs.
ReadMask = Bool[Array, "batch #length enc_len"]


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, then feed-forward."""

    config: TransformerConfig

    def setup(self):
        config, dtype = self.config, self.config.compute_dtype
        self.pre_self_attention_layer_norm = layers.RMSNorm(dtype)
        self.self_attention = attention.Attention(config, "self_attention")
        self.pre_cross_attention_layer_norm = layers.RMSNorm(dtype)
        self.encoder_decoder_attention = attention.Attention(config, "cross_attention")
        self.pre_mlp_layer_norm = layers.RMSNorm(dtype)
        self.mlp = feed_forward.FeedForward(config, config.decoder_adapter.norm_input)
        self.dropout = layers.dropout(config)

    def make_context(
        self,
        encoded: Encoded,
        layer_adapters: Adapters,
        gates: GridGates,
        encoder_segments: Segments | None = None,
    ) -> LayerContext:
        """The layer's constants of each example: cross-attention's keys, values and adapters."""
        of_inputs = segments.adapters_of_tokens(layer_adapters, encoder_segments)
        keys, values = self.encoder_decoder_attention.keys_values(encoded, of_inputs)
        return LayerContext(keys, values, layer_adapters, gates)

    def __call__(
        self,
        x: Float[Array, "batch dec_len emb"],
        context: LayerContext,
        read_mask: ReadMask,
        mask: Bool[Array, "#batch dec_len dec_len"],
        bias: Float[Array, "heads dec_len dec_len"],
        *,
        deterministic: bool,
    ) -> Float[Array, "batch dec_len emb"]:
        """Runs all positions at once, teacher-forced."""
        y = self.pre_self_attention_layer_norm(x)
        adapted = context.adapters
        keys, values = self.self_attention.keys_values(y, adapted)
        y = self.self_attention(y, keys, values, mask, adapted, bias, deterministic=deterministic)
        y = adapters.add(adapted, "after_self_attention", y, y)
        x += self.dropout(y, deterministic=deterministic)
        return self._read_context(x, context, read_mask, deterministic=deterministic)

    def step(
        self,
        x: BeamStates,
        context: LayerContext,
        read_mask: ReadMask,
        cache: KeyValueCache,
        index: Int[Array, ""],
        bias: Float[Array, "heads 1 length"],
    ) -> tuple[BeamStates, KeyValueCache]:
        """Runs position `index` of every hypothesis."""
        y = self.pre_self_attention_layer_norm(x)
        y, cache = self.self_attention.extend(y, cache, index, context.adapters, bias)
        y = adapters.add(context.adapters, "after_self_attention", y, y)
        return self._read_context(x + y, context, read_mask, deterministic=True), cache

    def _read_context(
        self, x: States, context: LayerContext, read_mask: ReadMask, *, deterministic: bool
    ) -> States:
        y = self.pre_cross_attention_layer_norm(x)
        # No position bias: T5's cross-attention knows no distance between input and output.
        read = (context.cross_keys, context.cross_values, read_mask, context.adapters)
        y = self.encoder_decoder_attention(y, *read, deterministic=deterministic)
        x += self.dropout(y, deterministic=deterministic)
        y = self.pre_mlp_layer_norm(x)
        # Both are passed on: the block reads the normed states, the adapter beside it `x` itself.
        return x + self.mlp(y, x, context.adapters, context.gates, deterministic=deterministic)


class Decoder(nn.Module):
    """The stack of decoder layers, and the projection to logits."""

    config: TransformerConfig
    token_embedder: layers.Embed

    def setup(self):
        config, dtype = self.config, self.config.compute_dtype
        self.relpos_bias = relative_position.of_stack(config, bidirectional=False)
        self.layers = [DecoderLayer(config) for _ in range(config.num_decoder_layers)]
        self.decoder_norm = layers.RMSNorm(dtype)
        self.dropout = layers.dropout(config)
        if not config.logits_via_embedding:
            # In float32: bfloat16 has too few digits for a softmax over a large vocabulary.
            self.logits_dense = layers.Dense(config.vocab_size, ("embed", "vocab"), jnp.float32)

    def make_context(
        self,
        encoded: Encoded,
        encoder_mask: Bool[Array, "batch enc_len"],
        stack_adapters: tuple[Adapters, ...] | None = None,
        gates: tuple[GridGates, ...] | None = None,
        encoder_segments: Segments | None = None,
    ) -> DecoderContext:
        """Computes all that does not depend on the decoder's tokens."""
        stack_adapters = stack_adapters or ({},) * len(self.layers)
        gates = gates or (GridGates(),) * len(self.layers)
        contexts = (
            layer.make_context(encoded, *of_layer, encoder_segments)
            for layer, *of_layer in zip(self.layers, stack_adapters, gates, strict=True)
        )
        return DecoderContext(tuple(contexts), encoder_mask, encoder_segments)

    def make_cache(self, batch: int, beams: int, length: int) -> tuple[KeyValueCache, ...]:
        """An empty cache for `length` positions of each hypothesis."""
        config = self.config
        shape = (batch, beams, length, config.num_heads, config.head_dim)
        zeros = jnp.zeros(shape, config.compute_dtype)
        return tuple(KeyValueCache(zeros, zeros) for _ in self.layers)

    def __call__(
        self,
        tokens: Int[Array, "batch dec_len"],
        context: DecoderContext,
        row_segments: Segments | None = None,
        *,
        deterministic: bool,
    ) -> Float[Array, "batch dec_len emb"]:
        """The states that logits are made of, teacher-forced."""
        positions = jnp.arange(tokens.shape[1])
        bias = self.relpos_bias(positions, positions)
        # Causal alone: padding comes last in a target, so that no real position sees it.
        mask = (positions[:, None] >= positions)[None]
        read_mask = context.encoder_mask[:, None]
        if row_segments is not None:
            mask &= segments.attention_mask(row_segments, row_segments)
            read_mask = segments.attention_mask(row_segments, context.encoder_segments)
        x = self.dropout(self.token_embedder(tokens), deterministic=deterministic)

        def run(layer, x, own):
            of_tokens = segments.context_of_tokens(own, row_segments)
            return layer(x, of_tokens, read_mask, mask, bias, deterministic=deterministic)

        x = layer_stack.run(self.config, self.layers, run, x, context.layers)
        return self.dropout(self.decoder_norm(x), deterministic=deterministic)

    def step(
        self,
        tokens: Int[Array, "batch beams"],
        context: DecoderContext,
        cache: tuple[KeyValueCache, ...],
        index: Int[Array, ""],
    ) -> tuple[Float[Array, "batch beams vocab"], tuple[KeyValueCache, ...]]:
        """Logits of the token after position `index`, where each hypothesis has `tokens`."""
        length = cache[0].keys.shape[2]
        # A row of the table that all hypotheses share, as they are at the same position.
        bias = self.relpos_bias(jnp.asarray(index)[None], jnp.arange(length))
        x = self.token_embedder(tokens)
        read_mask = context.encoder_mask[:, None]
        extended = []
        for layer, constants, own_cache in zip(self.layers, context.layers, cache, strict=True):
            x, own_cache = layer.step(x, constants, read_mask, own_cache, index, bias)
            extended.append(own_cache)
        return self.logits(self.decoder_norm(x)), tuple(extended)

    def logits(self, states: States) -> Float[Array, "batch length vocab"]:
        """Logits of the token after each position."""
        if self.config.logits_via_embedding:
            return self.token_embedder.attend(states)
        return self.logits_dense(states)
