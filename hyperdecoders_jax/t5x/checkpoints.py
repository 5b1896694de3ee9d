"""T5X's configuration of what it restores, with a check of every array.

T5X drops arrays that the model does not have, and reads an array of any shape. Here both are errors
that name the arrays, before any is read. For a run's first parameters see `initialization`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from t5x import state_utils, utils

from hyperdecoders_jax.model import Model
from hyperdecoders_jax.t5x import data
from hyperdecoders_jax.training import identity as identity_lib
from hyperdecoders_jax.training import run_directory, run_lock
from hyperdecoders_jax.training.identity import Identity
from hyperdecoders_jax.types import PyTree
from hyperdecoders_jax.weights import (
    adapter_folder,
    check_params,
    conversion,
    fingerprints,
    names,
    t5x_checkpoint,
)
from hyperdecoders_jax.weights.arrays import Arrays
from hyperdecoders_jax.weights.trained_model import DTYPES, Description, TrainedModel


def own_checkpoint(model_dir: str) -> utils.RestoreCheckpointConfig:
    """Returns `CheckpointConfig.restore` for training: the newest checkpoint of the run itself.

    T5X asks for it before it reads or writes: it takes the directory's lock, until the process
    ends. ValueError if another process has it, or in a model directory of our own runner, whose
    files T5X would replace.
    """
    if steps := run_directory.RunDirectory(model_dir).checkpoints().steps():
        raise ValueError(
            f"A model directory must hold the run of one runner; {model_dir} has checkpoints of "
            f"the package's own, of steps {steps}. Leave out --runner=t5x, or name another one."
        )
    run_lock.hold_to_the_end(model_dir)
    # Without a path T5X restores only what it finds in MODEL_DIR.
    return utils.RestoreCheckpointConfig(path=(), state_transformation_fns=(_take_own,))


def whole_checkpoint(
    path: str,
    dtype: str | None = "bfloat16",
    adapters: str | None = None,
    model: Model | None = None,
    task_names: Sequence[str] | None = None,
) -> utils.RestoreCheckpointConfig:
    """Returns what evaluation and inference restore: all parameters, checked.

    `path` is of T5X's folder `checkpoint_<step>`, and holds all parameters, or those that the
    adapter folder `adapters` lacks, whose parameters replace it. `dtype` None is no cast.
    `task_names`, the ordered list that numbers tasks, is compared with that of the run or of
    `adapters` if `model` reads tasks, and `model` with that of `adapters`. Raises ValueError if
    they differ, the path is not one of a T5X checkpoint, or the adapters are incomplete.
    """
    where = _check_path(path)
    is_numbered = task_names is not None and model is not None and model.config.reads_tasks
    if adapters is None:
        take = functools.partial(_take_all, where)
        numbered = data.read_identity(where).task_names if is_numbered else None
    else:
        read = _read_adapters(adapters, model)
        take = functools.partial(_add_adapters, where, read)
        numbered = read[1].task_names
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
    # `stored` is the structure alone: T5X reads the arrays after this function.
    found = t5x_checkpoint.open(path)
    _check_whole(path, found, _flatten(state["target"]))
    logging.info("Loaded all %d parameters from %s.", len(found), path)
    return stored


def _check_whole(where: str, found: Arrays, shapes: Mapping[str, Any]) -> None:
    advice = (
        "Name a checkpoint that a run of this model has written, or choose the file of "
        "gin_configs/adapters that it was trained with."
    )
    check_params.check_params(found, shapes, where, advice=advice)


def _read_adapters(folder: str, model: Model | None) -> tuple[str, Description, Arrays, list[str]]:
    """Reads an adapter folder, and lists the parameters that it needs from a backbone."""
    if model is None:
        raise ValueError(
            f"The adapters at {folder} must be compared with the model; got none. Bind it: "
            "checkpoints.whole_checkpoint.model = %MODEL"
        )
    description, arrays = adapter_folder.read(folder)
    lacking = adapter_folder.check_arrays(folder, description, arrays)
    conversion.check_config(TrainedModel(description, arrays), model.config, folder)
    return folder, description, arrays, lacking


def _add_adapters(
    path: str,
    read: tuple[str, Description, Arrays, list[str]],
    stored: PyTree,
    state: PyTree,
) -> PyTree:
    """Returns a checkpoint's backbone joined with the parameters of an adapter folder."""
    folder, description, adapters, lacking = read
    shapes, base, where = _flatten(state["target"]), t5x_checkpoint.open(path), f"{path} + {folder}"
    frozen = {name: base[name] for name in lacking if name in base}
    found = {**frozen, **adapters}
    _check_whole(where, found, shapes)
    taken = dict(adapters)
    if frozen:
        # Fingerprints are of float32, whatever type T5X saved.
        exact = {name: array.cast(np.float32) for name, array in frozen.items()}
        fingerprint = fingerprints.fingerprint(names.unflatten(exact))
        how = "Name the right one as CHECKPOINT_PATH."
        adapter_folder.check_backbone(description.backbone, fingerprint, path, how)
        if description.backbone.dtype != "float32":
            # The adapters were trained on a rounded backbone, so they are used with the same one.
            dtype = DTYPES[description.backbone.dtype]
            taken |= {name: array.cast(dtype) for name, array in frozen.items()}
    # Placeholders, which T5X reads itself, each host its part; adapters are small, and read here.
    placeholders = _flatten(stored["target"])
    target = {name: placeholders[name] for name in frozen}
    target |= {name: array.read() for name, array in taken.items()}
    logging.info("Loaded %d parameters from %s.", len(adapters), folder)
    logging.info("Loaded %d parameters from %s.", len(frozen), path)
    step = np.asarray(description.step, np.int32)
    return {"target": names.unflatten(target), "state": {"step": step}}


def _take_own(stored: PyTree, state: PyTree, is_resuming: bool = True) -> PyTree:
    # T5X itself would drop arrays that its state does not have.
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
