"""Several processes of one run: where one ends, the others say so and end, too.

JAX tells it after 100 s, or at once where process 0 is gone, which serves the others; either way
with a stack of C++. So each process gives a sign of life every few seconds and says how it ended,
and a relay stands between JAX's client and process 0, since that client ends the process as soon
as its connection closes.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

PERIOD_SECS = 2.0  # Of signs of life.
SILENT_PERIODS = 20  # Without a sign for so many, a process has ended.
_CHUNK_BYTES = 1 << 16
_KEY = "hyperdecoders_jax/signs"
_ENDED, _DONE = "ended", "done"
# Words of errors in what processes do together.
_OF_OTHERS = r"(?i)gloo|nccl|unavailable|deadline|coordination|peer|socket closed"
# Of this process, once it has joined others.
_watch: _Watch | None = None


def join(**flags: Any) -> None:
    """Joins the other processes of a run, and watches them; `flags` of jax.distributed."""
    import jax
    from jax._src import distributed

    global _watch
    lib = distributed._jax  # Not public: JAX lets nobody say how its client reaches process 0.
    connected = lib.get_distributed_runtime_client
    relays = []

    def connected_by_relay(address: str, *args: Any, **options: Any) -> Any:
        relays.append(_Relay(address))
        return connected(relays[0].address, *args, **options)

    lib.get_distributed_runtime_client = connected_by_relay
    try:
        jax.distributed.initialize(**flags)
    finally:
        lib.get_distributed_runtime_client = connected
    state = distributed.global_state
    if state.num_processes > 1:
        _watch = _Watch(state.client, state.process_id, state.num_processes, relays[0])


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
            _watch.await_news()
        raise


class _Relay:
    """Carries what JAX's client and process 0 say to each other, and notices where the latter ends.

    JAX calls no function of Python's then, in spite of its client's `missed_heartbeat_callback`:
    its argument, a status, has no Python type, which ends the process as well.
    """

    def __init__(self, address: str):
        host, _, port = address.rpartition(":")
        self._far_address = host.strip("[]"), int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.has_heard = False  # Since the watch asked last.
        self.on_end: Callable[[], None] | None = None
        _start(self._accept)

    def _accept(self) -> None:
        while True:
            _start(self._connect, self._listener.accept()[0])

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._far_address)
        except OSError:  # Not there yet: JAX tries again.
            near.close()
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        is_closed_here = threading.Event()
        _start(_send, near, far, is_closed_here)
        with contextlib.suppress(OSError):
            while data := far.recv(_CHUNK_BYTES):
                self.has_heard = True
                near.sendall(data)
        if self.on_end is not None and not is_closed_here.is_set():
            self.on_end()
        near.close()


class _Watch:
    """Gives signs of life of this process, and ends it where another one has ended."""

    def __init__(self, client: Any, index: int, num_processes: int, relay: _Relay):
        self._client, self._index, self._relay = client, index, relay
        self._num_processes = num_processes
        self._stopped, self._count = threading.Event(), 0
        relay.on_end = lambda: self._tell(0)
        _start(self._listen)
        self._thread = _start(self._run)

    def say(self, sign: str) -> None:
        """Tells the others."""
        self._client.key_value_set(f"{_KEY}/{self._index}", sign, allow_overwrite=True)

    def stop(self) -> None:
        """Ends the watch of a process that is done."""
        self._stopped.set()
        self._thread.join()
        self.say(_DONE)

    def await_news(self) -> None:
        """Waits for as long as an end goes unnoticed; if there was one, this process ends."""
        end = self._count + SILENT_PERIODS + 3
        while self._count < end:
            time.sleep(PERIOD_SECS)

    def _run(self) -> None:
        """Compares the others' signs; counts periods of its own, as all may have been suspended."""
        # Others may end before their first sign.
        heard = {f"{_KEY}/{index}": ("", 0) for index in range(self._num_processes)}
        while not self._stopped.wait(PERIOD_SECS):
            self._count += 1
            try:
                self.say(str(self._count))
                signs = dict(self._client.key_value_dir_get(_KEY))
            except Exception:  # Process 0 is gone: the relay notices.
                continue
            count = self._count
            for key, (before, since) in heard.items():
                sign = signs.get(key, "")
                heard[key] = (sign, since if sign == before else count)
                is_silent = count - heard[key][1] > SILENT_PERIODS and sign != _DONE
                if sign == _ENDED or is_silent:
                    why = " Its own output says why." if sign == _ENDED else ""
                    self._tell(int(key.rpartition("/")[2]), why)

    def _listen(self) -> None:
        """Counts the periods without an answer of process 0, whose machine may be gone."""
        silent = 0
        while not self._stopped.wait(PERIOD_SECS):
            silent = 0 if self._relay.has_heard else silent + 1
            self._relay.has_heard = False
            if silent > SILENT_PERIODS:
                self._tell(0)

    def _tell(self, index: int, why: str = "") -> None:
        if self._stopped.is_set():
            return
        print(
            "hyperdecoders: error: All processes of a run must live; "
            f"process {index} ended; start all again.{why}",
            file=sys.stderr,
        )
        _exit(2)


def _start(call: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=call, args=args, daemon=True)
    thread.start()
    return thread


def _send(near: socket.socket, far: socket.socket, is_closed_here: threading.Event) -> None:
    """Sends what JAX's client says, until that closes its connection."""
    with contextlib.suppress(OSError):
        while data := near.recv(_CHUNK_BYTES):
            far.sendall(data)
        is_closed_here.set()
        far.shutdown(socket.SHUT_WR)


def _exit(code: int) -> NoReturn:
    """Ends this process without waiting for the others, as JAX does."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
