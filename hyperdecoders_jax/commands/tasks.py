"""`hyperdecoders tasks`: an overview of tasks and mixtures, examples of one, its data."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import flags

SUMMARY = "list tasks and mixtures; show examples or lengths of one; prepare or cache its data"
EPILOG = "--prepare brings a task's data here: nothing else downloads any."
TAKES_GIN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("name", nargs="?", help="a task or mixture, of which examples are shown")
    text = "show lengths of its examples, and which to set, with and without packing (default: no)"
    parser.add_argument("--lengths", action="store_true", help=text)
    text = "download and write all that a task or mixture reads (default: nothing is)"
    parser.add_argument("--prepare", metavar="NAME", help=text)
    text = "write the text of a task or mixture as SeqIO's cache (default: nothing is)"
    parser.add_argument("--cache", metavar="NAME", help=text)
    text = "where --cache writes (no default)"
    parser.add_argument("--cache_dir", metavar="FOLDER", help=text)
    text = "where examples are taken from (default: the first there is)"
    parser.add_argument("--split", help=text)
    text = f"a module that registers tasks (default: all of {flags.TASKS_PACKAGE})"
    flags.add_list(parser, "--module", text)
    flags.add_data(parser)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    if args.cache is not None and args.cache_dir is None:
        raise errors.UsageError(
            f"--cache needs a folder to write to; got --cache={args.cache} alone. Add --cache_dir."
        )
    if args.lengths and args.name is None:
        raise errors.UsageError(
            "--lengths needs a task or mixture; got --lengths alone. Name one before it."
        )
    flags.start_tensorflow()
    from hyperdecoders_jax.data import length_report, task_listing

    if args.prepare is not None and args.tfds_data_dir is not None:
        import tensorflow as tf

        tf.io.gfile.makedirs(files.absolute(args.tfds_data_dir))
    flags.set_data_folders(args)
    flags.import_modules(args.module or flags.task_modules())
    if args.prepare is not None or args.cache is not None:
        return _bring_here(args)
    if args.lengths:
        print(length_report.report(args.name, args.vocabulary, args.split))
    elif args.name is None:
        print(task_listing.overview(args.vocabulary))
    else:
        print(task_listing.examples(args.name, args.vocabulary, args.split))
    return 0


def _bring_here(args: argparse.Namespace) -> int:
    """Prepares data, writes a cache, or both, and prints each outcome; 2 if anything failed."""
    from hyperdecoders_jax.data import cache, mixtures, offline

    outcomes = []
    if args.prepare is not None:
        outcomes.append(offline.prepare(mixtures.leaf_tasks(args.prepare)))
    if args.cache is not None:
        folder = files.absolute(args.cache_dir)
        outcomes.append(cache.write(mixtures.leaf_tasks(args.cache), folder))
    num_failed = 0
    for outcome in itertools.chain(*outcomes):
        print(outcome, flush=True)
        num_failed += outcome.status == offline.FAILED
    if num_failed:
        print(f"hyperdecoders: error: {num_failed} of the above failed.", file=sys.stderr)
    return 2 if num_failed else 0
