"""A trace of some steps of a run, for xprof: what devices and host do, and for how long.

TensorBoard's profile plugin and `xprof --logdir=RUN/tensorboard` show it.
"""

from __future__ import annotations

import os

import jax
from absl import logging


class Profiler:
    """Traces the steps `first` to `last`, counted from 1, of process 0.

    What a profiler cannot do ends no run: it is told.
    """

    def __init__(self, folder: str, steps: tuple[int, int] | None):
        self._folder = os.fspath(folder)
        self._first, self._last = steps if jax.process_index() == 0 and steps else (None, None)
        self._is_tracing = False

    def begin(self, step: int) -> None:
        """Is told the step that the run begins or continues at."""
        if self._first is not None and self._first <= step:
            logging.warning(
                "No trace of the steps is made: they must begin after step %d, at which the run "
                "continues; got %d to %d. Name later ones with --profile.",
                *(step, self._first, self._last),
            )

    def before(self, step: int, state: object) -> None:
        """Is told before a step starts, with the state that it starts from."""
        if step != self._first:
            return
        jax.block_until_ready(state)  # Steps before it are not traced.
        try:
            jax.profiler.start_trace(self._folder)
            self._is_tracing = True
        except Exception as error:
            logging.warning("No trace of the steps is made: %s", error)

    def after(self, step: int, state: object) -> None:
        """Is told after a step was started, with the state that it makes."""
        if step == self._last:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Writes the trace, if one is being made."""
        if not self._is_tracing:
            return
        self._is_tracing = False
        try:
            jax.profiler.stop_trace()
            logging.info("The trace is in %s", self._folder)
        except Exception as error:
            logging.warning("No trace of the steps was written: %s", error)
