"""What T5X restores: a checkpoint's path in, T5X's configuration of restoring out.

T5X drops what the model has no place for, and reads an array of any shape. Here that, too, is an
error that names the arrays, before any is read. What a run starts from is not restored by T5X, see
`initialization`.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from t5x import state_utils, utils

from hyperdecoders_jax.model import Model
from hyperdecoders_jax.t5x import data
from hyperdecoders_jax.training import identity as identity_lib
from hyperdecoders_jax.training import run_directory
from hyperdecoders_jax.training.identity import Identity
from hyperdecoders_jax.types import PyTree
from hyperdecoders_jax.weights import (
    adapter_folder,
    conversion,
    fingerprints,
    names,
    t5x_checkpoint,
)
from hyperdecoders_jax.weights.adapter_folder import Description
from hyperdecoders_jax.weights.arrays import Arrays


def own_checkpoint(model_dir: str) -> utils.RestoreCheckpointConfig:
    """Returns `CheckpointConfig.restore` of training: nothing but what the run itself has written.

    A run is continued from the newest checkpoint in its folder, with its step, its optimiser and
    its place in the data.

    Args:
        model_dir: of the run.

    Raises:
        ValueError: it holds a run of the package's own runner, whose files T5X would replace.
    """
    if steps := run_directory.RunDirectory(model_dir).checkpoints().steps():
        raise ValueError(
            f"A model directory must hold the run of one runner; {model_dir} has checkpoints of "
            f"the package's own, of steps {steps}. Leave out --runner=t5x, or name another "
            "--model_dir."
        )
    return utils.RestoreCheckpointConfig(path=(), state_transformation_fns=(_take_own,))


def whole_checkpoint(
    path: str,
    dtype: str | None = "bfloat16",
    adapters: str | None = None,
    model: Model | None = None,
    task_names: Sequence[str] | None = None,
) -> utils.RestoreCheckpointConfig:
    """Returns the restoring of evaluation and inference: all parameters, checked.

    Args:
        path: of T5X's folder `checkpoint_<step>`. It holds all parameters of the model, or those
            that `adapters` lack.
        dtype: that parameters are cast to; None leaves them.
        adapters: an adapter folder, whose parameters come before those at `path`; None: there is
            none.
        model: that is evaluated, to compare it with that of `adapters`.
        task_names: the ordered list that numbers tasks, for a model that tells them apart, to
            compare it with that of the run or of `adapters`; None: it is not compared.

    Raises:
        ValueError: the path is not one of a T5X checkpoint, the adapters are not whole or of
            another model, or tasks were numbered by another list.
    """
    where = _check_path(path)
    is_numbered = task_names is not None and model is not None and model.config.reads_tasks
    if adapters is None:
        take = functools.partial(_take_all, where)
        numbered = data.read_identity(where).task_names if is_numbered else None
    else:
        folder, description, *read = _read_adapters(adapters, model)
        take = functools.partial(_add_adapters, where, folder, description, *read)
        numbered = description.task_names
    if is_numbered:
        here = Identity(task_names=tuple(task_names))
        identity_lib.check_same(Identity(task_names=numbered), here, adapters or where)
    return utils.RestoreCheckpointConfig(
        path=where, mode="specific", dtype=dtype, state_transformation_fns=(take,)
    )


def _check_path(path: str) -> str:
    if not re.fullmatch(r"(.*/)?checkpoint_\d+/?", path):
        raise ValueError(
            f"T5X reads its own checkpoints, folders named checkpoint_<step>; got {path!r}. Name "
            f"one, or make one of any other weights: hyperdecoders convert --from={path} "
            "--to=t5x:FOLDER"
        )
    return path.rstrip("/")


def _take_all(path: str, stored: PyTree, state: PyTree) -> PyTree:
    found = t5x_checkpoint.open(path)
    _check_whole(path, found, _flatten(state["target"]))
    logging.info("Loaded all %d parameters from %s.", len(found), path)
    return stored


def _check_whole(where: str, found: Arrays, shapes: Mapping[str, Any]) -> None:
    conversion.check_shapes(found, shapes, where)
    missing = sorted(set(shapes) - set(found))
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
    _check_whole(where, found, shapes)
    taken = dict(adapters)
    if frozen:
        whole = {name: array.cast(np.float32) for name, array in frozen.items()}
        fingerprint = fingerprints.fingerprint(names.unflatten(whole))
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


def _take_own(stored: PyTree, state: PyTree, is_resuming: bool = True) -> PyTree:
    theirs, ours = set(_flatten(stored)), set(_flatten(state))
    missing, unexpected = sorted(ours - theirs), sorted(theirs - ours)
    if missing or unexpected:
        raise ValueError(
            "The checkpoint of a run that is continued must hold exactly its train state; missing: "
            f"{names.abridge(missing)}; unexpected: {names.abridge(unexpected)}. Continue it with "
            "the model, OPTIMIZER and TRAINABLE that it was begun with, or name a new MODEL_DIR."
        )
    return stored


def _flatten(tree: PyTree) -> dict[str, Any]:
    return state_utils.flatten_state_dict(tree)
