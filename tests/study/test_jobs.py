"""Processes of --jobs: what they print is kept, they save, and none is left behind."""

import multiprocessing
import subprocess
import sys

import pytest

from hyperdecoders_jax.study import jobs


def test_a_process_of_jobs_that_fails_is_told_with_its_log(tmp_path, capsys):
    log = jobs.log_path(str(tmp_path), 1)
    failing = (
        f"from hyperdecoders_jax.study import jobs; jobs.print_to({log!r}); 1 / 0",
        "pass",
    )
    spawn = multiprocessing.get_context("spawn")
    helpers = [spawn.Process(target=exec, args=(line,)) for line in failing]
    for helper in helpers:
        helper.start()
    jobs.join(helpers, str(tmp_path))
    told = capsys.readouterr().err
    assert f"process 1 of --jobs failed with exit code 1; see {log}." in told
    assert "process 2" not in told
    assert "ZeroDivisionError" in (tmp_path / "job-1.log").read_text()


SAVING = """
import multiprocessing, os, signal, sys, time
from hyperdecoders_jax.study import jobs
from hyperdecoders_jax.training import stop_signals

def work(queue):
    with stop_signals.StopSignals() as signals:
        queue.put("begun")
        while not signals.is_stop_asked(0):
            time.sleep(0.1)
    open("saved", "w")

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.SimpleQueue()
    helpers = [spawn.Process(target=work, args=(queue,))]
    try:
        with jobs.helped_by(helpers):
            print(queue.get(), flush=True)
            jobs.join(helpers, ".")
    except stop_signals.StopAsked:
        print("stopped")
"""


def test_processes_of_jobs_save_when_the_command_waits_for_them_and_is_stopped(tmp_path):
    (tmp_path / "script.py").write_text(SAVING)
    command = [sys.executable, "script.py"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=tmp_path, text=True, **streams)
    assert process.stdout.readline() == "begun\n"
    process.terminate()
    printed, told = process.communicate(timeout=60)
    assert (process.returncode, printed) == (0, "stopped\n"), told
    assert (tmp_path / "saved").exists()


class Helper:
    """A process that starts, or does not."""

    def __init__(self, error=None):
        self.error, self.calls = error, []

    def start(self):
        if self.error is not None:
            raise self.error

    def terminate(self):
        self.calls.append("terminate")

    def join(self):
        self.calls.append("join")


def test_a_process_that_cannot_start_is_told_and_the_others_end():
    helpers = [Helper(), Helper(BlockingIOError("no more processes")), Helper()]
    with pytest.raises(BlockingIOError, match="no more processes"), jobs.helped_by(helpers):
        pass
    assert [helper.calls for helper in helpers] == [["terminate", "join"], [], []]


SCRIPT = """
import multiprocessing, threading, time
from hyperdecoders_jax.study import jobs

def work(queue):
    threading.Thread(target=jobs._end_with_command, daemon=True).start()
    queue.put("begun")
    time.sleep(600)

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.SimpleQueue()
    spawn.Process(target=work, args=(queue,)).start()
    print(queue.get(), flush=True)
    time.sleep(600)
"""


def test_processes_of_jobs_end_with_a_command_that_is_killed(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    process.kill()
    # Its end comes when no process has the other end open.
    assert process.communicate(timeout=60)[0] == ""
