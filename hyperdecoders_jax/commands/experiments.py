"""`hyperdecoders experiments`: the gin files of experiments, with what each is."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence

from hyperdecoders_jax.commands import flags

SUMMARY = "list the experiments with their What line; words search them"
TAKES_GIN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="show those with all these words")
    flags.add_search_paths(parser)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    from hyperdecoders_jax.config import experiments

    found = experiments.find(args.words, flags.search_paths(args))
    for experiment in found:
        print(experiment.name)
        print(textwrap.indent(textwrap.fill(experiment.what, 96), "    "))
    if not found:
        print(f"No experiment has the words {' '.join(args.words)}. Leave some out.")
    return 0 if found else 2
