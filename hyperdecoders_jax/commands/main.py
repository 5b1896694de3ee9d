"""The command line: a command's name in `COMMANDS`, its flags and its work in its own file.

`hyperdecoders train …` and `python -m hyperdecoders_jax.train …` are the same; `config` and `tasks`
have the first form alone, since packages have these names. Flags are T5X's, and two that save
quotes: `--model_dir` and `--vocabulary`. Commands import everything heavy when they run, so
`--help` costs neither jax nor TensorFlow.

Exit codes: 0 done, also after SIGTERM; 1 doctor found a conflict, or an unexpected error; 2 the
command line, the configuration, the data or the training cannot go on, and the message says why.
Who stops reading ends a command that only prints; others go on with their work.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import completion, processes, streams, unknown_flags
from hyperdecoders_jax.commands import flags as flags_lib

# Each is a module beside this one, with `SUMMARY`, `add_arguments(parser)` and
# `run(args, gin_flags)`; `TAKES_GIN` says whether it takes `--gin.NAME=VALUE`.
COMMANDS = (
    "train", "eval", "infer", "analyze", "params", "config", "experiments", "tasks", "convert",
    "export", "compare", "plan", "upgrade", "demo", "gin-path", "doctor",
)  # fmt: skip
# What these print is their work: they end when nobody reads it any more. Others go on.
PRINTING = ("config", "experiments", "gin-path", "infer", "params", "plan", "tasks")
# Errors that a user can mend, whoever raises them.
_MENDABLE = (ValueError, KeyError, OSError, MemoryError)
# Flags with these metavars name paths.
PATH_METAVARS = ("FILE", "FOLDER", "FOLDERS", "PATH", "[NAME=]FILE", "FORMAT:PATH", "[FORMAT:]PATH")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    streams.reopen_closed()
    # TensorFlow reads data only; its messages at start-up concern nobody here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        others, gin_flags = split_gin_flags(arguments)
        args = unknown_flags.parse(make_parser(), others)
        _check(args, gin_flags)
    except errors.UsageError as error:
        print(f"hyperdecoders: error: {error}", file=sys.stderr)
        return 2
    # Modules here, for --module and gin files, as under `python -m`; last, so they hide nothing.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    is_printing = args.command in PRINTING
    with streams.lasting("stderr", *(() if is_printing else ("stdout",))):
        command = module_of(args.command)
        is_traceback_shown = getattr(args, "traceback", False)
        call = functools.partial(command.run, args, gin_flags)
        return processes.run(lambda: _guarded(lambda: call() or 0, is_traceback_shown))


def _check(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> None:
    """Checks what holds for all commands; raises UsageError."""
    names = [name if name == flags_lib.RAW_BINDING else f"--gin.{name}" for name, _ in gin_flags]
    has_bindings = hasattr(args, "gin_bindings")
    if not module_of(args.command).TAKES_GIN:
        names = [name for name in names if name != flags_lib.RAW_BINDING or not has_bindings]
        if names:
            takers = [name for name in COMMANDS if module_of(name).TAKES_GIN]
            raise errors.UsageError(
                f"Gin flags belong to {', '.join(takers)}; {args.command} got {names[0]}. Leave it "
                f"out; see hyperdecoders {args.command} --help."
            )
    for flag, dest in path_flags(args.command):
        values = getattr(args, dest)
        if "" in (values if isinstance(values, list) else [values]):
            raise errors.UsageError(
                f"{flag} must name a path; got ''. Write the folder or file, or . for the one "
                "you are in."
            )
    try:
        os.getcwd()
    except FileNotFoundError:
        raise errors.UsageError(
            "A command must run in a folder that exists; the one you are in was removed. Change "
            "to another: cd ~"
        ) from None


def make_parser() -> argparse.ArgumentParser:
    """All commands and flags but `--gin.NAME=VALUE`, whose names are open."""
    parser = argparse.ArgumentParser(
        prog="hyperdecoders",
        description="Instance-specific adaptation of T5 for many tasks at once.",
    )
    version = f"hyperdecoders_jax {files.VERSION}"
    parser.add_argument("--version", action="version", version=version)
    text = 'print a script for tab completion: eval "$(hyperdecoders --completion bash)"'
    parser.add_argument(
        "--completion", action=completion.Print, choices=completion.SHELLS, help=text
    )
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


def path_flags(command: str) -> list[tuple[str, str]]:
    """Flags of a command that name paths, each with the name of its value."""
    parser = argparse.ArgumentParser(add_help=False)
    module_of(command).add_arguments(parser)
    found = [action for action in parser._actions if action.metavar in PATH_METAVARS]
    return [(action.option_strings[0], action.dest) for action in found]


def split_gin_flags(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Separates `--gin.NAME=VALUE` from all other arguments; UsageError without `=VALUE`.

    >>> split_gin_flags(["train", "--gin.TRAIN_STEPS=3", "--gin_file=a.gin"])
    (['train', '--gin_file=a.gin'], [('TRAIN_STEPS', '3')])

    So that these and `--gin_bindings` bind in their order, as T5X's do, the latter are among them:

    >>> split_gin_flags(["train", "--gin_bindings=A = 3", "--gin.A=4"])
    (['train'], [('--gin_bindings', 'A = 3'), ('A', '4')])
    """
    others, flags = [], []
    rest = iter(arguments)
    for argument in rest:
        flag, is_there, value = argument.partition("=")
        if flag == flags_lib.RAW_BINDING and not is_there:
            value = next(rest, None)
        if flag == flags_lib.RAW_BINDING and value is not None:
            flags.append((flag, value))
        elif not argument.startswith("--gin."):
            others.append(argument)
        elif not is_there or not flag.removeprefix("--gin.").strip():
            raise errors.UsageError(
                f"A gin flag must be --gin.NAME=VALUE; got {argument!r}. Write the value after '='."
            )
        else:
            flags.append((flag.removeprefix("--gin.").strip(), value))
    return others, flags


def _guarded(call: Callable[[], int], is_traceback_shown: bool) -> int:
    """Runs `call`; an error that a user can mend is told without the stack above it."""
    try:
        code = processes.watched(call)
        sys.stdout.flush()  # Here, where what goes wrong is told.
        return code
    except (*_MENDABLE, TypeError, ImportError, RuntimeError) as error:
        # Another pipe than our output, such as a bucket's, may break, too.
        if isinstance(error, BrokenPipeError) and streams.is_broken(sys.stdout):
            return 0
        lack = errors.lack_of_memory(error)
        is_ours = isinstance(error, TypeError | ImportError) and errors.is_own(error)
        is_mendable = isinstance(error, _MENDABLE) or lack or is_ours
        if is_traceback_shown or not is_mendable:
            raise
        is_of_system = isinstance(error, OSError) and error.errno and not errors.is_own(error)
        message = lack or (files.describe(error) if is_of_system else errors.message_of(error))
        print(f"hyperdecoders: error: {message}", file=sys.stderr)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        print(f"(raised at {where}; --traceback shows the way there)", file=sys.stderr)
        return 2
    finally:
        if streams.is_broken(sys.stdout):
            streams.silence(sys.stdout)  # Else Python fails once more when it ends.


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
