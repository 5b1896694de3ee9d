"""Tasks of a SeqIO mixture, their rates and their numbers.

A SeqIO mixture may hold mixtures; its leaves are trained on, each with the share that SeqIO gives
it. A task's number is its index in an ordered list of names, whatever the order of registration.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import seqio

from hyperdecoders_jax import errors, types
from hyperdecoders_jax.data import cache, offline, text_table

MixtureOrTask = str | seqio.Task | seqio.Mixture


@dataclasses.dataclass(frozen=True)
class MixingRow:
    """Share and size of a task in a mixture."""

    rate: float  # Share of the mixture's examples, in [0, 1].
    num_examples: int | None  # Before preprocessing; None where the source does not count them.


def get_mixture_or_task(mixture_or_task: MixtureOrTask) -> seqio.Task | seqio.Mixture:
    """The mixture or task of a registered name, else a ValueError; objects pass through."""
    if isinstance(mixture_or_task, seqio.Task | seqio.Mixture):
        return mixture_or_task
    if not isinstance(mixture_or_task, str):
        raise TypeError(
            f"MIXTURE_OR_TASK_NAME must be a registered name or a mixture; got {mixture_or_task!r}."
            " To call a function in gin, write () after its name: @mixing.mixture()."
        )
    names = {*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()}
    if mixture_or_task not in names:
        raise ValueError(
            f"A mixture or task must be registered before it is used; got {mixture_or_task!r}, "
            f"not among {len(names)} names.{errors.suggestion(mixture_or_task, names)} "
            "Correct the name, or import the module that registers it."
        )
    return seqio.get_mixture_or_task(mixture_or_task)


def leaf_tasks(
    mixture_or_task: MixtureOrTask, split: str | None = None, use_cached: bool = False
) -> list[seqio.Task]:
    """All tasks of a mixture and of the mixtures in it, sorted by name.

    Tasks that lack `split` are skipped, with one warning that names them; `use_cached` is whether
    it is read from SeqIO's caches. Raises ValueError if no task has it or data are missing.
    """
    provider = get_mixture_or_task(mixture_or_task)
    tasks = list(seqio.get_subtasks(provider))
    if split is None:
        return tasks
    for task in tasks:
        check_data_are_there(task, split, use_cached)
    with_split = [task for task in tasks if split in task.splits]
    if not with_split:
        known = sorted({name for task in tasks for name in task.splits})
        raise ValueError(
            f"At least one task of {provider.name!r} must have the split that is read; got "
            f"{split!r}, and they have {known}.{errors.suggestion(split, known)} "
            "Set the split to one of those."
        )
    skipped = tuple(task.name for task in tasks if split not in task.splits)
    if skipped:
        errors.warn_once(
            f"No split {split!r}: {', '.join(skipped)}; skipped where that split of "
            f"{provider.name} is read."
        )
    return with_split


def resolve_task_names(
    mixture_or_task: MixtureOrTask,
    task_names: Sequence[str] | None = None,
    accepts_unseen: bool = False,
) -> tuple[str, ...]:
    """The ordered list that numbers tasks, checked: the given one, or leaves sorted by name."""
    leaves = [task.name for task in leaf_tasks(mixture_or_task)]
    if task_names is None:
        return tuple(leaves)
    for name in leaves:
        task_number(name, task_names, accepts_unseen)  # Raises where it has none.
    return tuple(task_names)


def task_number(name: str, task_names: Sequence[str], accepts_unseen: bool = False) -> int:
    """The number of a task: its index in the ordered list.

    >>> task_number("rte", ["cola", "rte"])
    1
    >>> task_number("wic", ["cola", "rte"], accepts_unseen=True)
    -1
    """
    if len(set(task_names)) != len(task_names):
        twice = sorted({name for name in task_names if list(task_names).count(name) > 1})
        raise ValueError(
            f"The task_names must be different; got {twice} more than once. Remove the repeats."
        )
    if name not in task_names and accepts_unseen:
        return types.UNSEEN_TASK_ID
    if name not in task_names:
        raise ValueError(
            f"The task_names must hold every task that is read; got {name!r}, which is not among "
            f"{list(task_names)}.{errors.suggestion(name, task_names)} To train on it, append it "
            "to the end of task_names, so that others keep their numbers; to evaluate adapters on "
            "a task that they were not trained on, set AdapterConfig.unseen_tasks = 'mean'."
        )
    return list(task_names).index(name)


def check_data_are_there(task: seqio.Task, split: str, use_cached: bool = False) -> None:
    """Raises if a task's data are not here: SeqIO would download them, on every host."""
    (cache if use_cached else offline).check(task, split)


