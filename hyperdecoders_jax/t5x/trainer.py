"""T5X's trainer with a checkpoint when the machine is taken back, and with rounded frozen weights.

T5X writes a checkpoint when its trainer raises `PreemptionError`, but nothing in T5X raises it.
Here a signal that asks for a stop does, after the step in progress, in all processes after the same
one; see `training.stop_signals`. The same command continues.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.core
from absl import logging
from jaxtyping import Array
from t5x import trainer as base
from t5x.train_state import TrainState

from hyperdecoders_jax.training import stop_signals
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.training.trainable import TrainableConfig


class Trainer(base.Trainer):
    """T5X's; with `trainable`, the parameters that are not trained are of `frozen_dtype`."""

    def __init__(
        self,
        *args: Any,
        train_state: TrainState | None,
        trainable: TrainableConfig | None = None,
        frozen_dtype: str = "float32",
        **kwargs: Any,
    ):
        # Here, whether they were drawn, read or restored: T5X itself knows float32 alone.
        if train_state is not None and trainable is not None:
            trained, frozen = trainable_lib.split(train_state.params, trainable)
            frozen = trainable_lib.cast_frozen(frozen, frozen_dtype)
            merged = flax.core.freeze(trainable_lib.merge(trained, frozen))
            train_state = train_state.replace_params(merged)
        super().__init__(*args, train_state=train_state, **kwargs)
        self._newest_state = None
        self._entered = contextlib.ExitStack()
        self._signals = self._entered.enter_context(stop_signals.StopSignals())

    def close(self) -> None:
        """Ends T5X's writers, and gives the signals back."""
        self._entered.close()
        super().close()

    def compile_train(self, batch: Mapping[str, Array]) -> None:
        """Compiles the step so that its newest state is kept."""
        super().compile_train(batch)
        step = self._compiled_train_step

        # T5X's loop holds the state in a local variable, which is lost when the loop is left.
        def noted_step(state, batch):
            self._newest_state, metrics = step(state, batch)
            return self._newest_state, metrics

        self._compiled_train_step = noted_step

    def train(
        self,
        batch_iter: Iterator[Mapping[str, Array]],
        num_steps: int,
        start_step: int | None = None,
    ) -> base.ArrayMapFuture:
        """Makes steps; if asked to stop, raises PreemptionError with the last `train_state`."""
        start_step = int(self.train_state.step if start_step is None else start_step)
        try:
            summary = super().train(
                self._until_asked(batch_iter, start_step), num_steps, start_step
            )
        except _Asked:
            self.train_state = self._newest_state
        else:
            # Asked in the last step of this call, after which no batch was wanted.
            if not self._signals.is_stop_asked(start_step + num_steps):
                return summary
        logging.info("A stop was asked for; saving at step %d.", int(self.train_state.step))
        raise base.PreemptionError

    def _until_asked(
        self, batches: Iterator[Mapping[str, Array]], step: int
    ) -> Iterator[Mapping[str, Array]]:
        """Yields the batches of the steps after `step`, until a stop is asked for."""
        # T5X's loop cannot be left between steps but by its iterator of batches.
        while True:
            yield next(batches)
            step += 1
            if self._signals.is_stop_asked(step):
                raise _Asked


class _Asked(Exception):  # noqa: N818 (it is no error)
    """Raised to leave T5X's loop."""
