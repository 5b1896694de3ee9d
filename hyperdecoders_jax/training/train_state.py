"""Train state: step, parameters, optimiser state, random state, and sums for the log line.

With the position in the data it is all that a resumed run needs to equal an unbroken one. The key
of a step is `fold_in(rng, step)`, never a key that is split and carried on. The sums of the
unfinished log line are part of it, so that a line is the same whether or not the run was stopped
between two lines.
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
    """Sums over the steps since the last log line, on the device: no step waits for the host.

    Attributes:
        num_steps: that are summed.
        loss: sum of the steps' losses, each in the loss's own reduction.
        loss_sum: sum of the loss over tokens.
        num_tokens: target tokens.
        num_correct: target tokens that were the most likely ones.
        grad_norm: sum of the gradients' global norms, before the clip.
        learning_rate: of the last step.
        first_bad_step: number (from 1) of the run's first step whose loss or gradient was not
            finite; -1: none.
    """

    num_steps: Int[Array, ""]
    loss: Float[Array, ""]
    loss_sum: Float[Array, ""]
    num_tokens: Float[Array, ""]
    num_correct: Float[Array, ""]
    grad_norm: Float[Array, ""]
    learning_rate: Float[Array, ""]
    first_bad_step: Int[Array, ""]

    @classmethod
    def zeros(cls) -> RunningMetrics:
        # An array for each: the step donates them all, and one buffer cannot be donated twice.
        names = [field.name for field in dataclasses.fields(cls)]
        zeros = {name: jnp.zeros(()) for name in names}
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
