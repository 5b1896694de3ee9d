"""The study's clean control: a Hyperdecoder whose hypernetwork reads the same for all examples.

`--module=constant_condition` in this folder, and `AdapterConfig.source = 'constant'`.
"""

import jax.numpy as jnp
from flax import linen as nn

from hyperdecoders_jax.modeling import adapter_sources, hypernetwork


@adapter_sources.register("constant")
class Constant(adapter_sources.Generated):
    """As many parameters as `generated`, in the same layers; all examples are adapted alike."""

    @nn.compact
    def __call__(self, condition):
        pooled = jnp.ones_like(condition.pooled)
        if self.adapter_config.hypernetwork.pooled_mlp:
            pooled = hypernetwork.PooledMLP(self.config.compute_dtype, name="pooled_mlp")(pooled)
        return self.write(pooled)
