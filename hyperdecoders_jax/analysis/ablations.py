"""Ablations: examples get other conditions than their own, to see whether they need theirs.

If a metric does not suffer from the mean condition of a task, the model adapts to tasks only; if
not from another example's condition, it adapts to nothing in which examples differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int, Shaped

from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk

OWN = "own"
OF_SEVERAL_TASKS = ("mean of all", "shuffled across tasks")  # With one task they equal others.
_NUM_SUMMED = 256  # Rows in memory at a time while a mean is computed.
_Rows = Float[np.ndarray, "rows *rest"] | RowsOnDisk  # One for each example, or for each mean.


@dataclasses.dataclass(frozen=True)
class Given:
    """Conditions that replace the examples' own."""

    values: Mapping[str, _Rows]  # By the key of what reads them.
    rows: Int[np.ndarray, "examples"]  # Index into the values for each example.

    def take(self, examples: Int[np.ndarray, "batch"]) -> dict[str, Float[np.ndarray, "batch *_"]]:
        """Conditions of a batch of examples."""
        return {key: x[self.rows[examples]] for key, x in self.values.items()}


def replace(
    kind: str, conditions: Mapping[str, _Rows], tasks: Shaped[np.ndarray, "examples"], seed: int = 0
) -> Given:
    """Conditions of all examples under an ablation.

    >>> x = np.array([[1.0], [3.0], [8.0]])
    >>> given = replace("mean of the task", {"decoder_adapters": x}, np.array(["a", "a", "b"]))
    >>> given.take([0, 1, 2])
    {'decoder_adapters': array([[2.],
           [2.],
           [8.]], dtype=float32)}

    `conditions` has a row for each example of all tasks. In shuffles an example gets all conditions
    of one other example. Raises ValueError if the kind is none of `KINDS`.
    """
    if kind not in KINDS:
        raise ValueError(f"An ablation must be one of {tuple(KINDS)}; got {kind!r}.")
    return KINDS[kind](conditions, np.asarray(tasks), np.random.default_rng(seed))


def _from(rows_of: Callable) -> Callable:
    """An ablation that gives each example the condition of another one."""
    return lambda conditions, tasks, rng: Given(conditions, rows_of(tasks, rng))


def _next_of_task(tasks, rng):
    """The next example in a random cycle through the task: never the example itself."""
    rows = np.arange(len(tasks))
    for task in np.unique(tasks):
        circle = rng.permutation(np.flatnonzero(tasks == task))
        rows[circle] = np.roll(circle, 1)
    return rows


def _any_of_others(tasks, rng):
    rows = np.arange(len(tasks))
    for task in np.unique(tasks):
        if len(others := np.flatnonzero(tasks != task)):
            rows[tasks == task] = rng.choice(others, np.sum(tasks == task))
    return rows


def _task_means(conditions, tasks, rng):
    _, numbers = np.unique(tasks, return_inverse=True)
    return Given({key: _means(x, numbers) for key, x in conditions.items()}, numbers)


def _zero(conditions, tasks, rng):
    zeros = {key: np.zeros((1, *x.shape[1:]), np.float32) for key, x in conditions.items()}
    return Given(zeros, np.zeros(len(tasks), int))


def _means(x: _Rows, groups: Int[np.ndarray, "rows"]) -> Float[np.ndarray, "groups *rest"]:
    sizes = np.bincount(groups)
    sums = np.zeros((len(sizes), *x.shape[1:]))
    for start in range(0, len(groups), _NUM_SUMMED):
        rows = np.arange(start, min(start + _NUM_SUMMED, len(groups)))
        # Unbuffered: `sums[groups] += x` would add one row of each group only.
        np.add.at(sums, groups[rows], x[rows])
    return (sums.T / sizes).T.astype(np.float32)  # Transposed, so that sizes meet the group axis.


# In the order of tables, from most to least information about the example.
KINDS = {
    OWN: _from(lambda tasks, rng: np.arange(len(tasks))),
    "mean of the task": _task_means,
    "mean of all": lambda x, tasks, rng: _task_means(x, np.zeros(len(tasks), int), rng),
    "shuffled within the task": _from(_next_of_task),
    "shuffled across tasks": _from(_any_of_others),
    "zero": _zero,
}
