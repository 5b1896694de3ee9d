"""T5's multi-head attention over keys and values that are arguments (t5x/examples/t5/layers.py)."""

from __future__ import annotations

import functools

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from hyperdecoders_jax.modeling import adapters, attention_core, initializers, layers
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Adapters

States = Float[Array, "batch length emb"]
ByHead = Float[Array, "batch length heads head_dim"]


@flax.struct.dataclass
class KeyValueCache:
    """Self-attention's keys and values of the positions decoded so far, for every hypothesis."""

    keys: Float[Array, "batch beams length heads head_dim"]
    values: Float[Array, "batch beams length heads head_dim"]


class Attention(nn.Module):
    """Attention whose projections low-rank adapters may change."""

    config: TransformerConfig
    site_prefix: str  # "self_attention" or "cross_attention", of the sites "…_query" to "…_out"

    def setup(self):
        config, dtype = self.config, self.config.compute_dtype

        def to_heads(kernel_init):
            # One kernel for all heads, as T5X has it: a single wide product instead of many.
            joined_dim = config.num_heads * config.head_dim
            return layers.Dense(joined_dim, ("embed", "joined_kv"), dtype, kernel_init)

        self.query = to_heads(initializers.query_kernel(config.head_dim))
        self.key = to_heads(initializers.ATTENTION_KERNEL)
        self.value = to_heads(initializers.ATTENTION_KERNEL)
        self.out = layers.Dense(
            config.emb_dim, ("joined_kv", "embed"), dtype, initializers.ATTENTION_KERNEL
        )
        # T5X drops a key for all queries, which is to drop its value: a small array.
        self.drops_keys = config.compute.dropout == "broadcast"
        shared = (-1,) if self.drops_keys else ()
        self.dropout = nn.Dropout(config.dropout_rate, broadcast_dims=shared)

    def _project(
        self, name: str, x: Float[Array, "batch length fan_in"], layer_adapters: Adapters
    ) -> Float[Array, "batch length fan_out"]:
        projected = getattr(self, name)(x)
        return adapters.add(layer_adapters, f"{self.site_prefix}_{name}", projected, x)

    def _split_heads(self, x: Float[Array, "batch length joined"]) -> ByHead:
        return x.reshape(*x.shape[:-1], self.config.num_heads, self.config.head_dim)

    def keys_values(self, states: States, layer_adapters: Adapters) -> tuple[ByHead, ByHead]:
        """Keys and values of `states`."""
        key, value = (self._project(name, states, layer_adapters) for name in ("key", "value"))
        return self._split_heads(key), self._split_heads(value)

    def __call__(
        self,
        x: Float[Array, "batch queries emb"],
        keys: ByHead,
        values: ByHead,
        mask: Bool[Array, "#batch #queries length"],
        layer_adapters: Adapters,
        bias: Float[Array, "heads #queries length"] | None = None,
        *,
        deterministic: bool,
    ) -> Float[Array, "batch queries emb"]:
        """Attends from each position of `x` to those where `mask` is True."""
        query = self._split_heads(self._project("query", x, layer_adapters))
        read = self._read(query, keys, values, mask, bias, deterministic=deterministic)
        return self._project("out", read, layer_adapters)

    def extend(
        self,
        x: Float[Array, "batch beams emb"],
        cache: KeyValueCache,
        index: Int[Array, ""],
        layer_adapters: Adapters,
        bias: Float[Array, "heads 1 length"],
    ) -> tuple[Float[Array, "batch beams emb"], KeyValueCache]:
        """Attends from position `index` of each hypothesis to its own cache, extended by it."""
        batch, beams, length = cache.keys.shape[:3]
        query = self._split_heads(self._project("query", x, layer_adapters))
        key, value = self.keys_values(x, layer_adapters)  # [batch, beams, heads, head_dim]
        # XLA updates the carry of a loop in place, so a step copies no cache.
        keys = lax.dynamic_update_slice_in_dim(cache.keys, key[:, :, None], index, axis=2)
        values = lax.dynamic_update_slice_in_dim(cache.values, value[:, :, None], index, axis=2)

        # Unlike cross-attention, whose keys beams share, each hypothesis has keys of its own here.
        def flat(y):  # [batch * beams, ...]
            return y.reshape(batch * beams, *y.shape[2:])

        # The cache has its full length from the start, or each step would compile anew.
        mask = (jnp.arange(length) <= index)[None, None]
        read = self._read(
            flat(query[:, :, None]), flat(keys), flat(values), mask, bias, deterministic=True
        )
        read = read.reshape(batch, beams, -1)
        return self._project("out", read, layer_adapters), KeyValueCache(keys, values)

    def _read(
        self,
        query: Float[Array, "batch queries heads head_dim"],
        keys: ByHead,
        values: ByHead,
        mask: Bool[Array, "#batch #queries length"],
        bias: Float[Array, "heads #queries length"] | None,
        *,
        deterministic: bool,
    ) -> Float[Array, "batch queries joined"]:
        drop = functools.partial(self.dropout, deterministic=deterministic)
        heads = self.config.compute.attention_heads
        if self.drops_keys:
            values = drop(values)
        few = query.shape[1] * keys.shape[1] < attention_core.FEW_WEIGHTS
        if few or heads in (None, self.config.num_heads):
            core = attention_core.all_at_once
            if not (self.drops_keys or deterministic):
                # The key is drawn here, as a part that is computed again may draw none.
                drop = functools.partial(drop, rng=self.dropout.make_rng("dropout"))
                core = functools.partial(core, drop_weights=drop)
            if self.config.compute.remat == "attention":
                core = jax.checkpoint(core)
            read = core(query, keys, values, mask, bias)
        else:
            read = attention_core.some_at_a_time(heads, query, keys, values, mask, bias)
        return read.reshape(*read.shape[:-2], -1)
