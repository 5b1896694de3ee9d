"""Model FLOPs, independent of hardware."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from hyperdecoders_jax.model import Model, share_programs
from hyperdecoders_jax.modeling.compute import ComputeConfig
from hyperdecoders_jax.training import trainable
from hyperdecoders_jax.types import Batch


@share_programs
def of_example(
    model: Model, config: trainable.TrainableConfig, enc_len: int, dec_len: int
) -> float:
    """FLOPs of the loss and its gradient for one example, as XLA counts them before compiling.

    Nothing is computed twice, whatever the model's `compute` says, and there is no dropout.
    """
    plain = dataclasses.replace(model.config, compute=ComputeConfig())
    model = dataclasses.replace(model, config=plain)
    batch = jax.eval_shape(functools.partial(_batch, 1, enc_len, dec_len))
    trained, frozen = trainable.split(model.param_shapes(), config)

    def step(trained, frozen, batch):
        loss = lambda trained: model.loss(trainable.merge(trained, frozen), batch)[0]  # noqa: E731
        return jax.value_and_grad(loss)(trained)

    # For a CPU products with gates are loops, whose bodies are counted once.
    lowered = jax.jit(step).trace(trained, frozen, batch).lower(lowering_platforms=("tpu",))
    analysis = lowered.cost_analysis() or {}
    return float(analysis.get("flops", 0.0))


def _batch(size: int, enc_len: int, dec_len: int) -> Batch:
    inputs, targets = (jnp.zeros((size, length), jnp.int32) for length in (enc_len, dec_len))
    return Batch(inputs, targets, targets, targets.astype(jnp.float32), jnp.zeros(size, jnp.int32))
