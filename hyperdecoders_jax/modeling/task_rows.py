"""The numbers of tasks become rows of what is learned for each task.

Whoever learns something for each task, an adapter source or the gates of a grid, says by its
`unseen_tasks` what an example of a task that was not trained on reads: "error", which is NaN here
and told by the trainer, or the "mean" of the trained ones.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from hyperdecoders_jax.modeling.config import AdapterConfig, HyperGridConfig, TransformerConfig
from hyperdecoders_jax.types import UNSEEN_TASK_ID

Reader = AdapterConfig | HyperGridConfig


def num_tasks(config: TransformerConfig) -> int:
    """How many tasks to learn something for.

    Raises:
      ValueError: the configuration does not say.
    """
    if config.num_tasks is None:
        raise ValueError(
            "TransformerConfig.num_tasks must be the number of tasks for the sources `task` and "
            "`manual_specific` and for gates by `task_embedding`; got None. Set NUM_TASKS, or give "
            "the list of tasks to Model.for_tasks."
        )
    return config.num_tasks


def find(
    task_ids: Int[Array, "*batch"] | None, config: TransformerConfig, reader: Reader
) -> Int[Array, "batch"]:
    """The row of each example in what `with_mean` gives.

    Raises:
      ValueError: there are no `task_ids`.
    """
    if task_ids is None:
        raise ValueError(
            "The sources `task` and `manual_specific` and gates by `task_embedding` need task_ids; "
            "got None. Pass the number of each example's task."
        )
    # No number of a task may read another's row: out of bounds is NaN, which a trainer tells.
    is_known = (task_ids >= 0) & (task_ids < config.num_tasks)
    rows = jnp.where(is_known, task_ids, config.num_tasks + 1)
    is_mean = (task_ids == UNSEEN_TASK_ID) & (reader.unseen_tasks == "mean")
    return jnp.where(is_mean, config.num_tasks, rows)


def with_mean(x: Array, config: TransformerConfig, reader: Reader, axis: int) -> Array:
    """The rows of all tasks and, where unseen tasks get it, the mean of the trained ones."""
    if reader.unseen_tasks == "error":
        return x
    trained = lax.slice_in_dim(x, 0, config.num_trained_tasks or config.num_tasks, axis=axis)
    return jnp.concatenate([x, jnp.mean(trained, axis=axis, keepdims=True)], axis=axis)


def take(x: Array, rows: Int[Array, "batch"], axis: int) -> Array:
    """`x` at `rows` of `axis`; NaN for a row that is not there."""
    return jnp.take(x, rows, axis=axis, mode="fill", fill_value=jnp.nan)
