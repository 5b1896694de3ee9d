"""One process at a time writes a run; what dead processes leave is taken over."""

import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest

from hyperdecoders_jax.training import run_lock
from tests import warm_python

ELSEWHERE = run_lock.Holder("another_host", "", 7, "2026-01-01 00:00:00+00:00")
# A process that holds the lock of a file, without the seconds that jax takes.
HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def write(folder, holder, age=0.0):
    folder.mkdir(exist_ok=True)
    path = folder / run_lock.FILE
    path.write_text(json.dumps(dataclasses.asdict(holder)))
    os.utime(path, (time.time() - age,) * 2)


def here(pid):
    return dataclasses.replace(run_lock._here(), pid=pid)


def test_a_run_is_written_by_one_and_what_was_made_goes(tmp_path):
    model_dir = tmp_path / "runs" / "model"
    with run_lock.held(model_dir):
        message = rf"{model_dir} is being written by process {os.getpid()} on .*\. Wait for it, "
        with pytest.raises(ValueError, match=message):
            run_lock.held(model_dir).__enter__()
        with pytest.raises(ValueError, match="One process at a time must write a run"):
            run_lock.check_free(model_dir)
        assert json.loads((model_dir / run_lock.FILE).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    run_lock.check_free(model_dir)


def test_a_lock_may_be_held_to_the_end_of_the_process(tmp_path):
    code = (
        "import sys; from hyperdecoders_jax.training import run_lock\n"
        "for _ in range(2): run_lock.hold_to_the_end(sys.argv[1])\n"
        "assert (run_lock.epath.Path(sys.argv[1]) / run_lock.FILE).exists()\n"
    )
    subprocess.run([*warm_python.COMMAND, "-c", code, tmp_path / "model"], check=True)
    assert list(tmp_path.iterdir()) == []
    with run_lock.held(tmp_path / "model"):
        run_lock.hold_to_the_end(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_stays_after_an_error_too(tmp_path):
    def fail():
        with run_lock.held(tmp_path / "model"):
            (tmp_path / "model" / "file").write_text("")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["file"]


def test_a_lock_ends_with_its_process(tmp_path, caplog):
    write(tmp_path, here(pid=2**22 + 1))
    command = [sys.executable, "-c", HOLD, str(tmp_path / run_lock.FILE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        # Whatever the file says of it: it lives.
        os.utime(tmp_path / run_lock.FILE, (0, 0))
        with pytest.raises(ValueError, match="being written by process 4194305 on"):
            run_lock.check_free(tmp_path)
        process.kill()
    with run_lock.held(tmp_path):
        assert "process 4194305 on" in caplog.text
        assert "has ended" in caplog.text


def test_a_lock_of_another_machine_counts_while_it_is_touched(tmp_path):
    write(tmp_path, ELSEWHERE, age=20.0)
    with pytest.raises(
        ValueError,
        match=r"process 7 on another_host, begun .* last heard of \d+ s ago.*again 300 s after its",
    ):
        run_lock.check_free(tmp_path)
    write(tmp_path, ELSEWHERE, age=run_lock.STALE_SECS + 1)
    run_lock.check_free(tmp_path)


def test_a_disk_without_locks_asks_for_the_process(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "_lock", lambda file: None)
    write(tmp_path, here(pid=os.getppid()))
    with pytest.raises(ValueError, match=f"being written by process {os.getppid()} on"):
        run_lock.check_free(tmp_path)
    # Another process has that number by now.
    write(tmp_path, here(pid=os.getppid()), age=run_lock.STALE_SECS + 1)
    run_lock.check_free(tmp_path)
    write(tmp_path, here(pid=2**22 + 1))
    run_lock.check_free(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3}', '{"pid": -1}', "[" * 100_000])
def test_a_lock_that_nobody_can_read_is_nobody_s(tmp_path, content):
    (tmp_path / run_lock.FILE).write_text(content)
    run_lock.check_free(tmp_path)


def test_a_holder_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "RENEWAL_SECS", 0.01)
    with run_lock.held(tmp_path):
        path = tmp_path / run_lock.FILE
        os.utime(path, (0, 0))
        end = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/run/lock.json must be written; .*: Not a directory"):
        run_lock.held(tmp_path / "file" / "run").__enter__()
