"""`hyperdecoders gin-path`: the folder of the package's gin files, for T5X."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

SUMMARY = "print the folder of the package's gin files"
EPILOG = "For T5X: python -m t5x.train --gin_search_paths=$(hyperdecoders gin-path) …"
TAKES_GIN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    from hyperdecoders_jax.config import gin_files

    print(gin_files.package_config_folder())
    return 0
