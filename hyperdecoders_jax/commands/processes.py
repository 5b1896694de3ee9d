"""Several processes of one run: where one ends, the others say so and end, too.

JAX tells it after 100 s and with a stack of C++, or at once where process 0 is gone, since that
serves the others. So a process of its own serves them, and outlives process 0 for a while; through
it each process gives a sign of life every few seconds, and says how it ended.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

PERIOD_SECS = 2.0  # Of signs of life.
SILENCE_SECS = 40.0  # Without one for so long, a process has ended.
# The serving process lives so long after process 0: the others must have noticed.
LINGER_SECS = 50.0
_KEY = "hyperdecoders_jax/signs"
_ENDED, _DONE = "ended", "done"
# Words of errors in what processes do together.
_OF_OTHERS = r"(?i)gloo|nccl|unavailable|deadline|coordination|peer|socket closed"
_SERVE = """
import json, os, sys, time
from jaxlib import _jax
args, options, linger = json.loads(sys.argv[1])
service = _jax.get_distributed_runtime_service(*args, **options)
print("ready", flush=True)
if sys.stdin.read(1):
    service.shutdown()
else:
    time.sleep(linger)
os._exit(0)
"""
# Of this process, once it has joined others.
_watch: _Watch | None = None


def join(**flags: Any) -> None:
    """Joins the other processes of a run, and watches them; `flags` of jax.distributed."""
    import jax
    from jax._src import distributed

    global _watch
    lib = distributed._jax  # Not public: JAX lets nobody say who serves.
    served = lib.get_distributed_runtime_service
    lib.get_distributed_runtime_service = _Service
    try:
        jax.distributed.initialize(**flags)
    finally:
        lib.get_distributed_runtime_service = served
    state = distributed.global_state
    if state.num_processes > 1:
        _watch = _Watch(state.client, state.process_id)


def run(call: Callable[[], int]) -> int:
    """Calls a command; a process of several that fails ends at once, and the others hear of it."""
    try:
        code = call()
    except BaseException:
        if _watch is None:
            raise
        traceback.print_exc()
        code = 1
    if _watch is not None:
        if code:
            _watch.say(_ENDED)
            _exit(code)
        _watch.stop()
    return code


def watched(call: Callable[[], int]) -> int:
    """Calls `call`; where an error may come of another process's end, waits until that is known."""
    try:
        return call()
    except Exception as error:
        if _watch is not None and re.search(_OF_OTHERS, str(error)):
            time.sleep(SILENCE_SECS + 3 * PERIOD_SECS)  # The watch ends this process meanwhile.
        raise


class _Service:
    """What serves the processes, in a process of its own; for JAX, its own service."""

    def __init__(self, address: str, *args: Any, **options: Any):
        _wait_until_free(int(address.rpartition(":")[2]))
        given = json.dumps([[address, *args], options, LINGER_SECS])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for those that it serves.
        )
        if not self._process.stdout.readline():
            raise ValueError(
                f"Process 0 must serve the others at --coordinator_address; it could not at "
                f"{address}. Name another port."
            )

    def shutdown(self) -> None:
        self._process.communicate(b"q")


class _Watch:
    """Gives signs of life of this process, and ends it where another one has ended."""

    def __init__(self, client: Any, index: int):
        self._client, self._index = client, index
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def say(self, sign: str) -> None:
        """Tells the others."""
        self._client.key_value_set(f"{_KEY}/{self._index}", sign, allow_overwrite=True)

    def stop(self) -> None:
        """Ends the watch of a process that is done."""
        self._stopped.set()
        self._thread.join()
        self.say(_DONE)

    def _run(self) -> None:
        heard: dict[str, tuple[str, float]] = {}
        count = 0
        while not self._stopped.wait(PERIOD_SECS):
            count += 1
            try:
                self.say(str(count))
                signs = self._client.key_value_dir_get(_KEY)
            # Who serves is gone, with its machine: JAX ends this process.
            except Exception:
                continue
            now = time.monotonic()
            for key, sign in signs:
                before, since = heard.get(key, ("", now))
                heard[key] = (sign, since if sign == before else now)
                is_silent = now - heard[key][1] > SILENCE_SECS and sign != _DONE
                if (sign == _ENDED or is_silent) and not self._stopped.is_set():
                    index = key.rpartition("/")[2]
                    why = " Its own output says why." if sign == _ENDED else ""
                    print(
                        "hyperdecoders: error: All processes of a run must live; "
                        f"process {index} ended; start all again.{why}",
                        file=sys.stderr,
                    )
                    _exit(2)


def _wait_until_free(port: int) -> None:
    """Waits for the one that served a run before; two at one port would share the processes."""
    end = time.monotonic() + LINGER_SECS
    while time.monotonic() < end:
        with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
                return
            except OSError:
                time.sleep(0.5)


def _exit(code: int) -> NoReturn:
    """Ends this process without waiting for the others, as JAX does."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
