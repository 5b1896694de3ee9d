"""T5's encoder and decoder stacks in PyTorch, with adapters and gates as arguments.

As `modeling.encoder`, `.decoder`, `.attention` and `.feed_forward`. Modules and parameters are
those of transformers' T5, under its names; only the calls between them are new: adapters are
arguments, never state of a layer.
Source: transformers' T5; Ivison & Peters 2022 (arXiv:2203.08304), section 2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import EncoderDecoderCache, T5Config
from transformers.models.t5 import modeling_t5

from hyperdecoders_jax.hub import torch_adapters, torch_hypergrid
from hyperdecoders_jax.hub.torch_hypergrid import Gates
from hyperdecoders_jax.hub.torch_hypernetworks import Adapters

# Gates of a layer, from its index and the input of its feed-forward block.
MakeGates = Callable[[int, Tensor], Gates]


def _layer_norm(config: T5Config) -> nn.Module:
    return modeling_t5.T5LayerNorm(config.d_model, eps=config.layer_norm_epsilon)


class Attention(modeling_t5.T5Attention):
    """T5's attention with adapted projections; `kind` is the prefix of its sites' names."""

    def __init__(self, config: T5Config, layer: int, kind: str):
        has_positions = layer == 0 and kind == "self_attention"
        super().__init__(config, has_relative_attention_bias=has_positions, layer_idx=layer)
        self.config = config
        self.kind = kind

    def _project(self, name: str, dense: nn.Linear, x: Tensor, adapters: Adapters) -> Tensor:
        return torch_adapters.add_low_rank(dense(x), adapters.get(f"{self.kind}_{name}"), x)

    def _heads(self, name: str, dense: nn.Linear, x: Tensor, adapters: Adapters) -> Tensor:
        y = self._project(name, dense, x, adapters).unflatten(-1, (self.config.num_heads, -1))
        return y.transpose(1, 2)  # [rows, heads, length, head_dim]

    def forward(
        self,
        x: Float[Tensor, "rows queries emb"],
        states: Float[Tensor, "rows length emb"],
        bias: Float[Tensor, "#rows #heads #queries keys"],
        adapters: Adapters,
        cache: EncoderDecoderCache | None,
        positions: Int[Tensor, "queries"],
    ) -> Float[Tensor, "rows queries emb"]:
        """Attends from `x` to `states` and to the cached keys and values of earlier positions."""
        query = self._heads("query", self.q, x, adapters)
        keys, values = self._keys_values(states, adapters, cache, positions)
        # The function has no training flag of its own.
        dropout_rate = self.config.dropout_rate if self.training else 0.0
        # T5 does not divide by sqrt(head_dim): its initialiser does.
        read = functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=bias, dropout_p=dropout_rate, scale=1.0
        )
        return self._project("out", self.o, read.transpose(1, 2).flatten(2), adapters)

    def _keys_values(
        self,
        states: Tensor,
        adapters: Adapters,
        cache: EncoderDecoderCache | None,
        positions: Int[Tensor, "queries"],
    ) -> tuple[Tensor, Tensor]:
        is_cross = self.kind == "cross_attention"
        # Keys and values of the inputs are the same in all steps.
        if is_cross and cache is not None and cache.is_updated.get(self.layer_idx):
            held = cache.cross_attention_cache.layers[self.layer_idx]
            return held.keys, held.values
        keys = self._heads("key", self.k, states, adapters)
        values = self._heads("value", self.v, states, adapters)
        if cache is None:
            return keys, values
        if is_cross:
            cache.is_updated[self.layer_idx] = True
            return cache.cross_attention_cache.update(keys, values, self.layer_idx)
        # transformers 4's static caches are told where to write; later ones count themselves.
        written = {"cache_position": positions}
        return cache.self_attention_cache.update(keys, values, self.layer_idx, written)

    def position_bias(
        self, queries: Int[Tensor, "queries"], keys: Int[Tensor, "keys"]
    ) -> Float[Tensor, "1 heads queries keys"]:
        """T5's relative position biases; all layers use those of the first."""
        distances, config = keys - queries[:, None], self.config
        sizes = config.relative_attention_num_buckets, config.relative_attention_max_distance
        buckets = self._relative_position_bucket(distances, not self.is_decoder, *sizes)
        return self.relative_attention_bias(buckets).permute(2, 0, 1)[None]  # [1, heads, q, k]


