"""The lock of a model directory: one process at a time writes a run.

    <model_dir>/lock.json   who writes: host, process, since when; touched every few seconds

On one machine the system's lock of that file (flock) ends with its holder, however that ends. It
does not reach buckets, nor other machines on every disk: a holder elsewhere counts as alive while
it has touched the file lately. (filelock's locks know no age.)
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator

import jax
from absl import logging
from etils import epath

from hyperdecoders_jax import files

FILE = "lock.json"
RENEWAL_SECS = 15.0
# A lock elsewhere that was not touched for so long is of a dead process; clocks may differ a bit.
STALE_SECS = 300.0
# What a disk without the system's locks says.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
# Model directories whose locks this process has.
_OWN: set[str] = set()
_STARTED = datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds")


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who writes a run."""

    host: str
    boot: str  # Tells machines and containers of one name apart, and their starts.
    pid: int
    since: str  # When the process began.

    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine and container."""
        here = _here()
        return (self.host, self.boot) == (here.host, here.boot)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, begun {self.since},"


@contextlib.contextmanager
def held(model_dir: str | os.PathLike) -> Iterator[None]:
    """Holds the lock of a model directory, in process 0 of a run; makes the directory if need be.

    It removes what it made, unless something else was written there. ValueError if a living
    process has the lock, OSError if it cannot be written.
    """
    if jax.process_index():
        yield
        return
    path = epath.Path(model_dir) / FILE
    with files.writing(path):
        made = files.make_folder(path.parent)
    with contextlib.ExitStack() as stack:
        stack.callback(files.remove_empty, made)
        if "://" in os.fspath(path):
            _take_remote(path)
        else:
            stack.callback(os.close, _take_local(path))
        stack.callback(_remove, path)
        own = _identify(model_dir)
        _OWN.add(own)
        stack.callback(_OWN.discard, own)
        ended = threading.Event()
        renewal = threading.Thread(target=_renew, args=(path, ended), daemon=True)
        renewal.start()
        stack.callback(renewal.join)
        stack.callback(ended.set)
        yield


def hold_to_the_end(model_dir: str | os.PathLike) -> None:
    """Holds the lock until the process ends, which may have it already; raises like `held`.

    For T5X's scripts, which do not say when a run has ended.
    """
    if _identify(model_dir) in _OWN:
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(held(model_dir))
        atexit.register(stack.pop_all().close)


def check_free(model_dir: str | os.PathLike) -> None:
    """Raises ValueError if a living process writes a run in `model_dir`."""
    if (epath.Path(model_dir) / FILE).exists():
        with held(model_dir):
            pass


def _identify(model_dir: str | os.PathLike) -> str:
    path = os.fspath(model_dir)
    return path if "://" in path else os.path.realpath(path)


def _take_local(path: epath.Path) -> int:
    """Takes the lock; returns the open file that holds the system's."""
    while True:
        with files.writing(path):
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            is_ours = _lock(file)
            _check_holder(path, is_ours)
            if is_ours is False:
                raise _taken(path, "another process", "")
            if _is_at(file, path):
                with files.writing(path):
                    os.truncate(file, 0)
                    os.pwrite(file, _own(), 0)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # The holder of before has just removed it.


def _lock(file: int) -> bool | None:
    """Takes the system's lock; False if another process has it, None where the disk has none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _is_at(file: int, path: epath.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _take_remote(path: epath.Path) -> None:
    """Takes the lock in a bucket, where of several writers the last wins."""
    _check_holder(path, is_ours=None)
    with files.writing(path):
        path.write_bytes(_own())
    time.sleep(1.0)
    if (holder := _holder(path)) not in (None, _here()):
        raise _taken(path, str(holder), "")


def _check_holder(path: epath.Path, is_ours: bool | None) -> None:
    """Raises ValueError if the holder in a lock's file lives; `is_ours` as of `_lock`."""
    holder = _holder(path)
    if holder is None:
        return
    if is_ours is False:
        raise _taken(path, str(holder), "")
    age = time.time() - path.stat().mtime
    if not (holder.is_here() and (is_ours or not _is_running(holder.pid))) and age < STALE_SECS:
        advice = f" If it is dead, start again {STALE_SECS:.0f} s after its last sign."
        raise _taken(path, f"{holder} last heard of {max(age, 0):.0f} s ago", advice)
    logging.warning("Taking over the run in %s: %s has ended.", path.parent, holder)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # Of another user.
        pass
    return pid != os.getpid()


def _taken(path: epath.Path, holder: str, advice: str) -> ValueError:
    return ValueError(
        f"One process at a time must write a run; {path.parent} is being written by "
        f"{holder.rstrip(',')}. Wait for it, stop it, or name another --model_dir.{advice}"
    )


def _holder(path: epath.Path) -> Holder | None:
    """Who a lock's file names; None where there is none, or it cannot be read."""
    try:
        holder = Holder(**json.loads(path.read_bytes()))
        return holder if isinstance(holder.pid, int) and holder.pid > 0 else None
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _here() -> Holder:
    found = []
    with contextlib.suppress(OSError):  # Not on Linux.
        found.append(epath.Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        found.append(os.readlink("/proc/self/ns/pid"))
    return Holder(socket.gethostname(), " ".join(found), os.getpid(), _STARTED)


def _own() -> bytes:
    return json.dumps(dataclasses.asdict(_here())).encode()


def _remove(path: epath.Path) -> None:
    with contextlib.suppress(Exception):  # It may have been removed with its folder.
        path.unlink()


def _renew(path: epath.Path, ended: threading.Event) -> None:
    """Touches a lock until its run has ended."""
    while not ended.wait(RENEWAL_SECS):
        with contextlib.suppress(Exception):  # Its folder may be gone: the run will tell.
            if "://" in os.fspath(path):
                path.write_bytes(_own())
            else:
                os.utime(path)
