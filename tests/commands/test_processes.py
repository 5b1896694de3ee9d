"""Where one process of a run ends, the others say so and end; each test starts processes."""

import os
import signal
import socket
import subprocess
import time

import pytest

from tests import warm_python

WORK = """
import os, sys, time
import jax, numpy as np
from hyperdecoders_jax.commands import main, processes
processes.PERIOD_SECS = 0.2
address, index, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if how == "mute" and index:
    processes._Watch.say = lambda *_: None

def work():
    processes.join(coordinator_address=address, num_processes=2, process_id=index)
    from jax.experimental import multihost_utils
    for step in range(10_000):
        multihost_utils.process_allgather(np.int32(step))
        if step == 2:
            print("works", os.getpid(), flush=True)
            if how == "done":
                return 0
            if how == "fails" and index:
                raise ValueError("The second must not fail; it did. Mend it.")
        time.sleep(0.05)

main.leave(processes.run(lambda: main._guarded(work, False)))
"""


def start(how):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    return [
        subprocess.Popen(
            [*warm_python.COMMAND, "-c", WORK, address, str(index), how],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip


def end(processes):
    for process in processes:
        process.kill()
        process.communicate()


# SIGSTOP is as a machine that is gone: its connections stay open, and nothing comes.
@pytest.mark.parametrize(
    ("killed", "by", "how"),
    [
        (0, "SIGKILL", "works"),
        (0, "SIGSTOP", "works"),
        (1, "SIGKILL", "works"),
        (1, "SIGKILL", "mute"),  # Killed before its first sign of life.
    ],
)
def test_where_one_is_killed_the_other_says_so_and_ends(killed, by, how):
    processes = start(how)
    try:
        pids = []
        for process in processes:  # Gloo prints lines of its own.
            line = next(line for line in process.stdout if line.startswith("works"))
            pids.append(int(line.split()[1]))
        before = time.monotonic()
        os.kill(pids[killed], getattr(signal, by))
        _, told = processes[1 - killed].communicate(timeout=60)
        assert time.monotonic() - before < 40
        assert processes[1 - killed].returncode == 2
        assert f"process {killed} ended; start all again." in told
        for words in ("stack trace", "terminat", "coordination"):
            assert words not in told
    finally:
        end(processes)


def test_where_one_fails_it_says_why_and_the_other_that_it_did():
    processes = start("fails")
    try:
        (_, first), (_, second) = (process.communicate(timeout=60) for process in processes)
        assert [process.returncode for process in processes] == [2, 2]
        assert "The second must not fail; it did. Mend it." in second
        assert "process 1 ended; start all again. Its own output says why." in first
    finally:
        end(processes)


def test_processes_that_are_done_end_without_a_word():
    processes = start("done")
    try:
        outputs = [process.communicate(timeout=60) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], outputs
        assert "ended" not in "".join(told for _, told in outputs)
    finally:
        end(processes)
