"""Parameters before the first step: loaded from weights in any format, or drawn."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

import jax
import numpy as np
from absl import logging

from hyperdecoders_jax import files
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.trained.shared import Shared
from hyperdecoders_jax.training.trainable import num_parameters
from hyperdecoders_jax.weights import arrays, backbone, exported_folder, formats, names, run_folder
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel


def open_start(
    model: Model, path: str | None, seed: int, shared: Shared | None = None
) -> TrainedModel:
    """All parameters that a run starts from, in memory, float32; logs where each came from.

    `path` is one of `backbone.open`, with T5's own at least; None draws all from `seed`.
    """
    _check_memory(model)
    description = Description(model.config, model.decoding)
    if path is None:
        flat = names.flatten(dict(model.init(jax.random.key(seed))))
        logging.info("Drew all %d parameters from seed %d.", num_parameters(flat), seed)
        return TrainedModel(description, arrays.in_memory(flat))
    read = functools.partial(_read, path, model)
    loaded, skipped = (shared or Shared()).get("start", (path, model.config), read)
    shapes = names.flatten(model.param_shapes())
    new = run_folder.draw(model, seed, [p for p in shapes if p not in loaded])
    logging.info("Loaded %d parameters from %s: %s", num_parameters(loaded), path, sorted(loaded))
    logging.info("Skipped of it: %s", skipped or "nothing")
    logging.info("Drew %d new ones: %s", num_parameters(new), sorted(new))
    flat = {**loaded, **new}
    return TrainedModel(description, arrays.in_memory({p: flat[p] for p in shapes}))


def _read(path: str, model: Model) -> tuple[dict[str, np.ndarray], Sequence[str]]:
    """The parameters of a path in memory, and what of it was skipped."""
    weights = backbone.open(path, model.config)
    arrays_of = {p: x.read().astype(np.float32, copy=False) for p, x in weights.arrays.items()}
    return arrays_of, weights.skipped


def _check_memory(model: Model) -> None:
    """ValueError unless the parameters fit into this machine, which would else swap or kill us."""
    needed = 4 * num_parameters(model.param_shapes())
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ValueError(
            "A model's parameters must fit into memory in float32; this one's are "
            f"{needed / 1e9:,.1f} GB, and the machine has {there / 1e9:,.1f} GB. Choose a smaller "
            "model, or correct its sizes."
        )


def source_of(path: str | None, seed: int) -> str:
    """Where a start's parameters come from, in words."""
    return f"random weights of seed {seed}" if path is None else str(path)


def check_task_order(path: str | None, model: Model, task_names: Sequence[str] | None) -> None:
    """ValueError if tasks have other numbers than an exported model's, whose come first."""
    path = None if path is None else formats.to_path(files.resolve(path))
    is_exported = path is not None and exported_folder.is_hyperdecoder(path)
    if not (is_exported and model.config.reads_tasks and task_names is not None):
        return
    there = exported_folder.read_description(path)
    theirs, ours = there.task_names, tuple(task_names)
    if there.model.reads_tasks and ours[: len(theirs)] != theirs:
        raise ValueError(
            f"Tasks must keep their numbers; {path} numbers them {theirs}, and this run {ours}. "
            "Set TASK_NAMES to that list and append new tasks, or leave it to --init."
        )


def field(path: str):
    """A field of a trained model's description, named by the gin scope; for runs/init.gin.

    `@emb_dim/start.field()` is the size of that name. A model that does not tell tasks apart has no
    `task_names`: it may read any. `path` and errors are those of `formats.describe_text`.
    """
    import gin

    description, name = formats.describe_text(path), gin.current_scope()[-1]
    if name == "vocabulary_path":
        return "bytes" if description.vocabulary.is_bytes else path
    if name == "frozen_dtype":
        return description.backbone.dtype if description.backbone else "float32"
    if name == "is_plain":
        return exported_folder.is_plain(description.model)
    if name == "task_names" and not description.model.reads_tasks:
        return None
    return {**vars(description.model), **vars(description)}[name]
