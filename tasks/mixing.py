"""Mixtures made in a configuration, from names of tasks, rates and splits.

    MIXTURE_OR_TASK_NAME = @mixing.mixture()
    mixing.mixture:
      tasks = ('glue_cola_v200', 'glue_rte_v200')
      rates = @mixing.Temperature()
    mixing.Temperature.temperature = 10

A rate is a function of a task, called when data are read: sizes are those of the train splits at
that time, and reading a configuration needs neither data nor SeqIO. Sizes are counted in records,
so those of tasks that make several examples of one (MRQA's windows) are too small.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hyperdecoders_jax.tasks.splits import SplitConfig

if TYPE_CHECKING:
    import seqio

    Rates = Callable[[seqio.Task], float]


@dataclasses.dataclass(frozen=True)
class Proportional:
    """Rates are sizes, n: every example is drawn as often as any other, as in the original."""

    def __call__(self, task: seqio.Task) -> float:
        return _size(task)


@dataclasses.dataclass(frozen=True)
class Equal:
    """Rates are equal, whatever the sizes."""

    def __call__(self, task: seqio.Task) -> float:
        return 1.0


@dataclasses.dataclass(frozen=True)
class Temperature:
    """Rates are n ** (1 / temperature); the higher it is, the more alike they are.

    The original's configurations set 10, which its code does not use.

    Source: Devlin 2019, multilingual BERT; Arivazhagan et al. 2019 (arXiv:1907.05019), section 4.1.
    """

    temperature: float

    def __post_init__(self):
        _check_temperature(self)

    def __call__(self, task: seqio.Task) -> float:
        return _size(task) ** (1 / self.temperature)


@dataclasses.dataclass(frozen=True)
class Capped:
    """Rates are min(n, limit) ** (1 / temperature), as T5's.

    Source: Raffel et al. 2020 (arXiv:1910.10683), section 3.5.2.
    """

    limit: int
    temperature: float = 1.0

    def __post_init__(self):
        _check_temperature(self)
        if self.limit < 1:
            raise ValueError(
                f"Capped.limit must be at least 1 example; got {self.limit}. T5's is 2**21 for "
                "its own mixture."
            )

    def __call__(self, task: seqio.Task) -> float:
        return min(_size(task), self.limit) ** (1 / self.temperature)


def mixture(
    tasks: str | Sequence[str],
    rates: Rates = Proportional(),
    splits: SplitConfig | None = None,
) -> seqio.Mixture:
    """Mixes tasks; nothing is registered, and no data are read.

    Args:
        tasks: registered mixtures or tasks. All their tasks are mixed by `rates` alone, each once;
            the rates of registered mixtures are ignored.
        rates: one of the classes above, or a function of a task.
        splits: rules that make splits from those of the data; None: those of the data.

    Raises:
        ValueError: nothing is registered under one of the names, or there is none.
    """
    import seqio

    from hyperdecoders_jax.data import mixtures
    from hyperdecoders_jax.tasks import subsets

    names = [tasks] if isinstance(tasks, str) else tasks
    if not names:
        raise ValueError(
            f"A mixture must hold a task; got tasks={tasks!r}. Bind mixing.mixture.tasks to the "
            "name of a mixture, or to a list of tasks."
        )
    leaves = {task.name: task for name in names for task in mixtures.leaf_tasks(name)}
    return seqio.Mixture(
        "+".join(names),
        [subsets.resplit(task, splits or SplitConfig()) for task in leaves.values()],
        default_rate=rates,
    )


def _size(task: seqio.Task) -> int:
    """Records to train on, or what SeqIO's cache counts of them where the data are not here."""
    from hyperdecoders_jax.data import offline

    if task.cache_dir is not None:
        try:
            offline.check(task, "train")
        except ValueError:
            return task.get_cached_stats("train")["examples"]
    return task.num_input_examples("train")


def _check_temperature(rates: Temperature | Capped) -> None:
    if not rates.temperature > 0:
        raise ValueError(
            f"{type(rates).__name__}.temperature must be above 0; got {rates.temperature}. 1 leaves"
            " rates in proportion to sizes."
        )
