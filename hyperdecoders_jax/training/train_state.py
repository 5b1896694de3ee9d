"""Train state: step, parameters, optimiser state, random state, and sums for the log line.

With the position in the data it is all that a resumed run needs to equal an unbroken one: a step's
key is `fold_in(rng, step)`, and the sums are those of the unfinished log line.
"""

from __future__ import annotations

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from hyperdecoders_jax.types import Params, PyTree

NO_BAD_STEP = -1


@flax.struct.dataclass
class RunningMetrics:
    """Sums over the steps since the last log line, on the device: no step waits for the host."""

    num_steps: Int[Array, ""]
    loss: Float[Array, ""]  # Each step's in the loss's own reduction.
    loss_sum: Float[Array, ""]  # Over tokens.
    num_tokens: Float[Array, ""]  # Target tokens.
    num_correct: Float[Array, ""]  # Target tokens that were the most likely ones.
    grad_norm: Float[Array, ""]  # Global norms, before the clip.
    learning_rate: Float[Array, ""]  # Of the last step.
    first_bad_step: Int[Array, ""]  # Number, from 1, of the run's first that was not finite.

    @classmethod
    def zeros(cls) -> RunningMetrics:
        # An array for each: the step donates them all, and one buffer cannot be donated twice.
        zeros = {field.name: jnp.zeros(()) for field in dataclasses.fields(cls)}
        zeros["num_steps"] = jnp.zeros((), jnp.int32)
        zeros["first_bad_step"] = jnp.full((), NO_BAD_STEP, jnp.int32)
        return cls(**zeros)

    def summarize(self) -> dict[str, float]:
        """Returns the numbers of a log line: means over steps and over tokens."""
        # One transfer; `float` of each array would be one transfer, and one wait, each.
        sums = jax.device_get(self)
        # At least 1: a line of no step, or of padding alone, is no division by zero.
        steps, tokens = max(int(sums.num_steps), 1), max(float(sums.num_tokens), 1.0)
        return {
            "loss": float(sums.loss) / steps,
            "loss_per_token": float(sums.loss_sum) / tokens,
            "token_accuracy": float(sums.num_correct) / tokens,
            "grad_norm": float(sums.grad_norm) / steps,
            "learning_rate": float(sums.learning_rate),
            "num_tokens": float(sums.num_tokens),
        }


@flax.struct.dataclass
class TrainState:
    """Train state after `step` updates; frozen parameters are not part of it."""

    step: Int[Array, ""]
    trainable: Params
    opt_state: PyTree
    rng: PRNGKeyArray  # Constant: a step folds its number into it.
    metrics: RunningMetrics


def create(
    trainable: Params, tx: optax.GradientTransformation, dropout_rng: PRNGKeyArray
) -> TrainState:
    """Returns the state before the first step; under `jax.eval_shape` it costs no memory."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trainable=trainable,
        opt_state=tx.init(trainable),
        rng=dropout_rng,
        metrics=RunningMetrics.zeros(),
    )
