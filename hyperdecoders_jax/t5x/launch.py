"""Start of T5X's train, eval and infer by our own commands: `hyperdecoders … --runner=t5x`.

Before, the command line has checked the configuration, and has joined the processes, which T5X does
only for GPUs and Orbax waits for. The functions called here are those of `python -m t5x.train`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
from absl import logging
from t5x import trainer

from hyperdecoders_jax.weights import t5x_checkpoint

# Module of T5X -> its function that a gin file binds.
SCRIPTS = {"train": "train", "eval": "evaluate", "infer": "infer"}


def script(command: str) -> Callable[..., Any]:
    """Returns T5X's function for a command, under the name by which gin files know it.

    Gin files import T5X's scripts as `__main__`, which is what `python -m t5x.train` makes of them.
    """
    functions = {}
    # All three, because an evaluation also reads the saved configuration of the training run.
    for module, name in SCRIPTS.items():
        functions[module] = getattr(importlib.import_module(f"t5x.{module}"), name)
        setattr(sys.modules["__main__"], name, functions[module])
    return functions[command]


def run(call: Callable[[], Any]) -> int:
    """Calls a configured script, whose log is shown; returns the exit code."""
    logging.set_verbosity(logging.INFO)
    try:
        call()
    except trainer.PreemptionError:
        print("Stopped and saved. The same command continues.", file=sys.stderr)
    # As t5x/train.py ends: waits for host callbacks that are still under way.
    jax.effects_barrier()
    return 0


def checkpoint(model_dir: str, path: str | None = None) -> str:
    """Returns the checkpoint at `path`, or a run's best, or its newest if none was evaluated.

    FileNotFoundError if there is none.
    """
    if path is not None:
        if not t5x_checkpoint.is_checkpoint(path):
            raise FileNotFoundError(
                f"CHECKPOINT_PATH must be of a checkpoint of T5X; there is none at {path}. "
                f"{model_dir} holds {list(map(str, t5x_checkpoint.steps(model_dir).values()))}."
            )
        return path.rstrip("/")
    found = t5x_checkpoint.steps(model_dir)
    if not found:
        raise FileNotFoundError(
            f"MODEL_DIR must hold a checkpoint of T5X; {model_dir} holds none. Name the run's "
            "--model_dir, or a checkpoint with --gin.CHECKPOINT_PATH=…/checkpoint_1000."
        )
    return os.fspath(found[t5x_checkpoint.best_or_newest(model_dir)])


def output_dir(
    model_dir: str,
    command: str,
    split: str | None,
    path: str,
    adapters: str | None = None,
    folder: str | None = None,
) -> str:
    """Returns the folder that T5X writes results into: `folder`, or one in the model directory.

    Not the model directory, whose config.gin T5X would replace; one for each checkpoint (or adapter
    folder), as T5X does not repeat predictions that it finds. ValueError without a split.
    >>> output_dir("gs://bucket/run", "eval", "test", "gs://bucket/run/checkpoint_30")
    'gs://bucket/run/eval_test/checkpoint_30'
    """
    if split is None:
        macro = f"{command.upper()}_SPLIT"
        raise ValueError(
            f"{macro} must name the split that is read; got None, with which a run trains without "
            f"evaluation. Set it with --gin.{macro}=validation."
        )
    name = os.path.basename((adapters or path).rstrip("/"))
    return folder or f"{model_dir.rstrip('/')}/{command}_{split}/{name}"
