"""`hyperdecoders train`: trains a run, evaluates it as it learns, and keeps checkpoints.

`train` takes a `RunConfig`, from gin or Python; see `trained.training_run`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hyperdecoders_jax.commands import configured, flags, main, streams

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig
    from hyperdecoders_jax.training.trainer import TrainResult

SUMMARY = "train a model, evaluate it as it learns, keep checkpoints; continue where it stopped"
EPILOG = flags.EPILOG
TAKES_GIN = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_run(parser)
    flags.add_runner(parser)
    text = "steps that are traced for xprof, into the run's tensorboard/: 10-15 (default: none)"
    parser.add_argument("--profile", metavar="STEPS", help=text)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    return configured.run_with_runner(args, gin_flags, lambda: train)


def train(run: RunConfig, config_text: str = "") -> int:
    """Trains a run; 0, also after SIGTERM. ValueError before anything is written if it is amiss."""
    import jax

    from hyperdecoders_jax.trained import training_run

    # A script's output may lose its reader, too.
    with streams.lasting("stdout", "stderr"):
        result = training_run.train(run, config_text)
        if jax.process_index() == 0:
            _tell(run, result)
    return 0


def _tell(run: RunConfig, result: TrainResult) -> None:
    """Prints what a run came to."""
    from hyperdecoders_jax.evaluation import table

    if not result.is_finished:
        step = int(result.state.step)
        print(f"Stopped after step {step}, saved. The same command continues.", file=sys.stderr)
        return
    if result.metrics:
        left_out = run.trainer.best.left_out if run.trainer.best else ()
        print(table.format_table(result.metrics, left_out))
    if result.best_step is not None:
        print(f"Best checkpoint: step {result.best_step}, in {run.model_dir}/checkpoints.")
    print(how_to_use(run), file=sys.stderr)


def how_to_use(run: RunConfig) -> str:
    """Where a trained model is, and commands that use it, to be pasted."""
    from hyperdecoders_jax.data import mixtures

    tasks = mixtures.leaf_tasks(run.data.mixture_or_task_name)
    described = [getattr(task.source, "describe", dict)() or {} for task in tasks]
    folder = shlex.quote(str(run.model_dir))
    lines = "--input=LINES.txt"
    if any("files" in source for source in described):  # Own data: rows, which templates render.
        name = f"{tasks[0].name}=" if len(tasks) > 1 else ""
        lines = f"--test_file={name}ROWS.jsonl"
    return (
        f"The model is in {run.model_dir}. To use it:\n"
        f"  hyperdecoders infer --model_dir={folder} {lines}\n"
        f"  hyperdecoders export --checkpoint={folder} --output=FOLDER   # for Hugging Face\n"
        f"  hyperdecoders_jax.load({str(run.model_dir)!r}).predict([TEXT])   # in Python"
    )


if __name__ == "__main__":
    main.leave(main.main(["train", *sys.argv[1:]]))
