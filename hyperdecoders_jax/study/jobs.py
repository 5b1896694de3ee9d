"""The processes of `compare --jobs`, which share the runs of a comparison."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from hyperdecoders_jax.training import stop_signals


@contextlib.contextmanager
def helped_by(helpers: Sequence[Any]) -> Iterator[None]:
    """Starts and ends the processes of --jobs.

    A signal ends the work inside by `StopAsked`, once they have saved.
    """
    started = []
    with stop_signals.StopSignals() as signals:
        try:
            for helper in helpers:
                helper.start()
                started.append(helper)
            with signals.interrupting():
                yield
        finally:
            for helper in started:
                helper.terminate()  # Which a run takes as it takes any SIGTERM.
            for helper in started:
                helper.join()


def join(helpers: Sequence[Any], folder: str) -> None:
    """Waits for the processes of --jobs, and tells which failed."""
    for number, helper in enumerate(helpers, 1):
        helper.join()
        if helper.exitcode:
            print(
                f"Mind: process {number} of --jobs failed with exit code {helper.exitcode}; see "
                f"{log_path(folder, number)}. Its runs are made here.",
                file=sys.stderr,
            )


def begin(folder: str, number: int) -> None:
    """What a process of --jobs does first: it prints to its log, and ends with the command."""
    threading.Thread(target=_end_with_command, daemon=True).start()
    print_to(log_path(folder, number))


def log_path(folder: str, number: int) -> str:
    """Where the process of a number prints."""
    return f"{folder}/job-{number}.log"


def print_to(path: str) -> None:
    """Appends what this process prints to a file, which stays open for the last traceback."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    sys.stderr = sys.stdout = open(path, "a")  # noqa: SIM115


def _end_with_command() -> None:
    """Ends this process with the command, however that ends: else it would hold locks of runs."""
    multiprocessing.parent_process().join()
    os._exit(1)
