"""Conditions of examples in, other conditions for the same examples out: are they needed at all?

If a model's metric does not suffer under the mean condition of a task, its adaptation is by task;
if not under another example's, it is by nothing that examples differ in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int, Shaped

from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk

OWN = "own"
# Say nothing new where there is one task.
OF_SEVERAL_TASKS = ("mean of all", "shuffled across tasks")

# Rows that are in memory at once while they are added up.
_NUM_SUMMED = 256

# A row for each example, or for each mean.
_Rows = Float[np.ndarray, "rows *rest"] | RowsOnDisk


@dataclasses.dataclass(frozen=True)
class Given:
    """What examples are given as their conditions.

    Attributes:
      values: by what reads them.
      rows: of the values, one for each example.
    """

    values: Mapping[str, _Rows]
    rows: Int[np.ndarray, "examples"]

    def take(self, examples: Int[np.ndarray, "batch"]) -> dict[str, Float[np.ndarray, "batch *_"]]:
        """The conditions that these examples get."""
        return {key: x[self.rows[examples]] for key, x in self.values.items()}


def replace(
    kind: str,
    conditions: Mapping[str, _Rows],
    tasks: Shaped[np.ndarray, "examples"],
    seed: int = 0,
) -> Given:
    """The conditions that examples get in an ablation.

    >>> x = np.array([[1.0], [3.0], [8.0]])
    >>> given = replace("mean of the task", {"decoder_adapters": x}, np.array(["a", "a", "b"]))
    >>> given.take([0, 1, 2])
    {'decoder_adapters': array([[2.],
           [2.],
           [8.]], dtype=float32)}

    Args:
      kind: one of `KINDS`.
      conditions: of all examples of all tasks, each row an example's.
      tasks: of each example.
      seed: of what is shuffled; what reads several conditions reads all of them from one example.

    Raises:
      ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"An ablation must be one of {tuple(KINDS)}; got {kind!r}.")
    return KINDS[kind](conditions, np.asarray(tasks), np.random.default_rng(seed))


def _from(rows_of: Callable) -> Callable:
    """Each example gets the condition of the example whose row `rows_of` names."""
    return lambda conditions, tasks, rng: Given(conditions, rows_of(tasks, rng))


def _own(tasks, rng):
    return np.arange(len(tasks))


def _next_of_task(tasks, rng):
    """The next one's in a random circle through the task: never its own."""
    rows = np.arange(len(tasks))
    for task in np.unique(tasks):
        circle = rng.permutation(np.flatnonzero(tasks == task))
        rows[circle] = np.roll(circle, 1)
    return rows


def _any_of_others(tasks, rng):
    rows = np.arange(len(tasks))
    for task in np.unique(tasks):
        others = np.flatnonzero(tasks != task)
        if len(others):
            rows[tasks == task] = rng.choice(others, np.sum(tasks == task))
    return rows


def _task_means(conditions, tasks, rng):
    _, numbers = np.unique(tasks, return_inverse=True)
    return Given({key: _means(x, numbers) for key, x in conditions.items()}, numbers)


def _mean(conditions, tasks, rng):
    return _task_means(conditions, np.zeros(len(tasks), int), rng)


def _zero(conditions, tasks, rng):
    zeros = {key: np.zeros((1, *x.shape[1:]), np.float32) for key, x in conditions.items()}
    return Given(zeros, np.zeros(len(tasks), int))


def _means(x: _Rows, groups: Int[np.ndarray, "rows"]) -> Float[np.ndarray, "groups *rest"]:
    sizes = np.bincount(groups)
    sums = np.zeros((len(sizes), *x.shape[1:]))
    for start in range(0, len(groups), _NUM_SUMMED):
        rows = np.arange(start, min(start + _NUM_SUMMED, len(groups)))
        np.add.at(sums, groups[rows], x[rows])
    return (sums.T / sizes).T.astype(np.float32)


# In the order of tables: the further down, the less of an example is left.
KINDS = {
    OWN: _from(_own),
    "mean of the task": _task_means,
    "mean of all": _mean,
    "shuffled within the task": _from(_next_of_task),
    "shuffled across tasks": _from(_any_of_others),
    "zero": _zero,
}
