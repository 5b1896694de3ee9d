"""`hyperdecoders upgrade`: an earlier run's `config.json`, from its `config.gin`, a program."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import configured, flags

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig

SUMMARY = "write the config.json of a run that an earlier version made, from its config.gin"
TAKES_GIN = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_run(parser)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    from hyperdecoders_jax.weights import run_folder

    folder = files.at_home(args.model_dir)
    if folder is None or (not os.path.isdir(folder) and "://" not in folder):
        raise errors.UsageError(
            f"upgrade needs the model directory of a run; got --model_dir={folder}. Name it."
        )
    if not run_folder.is_undescribed(folder):
        raise errors.UsageError(
            f"upgrade reads a run that has a {configured.SAVED_CONFIG} and no "
            f"{run_folder.CONFIG_FILE}; {folder} is none. Name another --model_dir."
        )
    print(f"Reading {folder}/{configured.SAVED_CONFIG}, which is a program: it imports and calls.")
    given = configured.sources(args, gin_flags).first("runs/embedded/upgrade.gin")
    described = configured.call(args, given, lambda: describe)()
    run_folder.write(folder, described)
    print(f"Wrote {folder}/{run_folder.CONFIG_FILE}.")
    return 0


def describe(run: RunConfig):
    """What a run of an earlier version says of itself; its weights are read once."""
    from hyperdecoders_jax.data import mixtures
    from hyperdecoders_jax.trained import describe as describe_lib
    from hyperdecoders_jax.trained import opened, start
    from hyperdecoders_jax.training import trainable
    from hyperdecoders_jax.weights import run_checkpoints, run_folder

    opened.use_vocabulary(run)
    is_t5x = bool(run_folder.t5x_steps(run.model_dir))
    task_names = run.data.task_names
    if not is_t5x:
        directory = os.path.join(run.model_dir, run_checkpoints.CHECKPOINTS_DIR)
        checkpoints = run_checkpoints.CheckpointFiles(directory)
        if (step := checkpoints.newest_step()) is not None:
            task_names = checkpoints.read_run(step)["identity"]["task_names"]
    if task_names is None:
        task_names = mixtures.resolve_task_names(run.data.mixture_or_task_name)
    model = run.model.for_tasks(task_names)
    if is_t5x:
        trained, _ = trainable.split(model.param_shapes(), run.trainable)
        return describe_lib.describe(run, model, task_names, trained, runner=run_folder.T5X_RUNNER)
    initial, seed = run.start.initial_checkpoint_path, run.start.random_seed
    params = start.open_start(model, initial, seed).params()
    trained, frozen = trainable.split(params, run.trainable)
    return describe_lib.describe(run, model, task_names, trained, frozen)
