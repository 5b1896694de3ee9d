"""Registered tasks and mixtures in, text for a terminal out: an overview, or examples of one.

Sizes are those that the data source tells; lengths are of the longest among the first examples, in
tokens of one vocabulary. A task whose data are not on this machine is listed without them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import seqio

from hyperdecoders_jax.data import eval_batches, mixtures, offline, vocabulary

# Examples that are read of each task for its lengths.
NUM_MEASURED = 64
NUM_SHOWN = 3
UNKNOWN = "?"
# Examples are not cut; these are for preprocessors that make examples of a length.
_LENGTHS = {"inputs": 128, "targets": 128}


@dataclasses.dataclass(frozen=True)
class TaskRow:
    """What the overview tells of a task; lengths are None where its data cannot be read."""

    name: str
    sizes: dict[str, int | None]
    metrics: tuple[str, ...]
    lengths: tuple[int, int] | None


def use_vocabulary(path: str | None) -> str:
    """Sets the run's vocabulary, the demo's unless `path` names one; returns what to call it."""
    vocabulary.set_run_vocabulary(
        vocabulary.load_vocabulary(path or vocabulary.DEMO_VOCABULARY_PATH)
    )
    return path or "the demo's (--vocabulary=PATH for another)"


def task_row(name: str) -> TaskRow:
    """Reads what the overview tells of a registered task."""
    task = seqio.TaskRegistry.get(name)
    metrics = sorted(function.__name__ for function in task.metric_fns)
    try:
        splits = offline.splits_that_are_there(task)
        sizes = {split: _size(task, split) for split in splits}
        examples = _first_examples(task, splits[0], NUM_MEASURED)
    except Exception:  # Whatever a source does without its data: the rest is still worth telling.
        return TaskRow(name, {}, tuple(metrics), None)
    lengths = tuple(
        max((len(example[feature]) for example in examples), default=0)
        for feature in mixtures.FEATURES
    )
    return TaskRow(name, sizes, tuple(metrics), lengths)


def overview(vocabulary_path: str | None = None) -> str:
    """Two tables: tasks with sizes, metrics and lengths; mixtures with their tasks."""
    called = use_vocabulary(vocabulary_path)
    rows = [task_row(name) for name in sorted(seqio.TaskRegistry.names())]
    tasks = [("task", "examples", "longest inputs", "targets", "metrics")]
    for row in rows:
        inputs, targets = row.lengths or (UNKNOWN, UNKNOWN)
        tasks.append(
            (row.name, _format_sizes(row.sizes), str(inputs), str(targets), ", ".join(row.metrics))
        )
    kinds = [("mixture", "tasks")]
    for name in sorted(seqio.MixtureRegistry.names()):
        leaves = [task.name for task in mixtures.leaf_tasks(name)]
        kinds.append((name, ", ".join(leaves)))
    unread = sum(row.lengths is None for row in rows)
    notes = [
        f"Lengths are tokens, EOS included, of the longest among the first {NUM_MEASURED} "
        f"examples; vocabulary: {called}."
    ]
    if unread:
        notes.append(
            f"{UNKNOWN}: the data of {unread} tasks are not here. --tfds_data_dir=FOLDER and "
            "--data_dir=FOLDER name where they are, --prepare=NAME downloads them."
        )
    return "\n".join([_table(tasks), "", _table(kinds), "", *notes])


def examples(name: str, vocabulary_path: str | None = None, split: str | None = None) -> str:
    """The first examples of a task, or of the first tasks of a mixture, as text and tokens.

    Raises:
      ValueError: nothing of that name is registered, it lacks the split, or its data are not there.
    """
    provider = mixtures.get_mixture_or_task(name)
    called = use_vocabulary(vocabulary_path)
    is_task = isinstance(provider, seqio.Task)
    split = split or _first_split(provider)
    leaves = mixtures.leaf_tasks(provider, split)
    lines = [f"{name} ({'task' if is_task else 'mixture'}), split {split}, vocabulary: {called}"]
    if is_task:
        shown = [(provider, example) for example in _first_examples(provider, split, NUM_SHOWN)]
    else:
        lines += ["", mixtures.format_mixing_table(mixtures.mixing_table(provider, split))]
        shown = [
            (task, example)
            for task in leaves[:NUM_SHOWN]
            for example in _first_examples(task, split, 1)
        ]
    for number, (task, example) in enumerate(shown, 1):
        lines += ["", f"{number}. {task.name}"]
        for feature in mixtures.FEATURES:
            ids = [int(token) for token in example[feature]]
            reader = task.output_features[feature].vocabulary
            lines += [
                f"   {feature:8} {_text(example, feature, reader, ids)}",
                f"   {'tokens':8} {' '.join(_pieces(reader, ids))}",
                f"   {'ids':8} {' '.join(map(str, ids))}",
            ]
    return "\n".join(lines)


def _first_split(provider: seqio.Task | seqio.Mixture) -> str:
    splits = [split for task in seqio.get_subtasks(provider) for split in task.splits]
    return "train" if "train" in splits else splits[0]


def _first_examples(task: seqio.Task, split: str, count: int) -> Sequence[dict]:
    # Nothing is cut here, so there is nothing to warn of.
    read = eval_batches.read_examples(task, 0, _LENGTHS, split, num_examples=count, warns=False)
    return read.examples


def _size(task: seqio.Task, split: str) -> int | None:
    size = task.num_input_examples(split)
    return int(size) if size is not None and math.isfinite(size) else None


def _format_sizes(sizes: dict[str, int | None]) -> str:
    known = [f"{split} {UNKNOWN if size is None else f'{size:,}'}" for split, size in sizes.items()]
    return ", ".join(known) or UNKNOWN


def _text(example: dict, feature: str, reader: seqio.Vocabulary, ids: Sequence[int]) -> str:
    text = example.get(f"{feature}_pretokenized")
    if text is None:
        return reader.decode(ids)
    return text.decode() if isinstance(text, bytes) else str(text)


def _pieces(reader: seqio.Vocabulary, ids: Iterable[int]) -> list[str]:
    """What each id stands for, as the vocabulary itself writes it."""
    if isinstance(reader, vocabulary.RunVocabulary):
        reader = reader.current
    if isinstance(reader, seqio.SentencePieceVocabulary):
        return [reader.tokenizer.IdToPiece(token) for token in ids]
    return [repr(reader.decode([token]))[1:-1] or "·" for token in ids]


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Lays rows out in columns; the last is not padded.

    >>> print(_table([("task", "metrics"), ("cola", "mcc")]))
    task  metrics
    cola  mcc
    """
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )
