"""What a run under T5X starts from: a checkpoint's path in, T5X's configuration of restoring out.

T5X fills what a checkpoint lacks with random numbers, drops what the model has no place for, and
reads an array of any shape. Here all of that is an error that names the arrays, before any is read:
T5's own parameters must be there, and of the new ones each part of the model (a key on top of the
tree) as a whole or not at all. What is not there is drawn; both lists are logged. The step and the
optimiser start anew, so that TRAIN_STEPS and the schedule count the updates of this run.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from absl import logging
from t5x import state_utils, utils

from hyperdecoders_jax.interop import conversion, names, t5x_checkpoint
from hyperdecoders_jax.types import PyTree


def initial_checkpoint(
    path: str | None, dtype: str | None = "float32"
) -> utils.RestoreCheckpointConfig:
    """Returns `CheckpointConfig.restore` of training: T5 from `path`, what is new drawn at step 0.

    A run that is continued is restored whole from its own folder, as ever; there, too, a missing
    or an additional array is an error.

    Args:
        path: of T5X's folder `checkpoint_<step>`, of plain T5 or of an adapted one, in either
            layout (msgpack and zarr, or Orbax). None draws all parameters.
        dtype: that parameters are cast to; None leaves them.

    Raises:
        ValueError: the path is not one of a T5X checkpoint.
    """
    return utils.RestoreCheckpointConfig(
        path=() if path is None else _check_path(path),
        mode="specific",
        dtype=dtype,
        fallback_to_scratch=True,
        state_transformation_fns=(functools.partial(_start, path),),
    )


def whole_checkpoint(path: str, dtype: str | None = "bfloat16") -> utils.RestoreCheckpointConfig:
    """Returns the restoring of evaluation and inference: all parameters from `path`.

    Args:
        path: of T5X's folder `checkpoint_<step>`, with all parameters of the model.
        dtype: that parameters are cast to; None leaves them.

    Raises:
        ValueError: the path is not one of a T5X checkpoint.
    """
    return utils.RestoreCheckpointConfig(
        path=_check_path(path),
        mode="specific",
        dtype=dtype,
        state_transformation_fns=(functools.partial(_take_all, path),),
    )


def _check_path(path: str) -> str:
    # By its name alone: a run that is continued does not need what it started from.
    if not re.fullmatch(r"(.*/)?checkpoint_\d+/?", path):
        raise ValueError(
            f"T5X reads its own checkpoints, folders named checkpoint_<step>; got {path!r}. Name "
            f"one, or make one of any other weights: hyperdecoders convert --from={path} "
            "--to=t5x:FOLDER"
        )
    return path.rstrip("/")


def _start(path: str, stored: PyTree, state: PyTree, is_resuming: bool = False) -> PyTree:
    """Returns what of a checkpoint T5X shall read into the train state; it draws the rest."""
    if is_resuming:
        _check_resumed(stored, state)
        return stored
    found, new = _match(path, state)
    logging.info("Loaded %d parameters from %s: %s", len(found), path, ", ".join(found))
    logging.info("Drew %d new parameters: %s", len(new), ", ".join(new))
    return {"target": stored["target"]}


def _take_all(path: str, stored: PyTree, state: PyTree) -> PyTree:
    found, new = _match(path, state)
    if new:
        raise ValueError(
            f"{path} must hold all parameters of the model; missing: {names.abridge(new)}. Name a "
            "checkpoint that a run of this model has written, or choose the file of "
            "gin_configs/adapters that it was trained with."
        )
    logging.info("Loaded all %d parameters from %s.", len(found), path)
    return stored


def _match(path: str, state: PyTree) -> tuple[list[str], list[str]]:
    """Lists the model's parameters that a checkpoint holds, and those that it does not."""
    shapes = _flatten(state["target"])
    found = t5x_checkpoint.open(path)
    conversion.check_shapes(found, shapes, path)
    return sorted(found), sorted(set(shapes) - set(found))


def _check_resumed(stored: PyTree, state: PyTree) -> None:
    theirs, ours = set(_flatten(stored)), set(_flatten(state))
    missing, unexpected = sorted(ours - theirs), sorted(theirs - ours)
    if missing or unexpected:
        raise ValueError(
            "The checkpoint of a run that is continued must hold exactly its train state; missing: "
            f"{names.abridge(missing)}; unexpected: {names.abridge(unexpected)}. Continue it with "
            "the model, OPTIMIZER and TRAINABLE that it was begun with, or name a new MODEL_DIR."
        )


def _flatten(tree: PyTree) -> dict[str, Any]:
    return state_utils.flatten_state_dict(tree)
