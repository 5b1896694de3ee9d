"""Stopping a run early by a signal, after a step or in the middle of an evaluation.

One process: SIGTERM (a cloud machine that is taken back), SIGHUP (a terminal that is closed, unless
nohup ignores it) or SIGINT (Ctrl-C) asks for a stop after the step in progress; a second SIGINT
interrupts at once. Several processes must stop after the same step: JAX's preemption service
arranges that when any of them gets SIGTERM, whose handler it owns; SIGHUP is passed on as one. A
machine that is taken back may not wait for the end of an evaluation, so a single process aborts it;
the next start repeats it. (clu has nothing of the kind.)
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Self

import jax
from jax.experimental import multihost_utils


class StopAsked(BaseException):
    """Raised to abort an evaluation. A BaseException: `except Exception` must not catch it."""


class StopSignals:
    """Context manager that notes signals asking for a stop."""

    def __init__(self):
        self._is_asked = False
        self._is_interrupting = False
        self._before = {}

    def __enter__(self) -> Self:
        # Python takes signal handlers in the main thread only.
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main:
            return self
        handlers = dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), self._note)
        if jax.process_count() > 1:
            handlers = {signal.SIGHUP: _pass_on}
        for number, handler in handlers.items():
            is_nohup = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
            if not is_nohup:
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        # What is around a run shall end, too, even if the run was at its end when the signal came.
        around = getattr(self._before.get(signal.SIGTERM), "__self__", None)
        if self._is_asked and isinstance(around, StopSignals):
            around._note(signal.SIGTERM, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._is_asked = True
        if number == signal.SIGINT:  # The next one interrupts at once.
            signal.signal(signal.SIGINT, self._before[signal.SIGINT])
        if self._is_interrupting:
            # Python runs handlers between bytecodes, so an XLA call in progress ends first.
            raise StopAsked

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Lets a signal abort the work inside by raising `StopAsked`; in a single process only."""
        self._is_interrupting = True
        try:
            if self._is_asked:
                raise StopAsked
            yield
        finally:
            self._is_interrupting = False

    def is_stop_asked(self, step: int) -> bool:
        """Whether the run must stop after `step`; the same in all processes, and all must ask."""
        if jax.process_count() > 1:
            # A step that no process has passed: JAX agrees on it when one of them gets the signal.
            return multihost_utils.reached_preemption_sync_point(step)
        return self._is_asked


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Lets a signal end the work inside without an error; a function so decorated returns None."""
    with contextlib.suppress(StopAsked), StopSignals() as signals, signals.interrupting():
        yield


def _pass_on(number: int, frame: FrameType | None) -> None:
    """Sends this process the signal that JAX's preemption service takes."""
    del number, frame
    os.kill(os.getpid(), signal.SIGTERM)
