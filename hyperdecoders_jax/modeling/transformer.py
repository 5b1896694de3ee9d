"""The adapted T5: each input is encoded once, and read by a decoder that it adapts.

    inputs ── Encoder(encoder_adapters) ──▶ encoded ── masked mean ──▶ pooled
    (where the encoder's own adapters read pooled states, it runs twice: first with learned ones,
    and with gates both times)
    pooled ── decoder_adapters (a source) ──▶ AdapterParams of all decoder layers
    encoded ── decoder_hypergrid ──▶ GridGates of all decoder layers; an encoder layer makes its
    own from what enters its feed-forward block (encoder_hypergrid)
    encoded + adapters + gates ──▶ DecoderContext;  DecoderContext + tokens ── Decoder ──▶ logits

The parameters `token_embedder`, `encoder` and `decoder` are exactly T5X's T5; all others are new,
under top-level keys of their own.
Source: Ivison & Peters 2022 (arXiv:2203.08304); t5x/examples/t5/network.py.
"""

from __future__ import annotations

from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from hyperdecoders_jax.modeling import adapter_sources, decoder, encoder, hypergrid, layers, pooling
from hyperdecoders_jax.modeling import segments as segments_lib
from hyperdecoders_jax.modeling.attention import KeyValueCache
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import PAD_ID, Adapters, Batch, DecoderContext, Segments


class Transformer(nn.Module):
    """T5 whose stacks are adapted by what their sources make."""

    config: TransformerConfig

    def setup(self):
        config = self.config
        self.token_embedder = layers.Embed(config.vocab_size, config.emb_dim, config.compute_dtype)
        self.encoder = encoder.Encoder(config)
        self.decoder = decoder.Decoder(config, self.token_embedder)
        self.encoder_adapters = adapter_sources.make(config, "encoder")
        self.encoder_first_pass_adapters = adapter_sources.make_first_pass(config)
        self.decoder_adapters = adapter_sources.make(config, "decoder")
        self.encoder_hypergrid = hypergrid.make(config, "encoder")
        self.decoder_hypergrid = hypergrid.make(config, "decoder")

    def adapt(
        self,
        pooled: Float[Array, "batch emb"],
        task_ids: Int[Array, "*batch"] | None = None,
    ) -> None:
        """Calls all that adapts the stacks, but not these: for the parameters that only it has."""
        condition = adapter_sources.Condition(pooled, task_ids)
        sources = (self.encoder_adapters, self.decoder_adapters)
        for source in (*sources, self.encoder_first_pass_adapters):
            if source is not None:
                source(condition)
        for grid in (self.encoder_hypergrid, self.decoder_hypergrid):
            if grid is not None:
                grid(task_ids)

    def encode(
        self,
        tokens: Int[Array, "batch enc_len"],
        task_ids: Int[Array, "*batch"] | None = None,
        segments: Segments | None = None,
        *,
        deterministic: bool = True,
    ) -> Float[Array, "batch enc_len emb"]:
        """Contextual states of the inputs; those at padding are meaningless."""
        mask = tokens != PAD_ID
        embedded = self.token_embedder(tokens)
        task_ids = _of_examples(task_ids)
        grid = None if self.encoder_hypergrid is None else self.encoder_hypergrid(task_ids)

        def run(source, pooled=None):
            condition = adapter_sources.Condition(pooled, task_ids)
            adapters = _adapters_by_layer(source, condition)
            of_stack = (mask, adapters, grid, segments)
            return self.encoder(embedded, *of_stack, deterministic=deterministic)

        pooled = None
        # Pooled states are needed before adapters exist: a first pass, at twice the encoder's cost.
        if self.encoder_first_pass_adapters is not None:
            pooled = _pool(run(self.encoder_first_pass_adapters), mask, segments)
        return run(self.encoder_adapters, pooled)

    def make_context(
        self,
        encoded: Float[Array, "batch enc_len emb"],
        tokens: Int[Array, "batch enc_len"],
        task_ids: Int[Array, "*batch"] | None = None,
        segments: Segments | None = None,
    ) -> DecoderContext:
        """Makes all that adapts the decoder, and cross-attention's keys; once per example."""
        mask = tokens != PAD_ID
        task_ids = _of_examples(task_ids)
        condition = adapter_sources.Condition(_pool(encoded, mask, segments), task_ids)
        adapters = _adapters_by_layer(self.decoder_adapters, condition)
        gates = None
        if self.decoder_hypergrid is not None:
            grids = self.decoder_hypergrid(task_ids)
            gates = tuple(grid.gates(encoded, mask, segments) for grid in grids)
        return self.decoder.make_context(encoded, mask, adapters, gates, segments)

    def decode(
        self,
        context: DecoderContext,
        tokens: Int[Array, "batch dec_len"],
        segments: Segments | None = None,
        *,
        deterministic: bool = True,
    ) -> Float[Array, "batch dec_len vocab"]:
        """Logits at every position of given decoder inputs."""
        return self.logits(self.decoder(tokens, context, segments, deterministic=deterministic))

    def decode_step(
        self,
        context: DecoderContext,
        tokens: Int[Array, "batch beams"],
        cache: tuple[KeyValueCache, ...],
        index: Int[Array, ""],
    ) -> tuple[Float[Array, "batch beams vocab"], tuple[KeyValueCache, ...]]:
        """Logits after one more token of every hypothesis, and the extended cache."""
        return self.decoder.step(tokens, context, cache, index)

    def make_cache(self, batch: int, beams: int, length: int) -> tuple[KeyValueCache, ...]:
        """An empty cache for `decode_step`."""
        return self.decoder.make_cache(batch, beams, length)

    def logits(
        self, states: Float[Array, "batch length emb"]
    ) -> Float[Array, "batch length vocab"]:
        """Logits of the token after each position, from the decoder's `states`."""
        return self.decoder.logits(states)

    def states(
        self, batch: Batch, *, deterministic: bool = True
    ) -> Float[Array, "batch dec_len emb"]:
        """The decoder's states of given targets, teacher-forced."""
        inputs = (batch.encoder_input_tokens, batch.task_ids, batch.encoder_segments)
        encoded = self.encode(*inputs, deterministic=deterministic)
        context = self.make_context(encoded, *inputs)
        tokens, segments = batch.decoder_input_tokens, batch.decoder_segments
        return self.decoder(tokens, context, segments, deterministic=deterministic)

    def __call__(
        self, batch: Batch, *, deterministic: bool = True
    ) -> Float[Array, "batch dec_len vocab"]:
        """Teacher-forced logits."""
        return self.logits(self.states(batch, deterministic=deterministic))


def _adapters_by_layer(
    source: adapter_sources.AdapterSource | None, condition: adapter_sources.Condition
) -> tuple[Adapters, ...] | None:
    # Made for all layers at once, in few large products, and only then split.
    return None if source is None else layers.unstack(source(condition))


def _pool(
    states: Float[Array, "batch enc_len emb"],
    mask: Bool[Array, "batch enc_len"],
    segments: Segments | None,
) -> Float[Array, "examples emb"]:
    if segments is None:
        return pooling.masked_mean(states, mask)
    return pooling.segment_means(states, segments_lib.members(segments))


def _of_examples(task_ids: Int[Array, "*batch"] | None) -> Int[Array, " examples"] | None:
    # Of packed rows, an axis of examples takes the place of rows and segments.
    return None if task_ids is None else task_ids.reshape(-1)
