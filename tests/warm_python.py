"""A Python that has imported TensorFlow, SeqIO, JAX and Flax, and forks for each command.

To import them takes longer than most of what our tests do in processes of their own. `COMMAND` is
used as `[sys.executable]` is: `[*COMMAND, "-m", "module", …]` or `[*COMMAND, "-c", code, …]`, with
`cwd`, `env` and pipes, and gives a real process: its exit code or signal, its output, its threads.

`COMMAND` starts a client, which imports nothing: it hands its arguments, environment and streams to
the server, passes on the signals that it gets, and ends as the forked process does. One that is
killed takes the forked one with it. A server that nobody asks imports nothing.

What is not the same: no thread or backend may be there before the fork, so JAX and TensorFlow see
XLA_FLAGS as ever, but `JAX_*` and `TF_*` were read when they were imported and must be the
session's. A test of what is imported needs a Python of its own: `sys.executable`.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys

SERVER = "HYPERDECODERS_JAX_WARM_PYTHON"  # Its socket.
COMMAND = [sys.executable, "-I", "-S", __file__]
PACKAGES = (
    "jax", "flax.linen", "optax", "orbax.checkpoint", "tensorflow", "seqio", "tensorflow_datasets",
    "gin", "clu.metric_writers", "jax.experimental.multihost_utils",
)  # fmt: skip
# Read while packages are imported, so that a forked process cannot have others.
READ_AT_IMPORT = ("JAX_", "TF_")
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_POLL_SECS = 0.02


def start_server(folder: str) -> subprocess.Popen:
    """Starts the server, whose socket is in `folder`; it ends with its input."""
    os.environ[SERVER] = os.path.join(folder, "warm_python")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.environ[SERVER])
        listener.listen()
        number = listener.fileno()
        return subprocess.Popen(
            [sys.executable, "-P", __file__, "serve", str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[number],
            start_new_session=True,
        )  # fmt: skip


def _client(arguments: list[str]) -> None:
    """Has a command run, and ends as it does."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ[SERVER])
    request = json.dumps([arguments, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
    connection.sendall(request)
    for number in _PASSED_ON:
        signal.signal(number, lambda number, _: connection.sendall(bytes([number])))
    told = connection.makefile().readline()
    if not told:
        sys.exit("The server of tests/warm_python.py must live; it ended.")
    status = int(told)
    if status < 0:  # As `subprocess` has it: a signal's number.
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _receive(connection: socket.socket) -> tuple[list[str], str, dict[str, str]]:
    """A client's arguments, folder and environment; its streams become this process's."""
    head, streams, *_ = socket.recv_fds(connection, 8, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    length, request = int.from_bytes(head, "big"), b""
    while len(request) < length:
        request += connection.recv(length - len(request))
    return json.loads(request)


def _watch(connection: socket.socket, child: int) -> None:
    """Passes signals on to a forked process until it ends, and tells the client how."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
        if select.select([connection], [], [], _POLL_SECS)[0]:
            numbers = connection.recv(1)
            os.kill(child, numbers[0] if numbers else signal.SIGKILL)
            if not numbers:
                os.waitpid(child, 0)
                os._exit(0)


def _fork_for_each(listener: socket.socket) -> list[str]:
    """Returns a command's arguments, in the process that was forked for it."""
    settings = None
    while True:
        if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
            os._exit(0)
        connection, _ = listener.accept()
        if settings is None:
            settings = _import_packages()
        if os.fork():
            connection.close()
            continue
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        arguments, folder, environment = _receive(connection)
        child = os.fork()
        if child:
            for number in (0, 1, 2):  # A pipe's reader waits for the end of all its writers.
                os.close(number)
            _watch(connection, child)
        connection.close()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        if _settings() != settings:
            sys.exit(f"{READ_AT_IMPORT} must be the session's in {__file__}: use sys.executable")
        return arguments


def _settings() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.startswith(READ_AT_IMPORT)}


def _import_packages() -> dict[str, str]:
    """Imports what is heavy; returns the settings that were read."""
    import gc
    import importlib
    import warnings

    settings = _settings()
    for name in PACKAGES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    # No thread of theirs holds a lock: nothing was computed.
    warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
    return settings


def _become(arguments: list[str]) -> None:
    """Runs `-c code …` or `-m module …` as Python's command line does."""
    import runpy
    import types

    kind, what, *rest = arguments
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    main.__builtins__ = __builtins__
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:0] = ["" if kind == "-c" else os.getcwd(), *paths]
    sys.argv = [kind, *rest]
    if kind == "-c":
        exec(compile(what, "<string>", "exec"), main.__dict__)
    else:
        runpy._run_module_as_main(what)


if __name__ == "__main__":
    if sys.argv[1] != "serve":
        _client(sys.argv[1:])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody asks how those that watch ended.
    _become(_fork_for_each(socket.socket(fileno=int(sys.argv[2]))))
