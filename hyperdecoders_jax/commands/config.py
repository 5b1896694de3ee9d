"""`hyperdecoders config`: what an experiment resolves to, and which file set each value."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import configured, flags

SUMMARY = "print every value that an experiment resolves to, with the file that set it"
EPILOG = flags.EPILOG
TAKES_GIN = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    text = "gin files, as --gin_file names them"
    parser.add_argument("experiment", nargs="*", metavar="EXPERIMENT", help=text)
    flags.add_gin(parser)
    runners = flags.RUNNERS
    text = f"who would train it (default: {runners[0]})"
    parser.add_argument("--runner", choices=runners, default=runners[0], help=text)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    from hyperdecoders_jax.config import experiments

    gin_files = [files.at_home(file) for file in (*args.experiment, *args.gin_file)]
    if not gin_files:
        raise errors.UsageError(
            "config needs an experiment; got none. Write hyperdecoders config "
            "experiments/NAME.gin (hyperdecoders experiments lists them)."
        )
    given = configured.Sources(
        gin_files, flags.gin_bindings(args, gin_flags), flags.search_paths(args)
    ).first(f"runs/{args.runner}/train.gin")
    print(experiments.resolve(given.gin_files, given.bindings, given.search_paths))
    return 0
