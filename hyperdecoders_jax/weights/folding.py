"""Gates folded into the kernels that they scale: a model with gates in, one without gates out.

Weights can hold the gates that all examples share: those of the variant `GG`, and for a single
task those by `task_embedding`. No weights can stand for gates that read an example's states.

Source: Tay et al. 2021 (arXiv:2007.05891), the gates; see `modeling.hypergrid`.
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
    """What a format without a place for gates says of a model's; nothing where it has none."""
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
    """The arrays and the configuration of the same model without gates.

    Args:
      arrays: all parameters of the model, under our paths.
      config: of the model.
      task_names: the ordered list that numbers tasks, if known.
      task: whose gates are meant, where they depend on the task.

    Cost: reads the parameters of the gates; kernels are read, and folded, one at a time.

    Raises:
      ValueError: there are no gates, or some that cannot be folded; or they depend on the task and
        it is not named, or the other way round.
    """
    grids = _grids(config)
    if not grids:
        raise ValueError(
            "--fold must be given a model with gates; this one has none. Leave it out."
        )
    if obstacle := _obstacle(grids):
        raise ValueError(
            f"Gates must be the same for all examples, or for all of a task, to be folded. "
            f"{obstacle} Convert to a format of this package, without --fold."
        )
    task_id = _find_task(grids, task_names, task)
    folded = {path: x for path, x in arrays.items() if not _is_of_gates(path)}
    for side in grids:
        for layer, gates in enumerate(_read_gates(arrays, config, side, task_id)):
            for name in names.feed_forward_names(config):
                grid = getattr(gates, name.split("_")[0])  # The two wi of v1.1 share theirs.
                if grid is not None:
                    path = f"{side}/layers_{layer}/mlp/{name}/kernel"
                    folded[path] = folded[path].then(functools.partial(_fold_kernel, gates=grid))
    config = dataclasses.replace(config, encoder_hypergrid=None, decoder_hypergrid=None)
    if not config.reads_tasks:
        config = dataclasses.replace(config, num_tasks=None, num_trained_tasks=None)
    return folded, config


def _grids(config: TransformerConfig) -> dict[str, HyperGridConfig]:
    grids = {side: getattr(config, f"{side}_hypergrid") for side in ("encoder", "decoder")}
    return {side: grid for side, grid in grids.items() if grid is not None}


def _obstacle(grids: dict[str, HyperGridConfig]) -> str | None:
    """Why gates cannot be folded."""
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
                f"--task must be left out where gates are the same for all tasks; got {task!r}."
            )
        return 0
    if not task_names:
        raise ValueError(
            "Weights must name their tasks for one task's gates to be folded; these do not. "
            "Convert the run that they are of, or its adapters, instead."
        )
    if task not in task_names:
        raise ValueError(
            "--task must name the task whose gates are folded, for each task has its own: one of "
            f"{tuple(task_names)}; got {task!r}.{errors.suggestion(task or '', task_names)}"
        )
    return task_names.index(task)


def _is_of_gates(path: str) -> bool:
    return path.startswith(("encoder_hypergrid/", "decoder_hypergrid/"))


def _read_gates(
    arrays: Arrays, config: TransformerConfig, side: str, task_id: int
) -> list[GridGates]:
    """The gates of each layer, [rows, cols]."""
    learned = names.unflatten(
        {path: array.read() for path, array in arrays.items() if path.startswith(f"{side}_hyper")}
    )
    # Whatever the type of activations, kernels are scaled in float32.
    module = hypergrid.HyperGrid(dataclasses.replace(config, dtype="float32"), side)
    layers = module.apply({"params": learned[f"{side}_hypergrid"]}, jnp.array([task_id]))
    nobody_reads = jnp.zeros((1, 1, config.emb_dim)), jnp.ones((1, 1), bool)
    gates = [layer.gates(*nobody_reads) for layer in layers]
    return jax.tree.map(lambda x: x.reshape(x.shape[-2:]), gates)


def _fold_kernel(kernel: np.ndarray, gates: jax.Array) -> np.ndarray:
    return np.asarray(gated_matmul.fold(jnp.asarray(kernel), gates))
