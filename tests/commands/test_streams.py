"""Standard streams that are closed, or whose reader goes away."""

import errno
import io
import os
import subprocess
import sys

import pytest

from hyperdecoders_jax.commands import streams


def pipe_without_reader():
    read, write = os.pipe()
    os.close(read)
    return open(write, "w", encoding="utf-8")


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_stream_outlasts_its_reader(monkeypatch):
    with pipe_without_reader() as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        assert streams.is_broken(gone)
        with streams.lasting("stderr"):
            for _ in range(3):
                print("a line", file=sys.stderr, flush=True)
        assert sys.stderr is gone
        # Its number is the null device's now, so that Python's last flush does no harm.
        assert not streams.is_broken(gone)
        print("another", file=gone, flush=True)


def test_a_log_on_a_full_disk_loses_lines_and_nothing_else(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full())
    with streams.lasting("stdout"):
        print("a line")
        assert not sys.stdout.isatty()


def test_streams_that_work_are_passed_on(capsys):
    with streams.lasting("stdout", "stderr"):
        print("out")
        print("err", file=sys.stderr)
    assert capsys.readouterr() == ("out\n", "err\n")


CLOSED = """
import os, sys
from hyperdecoders_jax.commands import streams
streams.reopen_closed()
opened = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
print("lost"); print("lost", file=sys.stderr, flush=True); os.write(2, b"lost")
assert opened > 2 and not sys.stdin.isatty()
try:
    sys.stdin.read()
except ValueError as error:
    os.write(opened, str(error).encode())
"""


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    file = tmp_path / "file"
    command = f'"{sys.executable}" -c "$1" "$2" 0<&- 1>&- 2>&-'
    shell = ["sh", "-c", command, "sh", CLOSED, str(file)]
    assert subprocess.run(shell, timeout=60, check=False).returncode == 0
    assert file.read_text().startswith("Standard input must be open to be read; it is closed.")


def test_a_closed_input_says_so_however_it_is_read():
    for read in ("fileno", "read", "readline", "readlines", "__iter__"):
        with pytest.raises(ValueError, match="Standard input must be open to be read; it is clos"):
            getattr(streams._Closed(), read)()
    with pytest.raises(ValueError, match="Name a file in place of -"):
        streams._Closed().buffer  # noqa: B018
