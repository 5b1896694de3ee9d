"""Standard streams that are closed, or whose reader goes away, without harm to the work.

A terminal is closed, `head` has its lines, the disk of a log is full: none of it may end a training
run, nor may a file that is opened later get the number of a closed stream, and be written to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO

# What a write says when nobody reads any more: a pipe, a terminal, a closed descriptor.
_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)
_NAMES = ("stdin", "stdout", "stderr")


class Lasting:
    """A text stream whose failing writes are dropped; all else is the stream's own."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self._stream.flush()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _GONE:
                silence(self._stream)


class _Closed:
    """A closed standard input: reading it is a ValueError that says so."""

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def _refuse(self, *_: Any) -> Any:
        raise ValueError(
            "Standard input must be open to be read; it is closed. Name a file in place of -, or "
            "give it something to read: … < FILE."
        )

    fileno = read = readline = readlines = __iter__ = __next__ = _refuse
    buffer = property(_refuse)


@contextlib.contextmanager
def lasting(*names: str) -> Iterator[None]:
    """Within it, writes to `sys.stdout` or `sys.stderr` (`names`) never fail."""
    before = {name: getattr(sys, name) for name in names}
    ours = {name: Lasting(open_null() if x is None else x) for name, x in before.items()}
    try:
        for name, stream in ours.items():
            setattr(sys, name, stream)
        yield
    finally:
        for name, stream in ours.items():
            if getattr(sys, name) is stream:  # Else a test or a notebook has put its own there.
                stream.flush()
                setattr(sys, name, before[name])


def reopen_closed() -> None:
    """Opens the null device in place of standard streams that are closed, as by `2>&-`.

    A closed standard input refuses to be read.
    """
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open_null() if number else _Closed())


def open_null() -> TextIO:
    """A stream that keeps nothing."""
    return open(os.devnull, "w", encoding="utf-8")


def silence(stream: TextIO) -> None:
    """Lets a stream write to the null device, and so lose what nobody reads, at exit, too."""
    # Streams in memory have no descriptor.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)


def is_broken(stream: TextIO) -> bool:
    """Whether a stream cannot be written; what was written to it is tried once more."""
    try:
        stream.flush()
    except OSError:
        return True
    # What a failed write has dropped is not tried again, so the pipe itself is asked.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        asked = select.poll()
        asked.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in asked.poll(0))
    return False
