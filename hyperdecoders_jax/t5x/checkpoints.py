"""What a run under T5X starts from: a checkpoint's path in, T5X's configuration of restoring out.

T5X fills what a checkpoint lacks with random numbers, drops what the model has no place for, and
reads an array of any shape. Here all of that is an error that names the arrays, before any is read:
T5's own parameters must be there, and of the new ones each part of the model (a key on top of the
tree) as a whole or not at all. What is not there is drawn; both lists are logged. The step and the
optimiser start anew, so that TRAIN_STEPS and the schedule count the updates of this run.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from t5x import state_utils, utils

from hyperdecoders_jax.interop import adapter_folder, conversion, names, t5x_checkpoint
from hyperdecoders_jax.interop.adapter_folder import Description
from hyperdecoders_jax.interop.arrays import Arrays
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.training import checkpoint
from hyperdecoders_jax.types import PyTree


def initial_checkpoint(
    path: str | None, dtype: str | None = "float32"
) -> utils.RestoreCheckpointConfig:
    """Returns `CheckpointConfig.restore` of training: T5 from `path`, what is new drawn at step 0.

    A run that is continued is restored whole from its own folder, as ever; there, too, a missing
    or an additional array is an error.

    Args:
        path: of T5X's folder `checkpoint_<step>`, of plain T5 or of an adapted one, in either
            layout (msgpack and zarr, or Orbax). Any other, or None, leaves all to
            `initialization.TrainStateInitializer`.
        dtype: that parameters are cast to; None leaves them.
    """
    return utils.RestoreCheckpointConfig(
        path=path.rstrip("/") if is_t5x_checkpoint(path) else (),
        mode="specific",
        dtype=dtype,
        fallback_to_scratch=True,
        state_transformation_fns=(functools.partial(_start, path),),
    )


def whole_checkpoint(
    path: str,
    dtype: str | None = "bfloat16",
    adapters: str | None = None,
    model: Model | None = None,
) -> utils.RestoreCheckpointConfig:
    """Returns the restoring of evaluation and inference: all parameters, checked.

    Args:
        path: of T5X's folder `checkpoint_<step>`. It holds all parameters of the model, or those
            that `adapters` lack.
        dtype: that parameters are cast to; None leaves them.
        adapters: an adapter folder, whose parameters come before those at `path`; None: there is
            none.
        model: that is evaluated, to compare it with that of `adapters`.

    Raises:
        ValueError: the path is not one of a T5X checkpoint, or the adapters are not whole or of
            another model.
    """
    where = _check_path(path)
    take = functools.partial(_take_all, where)
    if adapters is not None:
        take = functools.partial(_add_adapters, where, *_read_adapters(adapters, model))
    return utils.RestoreCheckpointConfig(
        path=where, mode="specific", dtype=dtype, state_transformation_fns=(take,)
    )


def is_t5x_checkpoint(path: str | None) -> bool:
    """Whether a path has the name of T5X's folders; a run that is continued needs no more of it.

    >>> is_t5x_checkpoint("gs://bucket/t5/checkpoint_1100000"), is_t5x_checkpoint("google/t5")
    (True, False)
    """
    return path is not None and re.fullmatch(r"(.*/)?checkpoint_\d+/?", path) is not None


def _check_path(path: str) -> str:
    if not is_t5x_checkpoint(path):
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
    _check_whole(path, new)
    logging.info("Loaded all %d parameters from %s.", len(found), path)
    return stored


def _match(path: str, state: PyTree) -> tuple[list[str], list[str]]:
    """Lists the model's parameters that a checkpoint holds, and those that it does not."""
    shapes = _flatten(state["target"])
    found = t5x_checkpoint.open(path)
    conversion.check_shapes(found, shapes, path)
    return sorted(found), sorted(set(shapes) - set(found))


def _check_whole(where: str, missing: Sequence[str]) -> None:
    if missing:
        raise ValueError(
            f"{where} must hold all parameters of the model; missing: {names.abridge(missing)}. "
            "Name a checkpoint that a run of this model has written, or choose the file of "
            "gin_configs/adapters that it was trained with."
        )


def _read_adapters(folder: str, model: Model | None) -> tuple[str, Description, Arrays, list[str]]:
    """Opens an adapter folder, and lists what it needs of a backbone."""
    if model is None:
        raise ValueError(
            f"The adapters at {folder} must be compared with the model; got none. Bind it: "
            "checkpoints.whole_checkpoint.model = %MODEL"
        )
    description, arrays = adapter_folder.read(folder)
    lacking = adapter_folder.check_arrays(folder, description, arrays)
    weights = conversion.Weights(description.model, arrays)
    conversion.check_config(weights, model.config, folder)
    if model.config.reads_tasks:
        names_in_order = ", ".join(description.task_names)
        logging.warning("%s numbers tasks as follows; TASK_NAMES must: %s", folder, names_in_order)
    return folder, description, arrays, lacking


def _add_adapters(
    path: str,
    folder: str,
    description: Description,
    adapters: Arrays,
    lacking: Sequence[str],
    stored: PyTree,
    state: PyTree,
) -> PyTree:
    """Returns a checkpoint's backbone with the parameters of an adapter folder in their places."""
    shapes, base, where = _flatten(state["target"]), t5x_checkpoint.open(path), f"{path} + {folder}"
    frozen = {name: base[name] for name in lacking if name in base}
    found = {**frozen, **adapters}
    conversion.check_shapes(found, shapes, where)
    _check_whole(where, sorted(set(shapes) - set(found)))
    taken = dict(adapters)
    if frozen:
        whole = {name: array.cast(np.float32) for name, array in frozen.items()}
        fingerprint = checkpoint.fingerprint(names.unflatten(whole))
        how = "Name the right one as CHECKPOINT_PATH."
        adapter_folder.check_backbone(description.backbone, fingerprint, path, how)
        if description.backbone.dtype != "float32":
            dtype = conversion.DTYPES[description.backbone.dtype]
            taken |= {name: array.cast(dtype) for name, array in frozen.items()}
    target = {name: _find(stored["target"], name) for name in frozen}
    target |= {name: array.read() for name, array in taken.items()}
    logging.info("Loaded %d parameters from %s.", len(adapters), folder)
    logging.info("Loaded %d parameters from %s.", len(frozen), path)
    return {
        "target": names.unflatten(target),
        "state": {"step": np.asarray(description.step, np.int32)},
    }


def _find(tree: PyTree, path: str) -> Any:
    return functools.reduce(operator.getitem, path.split("/"), tree)


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
