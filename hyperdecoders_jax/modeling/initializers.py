"""Initial values of parameters: T5X's for the backbone, the original's for what is new.

Each initializer takes a key, a shape and a type, as flax's do.

Source: t5x/examples/t5/layers.py; allenai/hyperdecoders (PyTorch) for the new parameters.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer

# Backbone.
EMBEDDING = nn.initializers.normal(stddev=1.0)
RELPOS_EMBEDDING = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
ATTENTION_KERNEL = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
DENSE_KERNEL = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
ONES = nn.initializers.ones
ZEROS = nn.initializers.zeros

# The paper's adapters and heads start near zero, so that step 0 is almost the plain backbone.
ADAPTER_GAIN = 1e-4
HYPERNETWORK_GAIN = 1e-3
LAYER_EMBEDDING = nn.initializers.normal(stddev=1.0)


def uniform(bound: float) -> Initializer:
    """Uniform in [-bound, bound]."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return init


def query_kernel(head_dim: int) -> Initializer:
    """T5's query kernels carry the 1/sqrt(head_dim) that its attention does not divide by."""

    def init(key, shape, dtype=jnp.float32):
        return ATTENTION_KERNEL(key, shape, dtype) / jnp.sqrt(head_dim).astype(dtype)

    return init


def adapter_kernel(emb_dim: int, bottleneck_dim: int) -> Initializer:
    """Xavier-uniform with gain 1e-4, for stacked `[layers, fan_in, fan_out]` kernels too."""
    return uniform(ADAPTER_GAIN * math.sqrt(6.0 / (emb_dim + bottleneck_dim)))


def linear(fan_in: int) -> Initializer:
    """PyTorch's default for the weight and the bias of a linear layer."""
    return uniform(1.0 / math.sqrt(fan_in))


def head_kernel(hidden_dim: int, adapter_fan_in: int) -> Initializer:
    """Hyper fan-in, scaled by 1e-3: a head's outputs start small whatever they are used for.

    `adapter_fan_in` is the fan-in of the adapter's kernel that the head writes, 1 for biases.
    """
    return uniform(HYPERNETWORK_GAIN * math.sqrt(3.0 / (hidden_dim * adapter_fan_in)))
