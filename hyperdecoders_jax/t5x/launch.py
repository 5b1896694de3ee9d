"""T5X's train, eval and infer, started as our own commands are: `hyperdecoders … --runner=t5x`.

The command line joins the processes before, which T5X does for GPUs alone and Orbax waits for, and
checks the configuration. What is called here is what `python -m t5x.train` calls.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import jax
from absl import logging

# Module of T5X -> its function that a gin file binds.
SCRIPTS = {"train": "train", "eval": "evaluate", "infer": "infer"}


def script(command: str) -> Callable[..., Any]:
    """Returns T5X's function for a command, under the name by which gin files know it.

    They import T5X's scripts as `__main__`, for that is what `python -m t5x.train` makes of them.
    All three are there: the configuration that a training run leaves names its own.
    """
    functions = {}
    for module, name in SCRIPTS.items():
        functions[module] = getattr(importlib.import_module(f"t5x.{module}"), name)
        setattr(sys.modules["__main__"], name, functions[module])
    return functions[command]


def run(call: Callable[[], Any]) -> int:
    """Calls a configured script, which says by its log what it does; returns the exit code."""
    logging.set_verbosity(logging.INFO)
    call()
    jax.effects_barrier()
    return 0


def output_dir(model_dir: str, name: str, split: str | None, folder: str | None = None) -> str:
    """Returns where T5X writes; not the model directory, whose configuration it would replace.

    Args:
      model_dir: of the training run.
      name: of the command.
      split: that it reads.
      folder: where else; None: a folder of its own in `model_dir`.

    >>> output_dir("gs://bucket/run", "eval", "test")
    'gs://bucket/run/eval_test'

    Raises:
      ValueError: there is no split to be read.
    """
    if split is None:
        macro = f"{name.upper()}_SPLIT"
        raise ValueError(
            f"{macro} must name the split that is read; got None, with which a run trains without "
            f"evaluation. Set it with --gin.{macro}=validation."
        )
    return folder or f"{model_dir.rstrip('/')}/{name}_{split}"
