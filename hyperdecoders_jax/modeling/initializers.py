"""Initializers: T5X's for the backbone (its layers.py), the original's for new parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer

# Backbone.
EMBEDDING = nn.initializers.normal(stddev=1.0)
RELPOS_EMBEDDING = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
# These see fused kernels [emb, heads * head_dim]: a fan-in of emb, or of all heads for the output.
ATTENTION_KERNEL = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
DENSE_KERNEL = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
ONES = nn.initializers.ones
ZEROS = nn.initializers.zeros

# Gates: a local factor is of the order of the states it reads, a global one is a LEARNED_EMBEDDING.
GRID_KERNEL = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", batch_axis=0)

# The paper's adapters start near zero, so that step 0 is almost the plain backbone.
ADAPTER_GAIN = 1e-4
LEARNED_EMBEDDING = nn.initializers.normal(stddev=1.0)
HYPERFORMER_KERNEL = nn.initializers.normal(stddev=1e-2)


def uniform(bound: float) -> Initializer:
    """Uniform in [-bound, bound]."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return init


def query_kernel(head_dim: int) -> Initializer:
    """T5's initializer of query kernels; it has the 1/sqrt(head_dim) that its attention lacks."""

    def init(key, shape, dtype=jnp.float32):
        return ATTENTION_KERNEL(key, shape, dtype) / jnp.sqrt(head_dim).astype(dtype)

    return init


def adapter_kernel(fan_in: int, fan_out: int, num_tasks: int | None = None) -> Initializer:
    """Xavier-uniform with gain 1e-4, for stacked `[layers, fan_in, fan_out]` kernels, too."""
    # PyTorch takes the original's banks [tasks, fan_in, fan_out] for convolution kernels; kept.
    fans = fan_in + fan_out if num_tasks is None else fan_out * (fan_in + num_tasks)
    return uniform(ADAPTER_GAIN * math.sqrt(6.0 / fans))


def linear(fan_in: int) -> Initializer:
    """PyTorch's default initializer of a linear layer, weight and bias."""
    return uniform(1.0 / math.sqrt(fan_in))


def head_kernel(hidden_dim: int, written_fan_in: int, gain: float) -> Initializer:
    """Hyper fan-in: a head writes with variance `gain`² / `written_fan_in`, 1 for biases."""
    return uniform(gain * math.sqrt(3.0 / (hidden_dim * written_fan_in)))


# By `ArraySpec.start`: initializers of arrays that are parameters, given their shape in one layer
# and, where each task has its own, the number of tasks.
LEARNED: dict[str, Callable[[tuple[int, ...], int | None], Initializer]] = {
    "zeros": lambda shape, num_tasks: ZEROS,
    "near_zero": lambda shape, num_tasks: adapter_kernel(*shape, num_tasks),
    "hyperformer": lambda shape, num_tasks: HYPERFORMER_KERNEL,
    "linear": lambda shape, num_tasks: linear(shape[0]),
}
