"""A forked Python is to a test what one of its own would be."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests import warm_python


def run(command, code, *arguments, **options):
    command = [*command, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    return done.returncode, done.stdout, done.stderr.splitlines()[-1:]


@pytest.mark.parametrize(
    "code",
    [
        "import sys; print(sys.argv, sys.stdin.read(), __name__); print('e', file=sys.stderr)",
        "import sys; sys.exit(7)",
        "raise ValueError(3)",
        "import os; print(1, flush=True); os._exit(9)",
        "import os; os.kill(os.getpid(), 11)",
        "import atexit; atexit.register(print, 'asked'); print('first')",
        "import os; print(os.getcwd(), os.environ['OWN'], __import__('own').__file__)",
    ],
)
def test_it_ends_as_a_fresh_python_does(tmp_path, code):
    (tmp_path / "own.py").write_text("")
    options = dict(cwd=tmp_path, input="in", env={**os.environ, "OWN": "x"})
    fresh = run([sys.executable], code, "a", "b c", **options)
    assert run(warm_python.COMMAND, code, "a", "b c", **options) == fresh


def test_a_module_is_run(tmp_path):
    (tmp_path / "own.py").write_text("import sys; print(__name__, sys.argv[1:], sys.path[0])")
    command = [*warm_python.COMMAND, "-m", "own", "a"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"__main__ ['a'] {tmp_path}\n"


def test_each_has_its_own_devices_and_computes():
    code = "import jax, jax.numpy as jnp; print(len(jax.devices()), jnp.ones(3).sum())"
    for count in (1, 3):
        flags = f"--xla_force_host_platform_device_count={count}"
        code_and_output = run(warm_python.COMMAND, code, env={**os.environ, "XLA_FLAGS": flags})
        assert code_and_output[:2] == (0, f"{count} 3.0\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it(number):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"
    command = [*warm_python.COMMAND, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        forked = pathlib.Path("/proc", process.stdout.readline().decode().strip())
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
    end = time.monotonic() + 60
    while forked.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not forked.exists()


def test_what_was_read_at_import_cannot_be_changed():
    code, _, told = run(warm_python.COMMAND, "", env={**os.environ, "JAX_ENABLE_X64": "1"})
    assert code == 1
    assert "must be the session's" in told[0]
