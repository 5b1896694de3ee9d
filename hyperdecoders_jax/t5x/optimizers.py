"""T5X's optimisers, and ours under T5X, for the trainable parameters only.

T5X differentiates every parameter. But XLA removes gradients that nobody reads from the compiled
step, and with them the matrix products that only they need. So `TrainableOnly` gives another
optimiser the trainable part, and returns the frozen part unchanged, which has no state, not even an
empty one: Orbax writes no empty nodes, and a run whose state has some cannot be resumed.
Source: the interface is that of t5x/optimizers.py, whose MultiOptimizer cannot be resumed.
"""

from __future__ import annotations

from typing import Any

import flax.core
from t5x import optimizers as base

from hyperdecoders_jax.t5x import partitioning as t5x_partitioning
from hyperdecoders_jax.training import optimizer as optimizer_lib
from hyperdecoders_jax.training import partitioning
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.training.optimizer import OptimizerConfig
from hyperdecoders_jax.training.schedules import Schedule, ScheduleConfig
from hyperdecoders_jax.training.trainable import TrainableConfig
from hyperdecoders_jax.types import Params


class TrainableOnly(base.OptimizerDef):
    """Another optimiser (T5X's Adafactor, or `Optax`), for the trainable parameters alone.

    Do not use it with T5X's `trainer.WeightMetricsComputer`, which reads the gradients of all
    parameters, so that XLA computes them.
    """

    def __init__(self, optimizer_def: base.OptimizerDef, trainable: TrainableConfig):
        # Without the base class's constructor, whose `hyper_params` would be stale after
        # `set_param_axes`.
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
        """Returns all parameters, the trainable ones updated, and the new state."""
        # The frozen gradients are never read, which is what makes XLA drop them.
        trained, frozen = trainable_lib.split(params, self.trainable)
        moved, state = self.optimizer_def.apply_gradient(
            hyper_params, trained, state, self._trained(grads)
        )
        merged = trainable_lib.merge(moved, frozen)
        # T5X donates the state, so the output must have the same tree as the input.
        is_frozen_dict = isinstance(params, flax.core.FrozenDict)
        return (flax.core.freeze(merged) if is_frozen_dict else merged), state

    def set_param_axes(self, param_axes: Params) -> None:
        """Tells T5X's Adafactor the logical axes, from which it derives what it factors."""
        if hasattr(self.optimizer_def, "set_param_axes"):
            self.optimizer_def.set_param_axes(self._trained(param_axes))

    def derive_logical_axes(self, optimizer: base.Optimizer, param_axes: Params) -> base.Optimizer:
        """Returns `optimizer` with logical axes instead of arrays."""
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


def add_factor_rules(optimizer_def: base.OptimizerDef) -> None:
    """Tells T5X's Adafactor, also one in `TrainableOnly`, how new parameters are factored.

    Its own rules name T5's axes alone, and it looks up those of every parameter.
    """
    inner = getattr(optimizer_def, "optimizer_def", optimizer_def)
    rules = getattr(inner.hyper_params, "logical_factor_rules", None)
    if rules is not None:
        rules = {**t5x_partitioning.logical_factor_rules(), **rules}
        inner.hyper_params = inner.hyper_params.replace(logical_factor_rules=rules)


class Optax(base.OptaxWrapper):
    """Any optax transformation; T5X's own wrapper takes only some, and not Adafactor.

    As with T5X's wrapper, the rate that T5X's trainer logs is not the one that is used: bind its
    `learning_rate_fn` to `learning_rate`.
    """

    def derive_logical_axes(self, optimizer: base.Optimizer, param_axes: Params) -> base.Optimizer:
        """Returns `optimizer` with logical axes instead of arrays."""
        state = optimizer.state.param_states
        axes = partitioning.map_opt_state(
            self.optax_optimizer, state, optimizer.target, param_axes, None
        )
        return optimizer.replace(
            target=param_axes, state=base.OptimizerState(step=None, param_states=axes)
        )


def make_optimizer(
    config: OptimizerConfig, schedule: ScheduleConfig, num_train_steps: int
) -> Optax:
    """Returns the optimiser of our own runner, from the macros OPTIMIZER and SCHEDULE, for T5X."""
    return Optax(optimizer_lib.make_optimizer(config, schedule.make(num_train_steps)))


def learning_rate(schedule: ScheduleConfig, num_train_steps: int) -> Schedule:
    """Returns the rate at each step, for T5X's trainer to log."""
    return schedule.make(num_train_steps)
