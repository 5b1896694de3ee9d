"""When to stop before the end: signals in, one question answered after each step.

One process: SIGTERM (a cloud machine that is taken back) or SIGINT (Ctrl-C) asks for a stop after
the step in progress; a second SIGINT interrupts at once. Several processes must stop after the same
step, which JAX's preemption service arranges when any of them gets SIGTERM; it has the signal's
handler then.

An evaluation may take longer than a machine that is taken back waits, so that of a single process
is left in its middle; the next start makes it up.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Self

import jax
from jax.experimental import multihost_utils


class StopAsked(BaseException):
    """Leaves what `StopSignals.interrupting` surrounds; no error, as KeyboardInterrupt is none."""


class StopSignals:
    """While entered, notes signals that ask for a stop."""

    def __init__(self):
        self._is_asked = False
        self._is_interrupting = False
        self._before = {}

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._is_asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._before[signal.SIGINT])
        if self._is_interrupting:
            raise StopAsked

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Surrounds work that a signal leaves by raising `StopAsked`; in a single process alone."""
        self._is_interrupting = True
        try:
            if self._is_asked:
                raise StopAsked
            yield
        finally:
            self._is_interrupting = False

    def is_stop_asked(self, step: int) -> bool:
        """Tells whether the run shall stop after `step`; the same in all processes."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._is_asked