def check_features_agree(tasks: Sequence[seqio.Task]) -> None:
    """Raises unless every task has inputs and targets, all in one vocabulary."""
    first = tasks[0]
    for task in tasks:
        for feature in types.FEATURES:
            if feature not in task.output_features:
                raise ValueError(
                    f"A task must have the features {list(types.FEATURES)}; {task.name!r} has "
                    f"{sorted(task.output_features)}. Give it {feature!r} in output_features and "
                    "in a preprocessor."
                )
            ours, theirs = (t.output_features[feature].vocabulary for t in (task, first))
            # Comparing SentencePiece vocabularies reads their models; most tasks share one object.
            if ours is not theirs and ours != theirs:
                raise ValueError(
                    "Tasks that are mixed must share one vocabulary; "
                    f"{task.name!r} reads {feature!r} with {ours} and {first.name!r} with {theirs}."
                    " Register both with hyperdecoders_jax.data.vocabulary.RUN_VOCABULARY."
                )


def mixing_rates(mixture_or_task: MixtureOrTask, tasks: Sequence[seqio.Task]) -> dict[str, float]:
    """The share of each task: SeqIO's rates, normalised; a ValueError if they make no shares."""
    provider = get_mixture_or_task(mixture_or_task)
    if isinstance(provider, seqio.Task):
        return {provider.name: 1.0}
    rates = {}
    for task in tasks:
        try:
            rates[task.name] = float(provider.get_rate(task))
        except TypeError as error:
            raise ValueError(
                f"The rate of every task must be computable; that of {task.name!r} in "
                f"{provider.name!r} gave {error!r}. For a size-proportional rate pass "
                "num_input_examples={split: number} to its data source, or give it a number."
            ) from error
    total = sum(rates.values())
    if not all(0 <= rate < math.inf for rate in rates.values()) or not total > 0:
        raise ValueError(
            "Mixing rates must be finite, not negative, and not all zero; those of "
            f"{provider.name!r} are {rates}. Correct them where the mixture is registered."
        )
    return {name: rate / total for name, rate in rates.items()}


def mixing_table(
    mixture_or_task: MixtureOrTask, split: str, use_cached: bool = False
) -> dict[str, MixingRow]:
    """Share and size of each task in a split of the mixture, sorted by name."""
    tasks = leaf_tasks(mixture_or_task, split, use_cached)
    rates = mixing_rates(mixture_or_task, tasks)
    return {t.name: MixingRow(rates[t.name], num_examples(t, split, use_cached)) for t in tasks}


def known_shares(
    mixture_or_task: MixtureOrTask,
    split: str,
    use_cached: bool = False,
    read_from: MixtureOrTask | None = None,
) -> dict[str, float] | None:
    """The share of each task; None where they cannot be told, as where data are not here.

    Sizes are those of the tasks in `read_from`, whose data may be read already; None: of its own.
    """
    try:
        tasks = leaf_tasks(read_from or mixture_or_task, split, use_cached)
        return mixing_rates(mixture_or_task, tasks)
    except Exception:  # Of a user's rates, which a run tells before it trains.
        return None


def num_examples(task: seqio.Task, split: str, use_cached: bool = False) -> int | None:
    """Examples of a task's split before preprocessing; None where the source does not count."""
    cached = task.get_cached_stats(split)["examples"] if use_cached else None
    size = cached if use_cached else task.num_input_examples(split)
    return int(size) if size is not None and math.isfinite(size) else None


def format_mixing_table(table: Mapping[str, MixingRow]) -> str:
    """A mixing table as text.

    >>> print(format_mixing_table({"cola": MixingRow(0.75, 8551), "mine": MixingRow(0.25, None)}))
    task    rate  examples
    cola  75.00%     8,551
    mine  25.00%         ?
    """
    rows = [("task", "rate", "examples")]
    for name, row in table.items():
        size = "?" if row.num_examples is None else f"{row.num_examples:,}"
        rows.append((name, f"{row.rate:.2%}", size))
    return text_table.align(rows)
