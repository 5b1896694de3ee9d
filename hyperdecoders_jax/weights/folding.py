"""Folds gates into the kernels that they scale, which gives a model without gates.

Possible for gates that all examples share: those of the variant `GG`, and those of one task by
`task_embedding`. Gates computed from each input cannot be folded. See `modeling.hypergrid`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hyperdecoders_jax import errors
from hyperdecoders_jax.modeling import gated_matmul, hypergrid
from hyperdecoders_jax.modeling.config import HyperGridConfig, TransformerConfig
from hyperdecoders_jax.types import GridGates
from hyperdecoders_jax.weights import names
from hyperdecoders_jax.weights.arrays import Arrays, StoredArray


def advice(config: TransformerConfig) -> str:
    """Advice for errors of formats without gates; empty for models without gates."""
    grids = _grids(config)
    if obstacle := _obstacle(grids):
        return f" {obstacle} Keep such a model in this package's own formats."
    return " hyperdecoders convert --fold makes its gates part of its kernels." if grids else ""


def fold(
    arrays: Arrays,
    config: TransformerConfig,
    task_names: Sequence[str] | None = None,
    task: str | None = None,
) -> tuple[dict[str, StoredArray], TransformerConfig]:
    """Arrays and configuration of the same model without gates; a kernel is folded when it is read.

    ValueError if there are none, they cannot be folded, or `task` is missing or of no use.
    """
    grids = _grids(config)
    if not grids:
        raise ValueError(
            "Option --fold must be given a model with gates; this one has none. Leave it out."
        )
    if obstacle := _obstacle(grids):
        raise ValueError(
            f"Gates must be the same for all examples, or for all of a task, to be folded. "
            f"{obstacle} Convert to a format of this package, without --fold."
        )
    task_id = _find_task(grids, task_names, task)
    of_gates = ("encoder_hypergrid/", "decoder_hypergrid/")
    folded = {path: x for path, x in arrays.items() if not path.startswith(of_gates)}
    for side in grids:
        for layer, gates in enumerate(_read_gates(arrays, config, side, task_id)):
            for name in names.feed_forward_names(config):
                grid = getattr(gates, name.split("_")[0])  # The two wi of v1.1 share theirs.
                if grid is not None:
                    path = f"{side}/layers_{layer}/mlp/{name}/kernel"
                    folded[path] = folded[path].then(functools.partial(_fold_kernel, gates=grid))
    config = dataclasses.replace(config, encoder_hypergrid=None, decoder_hypergrid=None)
    # If the gates alone read tasks, the folded model has none.
    if not config.reads_tasks:
        config = dataclasses.replace(config, num_tasks=None, num_trained_tasks=None)
    return folded, config


def _grids(config: TransformerConfig) -> dict[str, HyperGridConfig]:
    grids = {side: getattr(config, f"{side}_hypergrid") for side in ("encoder", "decoder")}
    return {side: grid for side, grid in grids.items() if grid is not None}


def _obstacle(grids: dict[str, HyperGridConfig]) -> str | None:
    """Why gates cannot be folded; None if they can."""
    for side, grid in grids.items():
        if grid.condition_read not in (None, "task_embedding"):
            return (
                f"The {side}'s gates read {grid.condition_read!r}, states of each example, so that "
                "no kernel can hold them."
            )
    return None


def _find_task(
    grids: dict[str, HyperGridConfig], task_names: Sequence[str] | None, task: str | None
) -> int:
    if all(grid.condition_read is None for grid in grids.values()):
        if task is not None:
            raise ValueError(
                f"Option --task must be left out where gates are the same for all; got {task!r}."
            )
        return 0
    if not task_names:
        raise ValueError(
            "Weights must name their tasks for one task's gates to be folded; these do not. "
            "Convert the run that they are of, or its adapters, instead."
        )
    if task not in task_names:
        raise ValueError(
            "Option --task must name the task whose gates are folded, for each task has its own: "
            f"one of {tuple(task_names)}; got {task!r}.{errors.suggestion(task or '', task_names)}"
        )
    return task_names.index(task)


def _read_gates(
    arrays: Arrays, config: TransformerConfig, side: str, task_id: int
) -> list[GridGates]:
    """Gates of each layer, [rows, cols]."""
    learned = names.unflatten(
        {path: array.read() for path, array in arrays.items() if path.startswith(f"{side}_hyper")}
    )
    # Kernels are scaled in float32, whatever the type of activations.
    module = hypergrid.HyperGrid(dataclasses.replace(config, dtype="float32"), side)
    layers = module.apply({"params": learned[f"{side}_hypergrid"]}, jnp.array([task_id]))
    # `gates` takes states and a mask, which gates that can be folded do not read.
    unread = jnp.zeros((1, 1, config.emb_dim)), jnp.ones((1, 1), bool)
    gates = [layer.gates(*unread) for layer in layers]
    return jax.tree.map(lambda x: x.reshape(x.shape[-2:]), gates)  # Without the batch of one.


def _fold_kernel(kernel: np.ndarray, gates: jax.Array) -> np.ndarray:
    # The function that the model itself uses where all examples share their gates.
    return np.asarray(gated_matmul.fold(jnp.asarray(kernel), gates))
