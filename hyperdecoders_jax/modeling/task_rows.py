"""Row lookup in parameters that are learned for each task.

A reader, an adapter source or a grid of gates, has `unseen_tasks`: a task that was not trained on
gets an "error", NaN here and reported by the trainer, or the "mean" of the trained ones.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from hyperdecoders_jax.modeling.config import AdapterConfig, HyperGridConfig, TransformerConfig
from hyperdecoders_jax.types import UNSEEN_TASK_ID

Reader = AdapterConfig | HyperGridConfig


def num_tasks(config: TransformerConfig) -> int:
    """The number of tasks, or ValueError where the configuration does not say."""
    if config.num_tasks is None:
        raise ValueError(
            "TransformerConfig.num_tasks must be the number of tasks for sources that read tasks "
            "(`task`, `manual_specific`) and for gates by `task_embedding`; got None. Set "
            "NUM_TASKS, or give the list of tasks to Model.for_tasks."
        )
    return config.num_tasks


def find(
    task_ids: Int[Array, "*batch"] | None, config: TransformerConfig, reader: Reader
) -> Int[Array, "batch"]:
    """The row of each example in what `with_mean` gives; ValueError without `task_ids`."""
    if task_ids is None:
        raise ValueError(
            "Sources that read tasks (`task`, `manual_specific`) and gates by `task_embedding` "
            "need task_ids; got None. Pass the number of each example's task."
        )
    # An unknown number must not read another task's row: beyond the end `take` gives NaN, which the
    # trainer reports. Nothing can be raised here, as values are unknown while jit traces.
    is_known = (task_ids >= 0) & (task_ids < config.num_tasks)
    rows = jnp.where(is_known, task_ids, config.num_tasks + 1)
    is_mean = (task_ids == UNSEEN_TASK_ID) & (reader.unseen_tasks == "mean")
    return jnp.where(is_mean, config.num_tasks, rows)


def with_mean(x: Array, config: TransformerConfig, reader: Reader, axis: int) -> Array:
    """`x` with one more row for unseen tasks, the mean of the trained ones, if they get it."""
    if reader.unseen_tasks == "error":
        return x
    trained = lax.slice_in_dim(x, 0, config.num_trained_tasks or config.num_tasks, axis=axis)
    return jnp.concatenate([x, jnp.mean(trained, axis=axis, keepdims=True)], axis=axis)


def take(x: Array, rows: Int[Array, "batch"], axis: int) -> Array:
    """`x` at `rows` of `axis`; NaN for a row that does not exist."""
    return jnp.take(x, rows, axis=axis, mode="fill", fill_value=jnp.nan)
