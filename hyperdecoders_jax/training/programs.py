"""Compiled programs of a run: its first state, its train step, and the zeros of its log line.

Runs of one process that are trained alike share them: a sweep over seeds compiles once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from hyperdecoders_jax.model import Model, share_programs
from hyperdecoders_jax.training import optimizer as optimizer_lib
from hyperdecoders_jax.training import train_state, train_step
from hyperdecoders_jax.training.optimizer import OptimizerConfig
from hyperdecoders_jax.training.schedules import ScheduleConfig
from hyperdecoders_jax.training.train_state import TrainState
from hyperdecoders_jax.training.train_step import TrainStep


class Programs(NamedTuple):
    """What a run has compiled."""

    create_state: Callable[..., TrainState]  # (trainable parameters, key of dropout)
    train_step: TrainStep
    zero_metrics: Callable[[], train_state.RunningMetrics]


def of(
    model: Model,
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    num_train_steps: int,
    num_microbatches: int,
    shardings: TrainState,
) -> Programs:
    """The programs of a recipe whose train state has these shardings."""
    leaves, structure = jax.tree.flatten(shardings)
    recipe = (optimizer, schedule, num_train_steps, num_microbatches)
    return _make(model, *recipe, structure, tuple(leaves))


@share_programs
def _make(
    model, optimizer, schedule, num_train_steps, num_microbatches, structure, leaves
) -> Programs:
    shardings = structure.unflatten(leaves)
    rate = schedule.make(num_train_steps)
    tx = optimizer_lib.make_optimizer(optimizer, rate)

    def create_state(trainable, dropout_rng):
        return train_state.create(trainable, tx, dropout_rng)

    step = train_step.make_train_step(
        model, tx, rate, num_microbatches=num_microbatches, state_shardings=shardings
    )
    return Programs(
        # With shardings, so that the optimiser's moments are never whole on one device.
        jax.jit(create_state, out_shardings=shardings),
        step,
        # Compiled, so that the zeros are sharded as the step's own sums: else the step that follows
        # a log line would be compiled again.
        jax.jit(train_state.RunningMetrics.zeros, out_shardings=shardings.step),
    )
