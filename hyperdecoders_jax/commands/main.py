"""The command line: a command's name in `COMMANDS`, its flags and its work in its own file.

`hyperdecoders train …` and `python -m hyperdecoders_jax.train …` are the same. Flags are T5X's, and
two that save quotes: `--model_dir` and `--vocabulary`. Commands import everything heavy when they
run, so `--help` costs neither jax nor TensorFlow.

Exit codes: 0 done, also after SIGTERM; 1 doctor found a conflict, or an unexpected error; 2 the
command line, the configuration, the data or the training cannot go on, and the message says why.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import importlib.metadata
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn

from hyperdecoders_jax import errors
from hyperdecoders_jax.commands import unknown_flags

# Each is a module beside this one, with `SUMMARY`, `add_arguments(parser)` and
# `run(args, gin_flags)`; `TAKES_GIN` says whether it takes `--gin.NAME=VALUE`.
COMMANDS = (
    "train", "eval", "infer", "analyze", "params", "config", "experiments", "tasks", "convert",
    "export", "upgrade", "demo", "gin-path", "doctor",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # TensorFlow reads data only; its messages at start-up concern nobody here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Modules here, for --module and gin files, as under `python -m`; last, so they hide nothing.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        others, gin_flags = split_gin_flags(arguments)
        args = unknown_flags.parse(make_parser(), others)
    except errors.UsageError as error:
        print(f"hyperdecoders: error: {error}", file=sys.stderr)
        return 2
    command = module_of(args.command)
    if gin_flags and not command.TAKES_GIN:
        takers = [name for name in COMMANDS if module_of(name).TAKES_GIN]
        print(
            f"hyperdecoders: error: Gin flags belong to {', '.join(takers)}; {args.command} got "
            f"--gin.{gin_flags[0][0]}. Leave it out; see hyperdecoders {args.command} --help.",
            file=sys.stderr,
        )
        return 2
    is_traceback_shown = getattr(args, "traceback", False)
    return _guarded(lambda: command.run(args, gin_flags) or 0, is_traceback_shown)


def make_parser() -> argparse.ArgumentParser:
    """All commands and flags but `--gin.NAME=VALUE`, whose names are open."""
    parser = argparse.ArgumentParser(
        prog="hyperdecoders",
        description="Instance-specific adaptation of T5 for many tasks at once.",
    )
    version = importlib.metadata.version("hyperdecoders_jax")
    parser.add_argument("--version", action="version", version=f"hyperdecoders_jax {version}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = module_of(name)
        summary = command.SUMMARY
        own = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=getattr(command, "EPILOG", None),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(own)
        own.add_argument("--traceback", action="store_true", help="show where an error was raised")
    return parser


def module_of(command: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f"hyperdecoders_jax.commands.{command.replace('-', '_')}")


def split_gin_flags(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Separates `--gin.NAME=VALUE` from all other arguments; UsageError without `=VALUE`.

    >>> split_gin_flags(["train", "--gin.TRAIN_STEPS=3", "--gin_file=a.gin"])
    (['train', '--gin_file=a.gin'], [('TRAIN_STEPS', '3')])
    """
    others, flags = [], []
    for argument in arguments:
        if not argument.startswith("--gin."):
            others.append(argument)
            continue
        name, is_there, value = argument.removeprefix("--gin.").partition("=")
        if not is_there or not name.strip():
            raise errors.UsageError(
                f"A gin flag must be --gin.NAME=VALUE; got {argument!r}. Write the value after '='."
            )
        flags.append((name.strip(), value))
    return others, flags


def _guarded(call: Callable[[], int], is_traceback_shown: bool) -> int:
    """Runs `call`; an error that a user can mend is told without the stack above it."""
    try:
        return call()
    except BrokenPipeError:  # The reader of our output, such as `head`, is gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, KeyError, OSError, TypeError, ImportError) as error:
        is_defect = isinstance(error, TypeError | ImportError) and not errors.is_own(error)
        if is_traceback_shown or is_defect:
            raise
        print(f"hyperdecoders: error: {errors.message_of(error)}", file=sys.stderr)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        print(f"(raised at {where}; --traceback shows the way there)", file=sys.stderr)
        return 2


def console(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command `hyperdecoders`: runs one, and ends the process with its exit code."""
    leave(main(arguments))


def leave(code: int) -> NoReturn:
    """Ends the process as `sys.exit` does, but without a second of tearing TensorFlow down."""
    if "tensorflow" in sys.modules:
        # As `multiprocessing` ends its children: threads first, then all that asked to be called.
        threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    console()