class Block(nn.Module):
    """Self-attention, in the decoder cross-attention, then feed-forward."""

    def __init__(self, config: T5Config, layer: int, adapter_reads_normed: bool):
        super().__init__()
        self.index = layer
        self.adapter_reads_normed = adapter_reads_normed
        is_gated = config.is_gated_act
        dense = modeling_t5.T5DenseGatedActDense if is_gated else modeling_t5.T5DenseActDense
        sublayers = {"SelfAttention": Attention(config, layer, "self_attention")}
        if config.is_decoder:
            sublayers["EncDecAttention"] = Attention(config, layer, "cross_attention")
        sublayers["DenseReluDense"] = dense(config)
        self.layer = nn.ModuleList(
            nn.ModuleDict({name: module, "layer_norm": _layer_norm(config)})
            for name, module in sublayers.items()
        )
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(
        self,
        x: Float[Tensor, "rows length emb"],
        bias: Float[Tensor, "#rows heads length keys"],
        adapters: Adapters,
        make_gates: MakeGates,
        encoded: Float[Tensor, "rows enc_len emb"] | None,
        cross_bias: Float[Tensor, "rows 1 1 enc_len"] | None,
        cache: EncoderDecoderCache | None,
        positions: Int[Tensor, "length"],
    ) -> Float[Tensor, "rows length emb"]:
        attention, *cross_attention, feed_forward = self.layer

        normed = attention["layer_norm"](x)
        y = attention["SelfAttention"](normed, normed, bias, adapters, cache, positions)
        y = torch_adapters.add_serial(y, adapters.get("after_self_attention"))
        x = _finite(x + self.dropout(y))

        for sublayer in cross_attention:
            normed = sublayer["layer_norm"](x)
            y = sublayer["EncDecAttention"](normed, encoded, cross_bias, adapters, cache, positions)
            x = _finite(x + self.dropout(y))

        # The adapter is parallel to the feed-forward block, and reads its raw or normed input.
        normed = feed_forward["layer_norm"](x)
        y = _feed_forward(feed_forward["DenseReluDense"], normed, make_gates(self.index, normed))
        y = torch_adapters.add_serial(y, adapters.get("after_feed_forward"))
        adapter_input = normed if self.adapter_reads_normed else x
        beside = adapters.get("feed_forward")
        return _finite(x + torch_adapters.add_parallel(self.dropout(y), beside, adapter_input))


def _finite(x: Float[Tensor, "rows length emb"]) -> Float[Tensor, "rows length emb"]:
    """Clamps float16 to its range, as transformers' T5 does: T5's states outgrow it."""
    if x.dtype != torch.float16:
        return x
    most = torch.finfo(x.dtype).max
    # Lower where anything overflowed, so that the next sum does not overflow at once.
    most = torch.where(torch.isinf(x).any(), most - 1000.0, most)
    return torch.clamp(x, min=-most, max=most)


def _feed_forward(
    dense: nn.Module, x: Float[Tensor, "rows length emb"], gates: Gates
) -> Float[Tensor, "rows length emb"]:
    of_wi, of_wo = gates.get("wi"), gates.get("wo")
    if isinstance(dense, modeling_t5.T5DenseGatedActDense):
        hidden = dense.act(torch_hypergrid.gated_linear(dense.wi_0, x, of_wi))
        hidden = hidden * torch_hypergrid.gated_linear(dense.wi_1, x, of_wi)
    else:
        hidden = dense.act(torch_hypergrid.gated_linear(dense.wi, x, of_wi))
    # transformers keeps `wo` in float32 where the rest is float16.
    hidden = dense.dropout(hidden).to(dense.wo.weight.dtype)
    return torch_hypergrid.gated_linear(dense.wo, hidden, of_wo)


class Stack(nn.Module):
    """The encoder or the decoder, from embedded tokens to normed states."""

    main_input_name = "input_ids"  # `generate` reads it.

    def __init__(self, config: T5Config, adapter_reads_normed: bool):
        super().__init__()
        self.block = nn.ModuleList(
            Block(config, layer, adapter_reads_normed) for layer in range(config.num_layers)
        )
        self.final_layer_norm = _layer_norm(config)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(
        self,
        embedded: Float[Tensor, "rows length emb"],
        mask: Bool[Tensor, "rows enc_len"],
        adapters: Adapters,
        make_gates: MakeGates,
        encoded: Float[Tensor, "rows enc_len emb"] | None = None,
        cache: EncoderDecoderCache | None = None,
    ) -> Float[Tensor, "rows length emb"]:
        """States after the cached positions; `encoded` and `cache` are for the decoder only."""
        length, device = embedded.shape[1], embedded.device
        start, num_keys = 0, length
        if cache is not None:
            start = cache.get_seq_length()
            # A static cache has its full length from the start; what is empty is masked as future.
            layers = cache.self_attention_cache.layers
            is_static = bool(layers) and layers[0].is_compileable
            num_keys = layers[0].max_cache_len if is_static else start + length
        keys = torch.arange(num_keys, device=device)
        queries = start + torch.arange(length, device=device)
        bias = self.block[0].layer[0]["SelfAttention"].position_bias(queries, keys)
        # T5 has no position biases between inputs and targets.
        cross_bias = _masked(bias.new_zeros(1, 1, 1, 1), mask[:, None, None])
        is_causal = encoded is not None
        bias = _masked(bias, keys <= queries[:, None] if is_causal else mask[:, None, None])
        x = self.dropout(embedded)
        for i, block in enumerate(self.block):
            of_layer = torch_adapters.of_layer(adapters, i)
            x = block(x, bias, of_layer, make_gates, encoded, cross_bias, cache, queries)
        return self.dropout(self.final_layer_norm(x))


def _masked(bias: Tensor, mask: Bool[Tensor, "..."]) -> Tensor:
    # The least finite number: rows without any real position stay finite, unlike with -inf.
    return torch.where(mask, bias, torch.finfo(bias.dtype).min)
