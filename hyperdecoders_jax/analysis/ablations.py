"""Conditions of examples in, other conditions for the same examples out: are they needed at all?

If a model's metric does not suffer under the mean condition of a task, its adaptation is by task;
if not under another example's, it is by nothing that examples differ in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Shaped

OWN = "own"
# Says nothing where there is one task.
ACROSS = "shuffled across tasks"


def replace(
    kind: str,
    conditions: Mapping[str, Float[np.ndarray, "examples *rest"]],
    tasks: Shaped[np.ndarray, "examples"],
    seed: int = 0,
) -> dict[str, Float[np.ndarray, "examples *rest"]]:
    """The conditions that examples get in an ablation.

    >>> x = np.array([[1.0], [3.0], [8.0]])
    >>> replace("mean of the task", {"decoder_adapters": x}, np.array(["a", "a", "b"]))
    {'decoder_adapters': array([[2.],
           [2.],
           [8.]])}

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

    def replace(conditions, tasks, rng):
        rows = rows_of(tasks, rng)
        return {key: x[rows] for key, x in conditions.items()}

    return replace


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
    means = {key: np.empty_like(x) for key, x in conditions.items()}
    for key, x in conditions.items():
        for task in np.unique(tasks):
            means[key][tasks == task] = x[tasks == task].mean(axis=0, dtype=np.float64)
    return means


def _mean(conditions, tasks, rng):
    return {
        key: np.broadcast_to(x.mean(axis=0, dtype=np.float64).astype(x.dtype), x.shape)
        for key, x in conditions.items()
    }


def _zero(conditions, tasks, rng):
    return {key: np.zeros_like(x) for key, x in conditions.items()}


# In the order of tables: the further down, the less of an example is left.
KINDS = {
    OWN: lambda conditions, tasks, rng: dict(conditions),
    "mean of the task": _task_means,
    "mean of all": _mean,
    "shuffled within the task": _from(_next_of_task),
    ACROSS: _from(_any_of_others),
    "zero": _zero,
}
