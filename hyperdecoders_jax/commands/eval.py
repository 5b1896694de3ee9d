"""`hyperdecoders eval`: evaluates a checkpoint on every task of a mixture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hyperdecoders_jax.commands import configured, flags, main

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig

SUMMARY = "evaluate a checkpoint on every task of a mixture"
EPILOG = flags.EPILOG
TAKES_GIN = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_run(parser)
    flags.add_runner(parser)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    return configured.run_with_runner(args, gin_flags, lambda: evaluate)


def evaluate(run: RunConfig, checkpoint_step: str | int | None, output_dir: str | None) -> int:
    """Evaluates a checkpoint on every task of a mixture that has the split; returns the exit code.

    `checkpoint_step` is "best", "last" or a step; None: the parameters before training.
    `output_dir` gets TASK/STEP.jsonl with the predictions, and metrics-STEP.json; None: eval_SPLIT
    in the run's model directory, or nowhere without one.
    """
    split = run.evaluation.split
    if split is None:
        raise ValueError(
            "An evaluation needs a split; got EVAL_SPLIT = None, as in training. Name it with "
            "--gin.EVAL_SPLIT=validation, or files with --validation_file=FILE or --test_file=FILE."
        )
    import jax
    from etils import epath

    from hyperdecoders_jax import files
    from hyperdecoders_jax.evaluation import table
    from hyperdecoders_jax.trained import opened

    if output_dir is None and run.model_dir is not None:
        output_dir = f"{run.model_dir}/eval_{split}"
    if output_dir is not None:
        files.check_writable(output_dir)
    tasks = opened.make_evaluator(run, checkpoint_step, output_dir)
    opened.use_vocabulary(run)
    tasks.rehearse()
    model = opened.place(run, checkpoint_step)
    metrics = tasks(model.predict_fn(), model.step, model.score)
    if jax.process_index() == 0:
        if output_dir is not None:
            path = epath.Path(output_dir) / f"metrics-{model.step}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(metrics, indent=1) + "\n")
        where = f"predictions are in {output_dir}" if output_dir else "predictions were not kept"
        print(f"Step {model.step} on {split}; {where}.", file=sys.stderr)
        print(table.format_table(metrics, run.evaluation.left_out_metrics))
    return 0


if __name__ == "__main__":
    main.leave(main.main(["eval", *sys.argv[1:]]))
