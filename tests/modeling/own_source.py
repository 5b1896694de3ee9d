"""Mixed adapters: each example weighs a few learned sets, by its pooled encoder output."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from hyperdecoders_jax.modeling import adapter_sources, layers


@dataclasses.dataclass(frozen=True)
class MixedOptions:
    num_sets: int = 4


@adapter_sources.register("mixed")
class Mixed(adapter_sources.AdapterSource):
    reads_pooled = True
    options_class = MixedOptions

    @nn.compact
    def __call__(self, condition):
        num_sets, pooled = self.adapter_config.options.num_sets, condition.pooled
        weigh = layers.Dense(num_sets, ("hyper_in", "hyper_out"), pooled.dtype, name="weights")
        weights = nn.softmax(weigh(pooled))  # [batch, sets]
        sets = self.learn(num_sets)  # [layers, sets, ...]
        return jax.tree.map(lambda x: jnp.einsum("ls...,bs->lb...", x, weights), sets)
