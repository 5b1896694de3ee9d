"""Optimisers under T5X: one of T5X's or of ours in; one that moves the trainable parameters out.

T5X differentiates every parameter. What is done with the gradients decides what they cost: those
that nobody reads XLA removes from the compiled step, and with them the products that only they
need. So `TrainableOnly` hands the trainable part of parameters and gradients to another optimiser
and the frozen part on as it is. There is no state for the frozen part either, not even an empty
one: Orbax writes no empty nodes, and a run whose state has some cannot be resumed.

Source: t5x/optimizers.py, for the interface; its MultiOptimizer is the one that cannot resume.
"""

from __future__ import annotations

from typing import Any

import flax.core
import optax
from t5x import optimizers as base

from hyperdecoders_jax.training import optimizer as optimizer_lib
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.training.optimizer import OptimizerConfig
from hyperdecoders_jax.training.schedules import Schedule, ScheduleConfig
from hyperdecoders_jax.training.trainable import TrainableConfig
from hyperdecoders_jax.types import Params


class TrainableOnly(base.OptimizerDef):
    """Another optimiser, for the trainable parameters alone.

    Do not bind T5X's `trainer.WeightMetricsComputer` beside it: it reads the gradients of all
    parameters, and so brings back what this saves.

    Attributes:
        optimizer_def: T5X's Adafactor, or an optax transformation in `Optax`.
        trainable: which parameters are trained.
    """

    def __init__(self, optimizer_def: base.OptimizerDef, trainable: TrainableConfig):
        # Not the base class's: what it would store, `hyper_params`, changes in `set_param_axes`.
        self.optimizer_def = optimizer_def
        self.trainable = trainable

    @property
    def hyper_params(self) -> Any:
        return self.optimizer_def.hyper_params

    def init_state(self, params: Params) -> base.OptimizerState:
        return self.optimizer_def.init_state(self._trained(params))

    def apply_gradient(
        self, hyper_params: Any, params: Params, state: base.OptimizerState, grads: Params
    ) -> tuple[Params, base.OptimizerState]:
        """Returns all parameters, of which the trainable ones have moved, and the new state."""
        trained, frozen = trainable_lib.split(params, self.trainable)
        moved, state = self.optimizer_def.apply_gradient(
            hyper_params, trained, state, self._trained(grads)
        )
        merged = trainable_lib.merge(moved, frozen)
        # The step's output must be of the type of its input.
        is_frozen_dict = isinstance(params, flax.core.FrozenDict)
        return (flax.core.freeze(merged) if is_frozen_dict else merged), state

    def set_param_axes(self, param_axes: Params) -> None:
        """Lets T5X's Adafactor derive from logical axes along which axes it factors."""
        if hasattr(self.optimizer_def, "set_param_axes"):
            self.optimizer_def.set_param_axes(self._trained(param_axes))

    def derive_logical_axes(self, optimizer: base.Optimizer, param_axes: Params) -> base.Optimizer:
        """Returns `optimizer` with the logical axes of each array in its place."""
        trained = base.Optimizer(
            self.optimizer_def, optimizer.state, self._trained(optimizer.target)
        )
        axes = self.optimizer_def.derive_logical_axes(trained, self._trained(param_axes))
        return optimizer.replace(target=param_axes, state=axes.state)

    def state_dict(self, target: Params, state: base.OptimizerState) -> dict:
        return self.optimizer_def.state_dict(target, state)

    def restore_state(self, opt_target: Params, opt_state: base.OptimizerState, state_dict: dict):
        return self.optimizer_def.restore_state(opt_target, opt_state, state_dict)

    def _trained(self, tree: Params) -> dict:
        return trainable_lib.split(tree, self.trainable)[0]


class Optax(base.OptaxWrapper):
    """Any optax transformation; T5X's own wrapper takes some, and not Adafactor.

    An array of its state that has a parameter's shape lies as the parameter does; counts and
    factored moments are replicated. As with T5X's wrapper, the rate that T5X's trainer logs is not
    the one that is used: bind its `learning_rate_fn` to `learning_rate`.
    """

    def derive_logical_axes(self, optimizer: base.Optimizer, param_axes: Params) -> base.Optimizer:
        """Returns `optimizer` with the logical axes of each array in its place."""

        def like_param(leaf, param, axes):
            return axes if leaf.shape == param.shape else None

        axes = optax.tree_utils.tree_map_params(
            self.optax_optimizer,
            like_param,
            optimizer.state.param_states,
            optimizer.target,
            param_axes,
            transform_non_params=lambda _: None,
        )
        return optimizer.replace(
            target=param_axes, state=base.OptimizerState(step=None, param_states=axes)
        )


def make_optimizer(
    config: OptimizerConfig, schedule: ScheduleConfig, num_train_steps: int
) -> Optax:
    """Returns the optimiser of our own runner for T5X.

    Args:
        config: the macro OPTIMIZER.
        schedule: the macro SCHEDULE.
        num_train_steps: updates of the run, as the schedule counts them.
    """
    return Optax(optimizer_lib.make_optimizer(config, schedule.make(num_train_steps)))


def learning_rate(schedule: ScheduleConfig, num_train_steps: int) -> Schedule:
    """Returns the rate at each step, as T5X's trainer takes it to log."""
    return schedule.make(num_train_steps)
