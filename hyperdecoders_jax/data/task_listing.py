"""Text for a terminal about registered tasks and mixtures: an overview, or examples of one."""

import dataclasses
from collections.abc import Iterable

import seqio

from hyperdecoders_jax import types
from hyperdecoders_jax.data import eval_batches, mixtures, offline, text_table, vocabulary

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
    loaded = vocabulary.load_vocabulary(path or vocabulary.DEMO_VOCABULARY_PATH)
    vocabulary.set_run_vocabulary(loaded)
    return path or "the demo's (--vocabulary=PATH for another)"


def task_row(name: str) -> TaskRow:
    """Reads what the overview tells of a registered task."""
    task = seqio.TaskRegistry.get(name)
    metrics = sorted(function.__name__ for function in task.metric_fns)
    try:
        splits = offline.splits_that_are_there(task)
        sizes = {split: mixtures.num_examples(task, split) for split in splits}
        examples = _first_examples(task, splits[0], NUM_MEASURED).examples
    except Exception:  # Whatever a source does without its data: the rest is still worth telling.
        return TaskRow(name, {}, tuple(metrics), None)
    lengths = (max((len(x[name]) for x in examples), default=0) for name in types.FEATURES)
    return TaskRow(name, sizes, tuple(metrics), tuple(lengths))


def overview(vocabulary_path: str | None = None) -> str:
    """Two tables: tasks with sizes (as sources tell), metrics and lengths; mixtures with tasks."""
    called = use_vocabulary(vocabulary_path)
    rows = [task_row(name) for name in sorted(seqio.TaskRegistry.names())]
    tasks = [("task", "examples", "longest inputs", "targets", "metrics")]
    for row in rows:
        lengths = map(str, row.lengths or (UNKNOWN, UNKNOWN))
        tasks.append((row.name, _format_sizes(row.sizes), *lengths, ", ".join(row.metrics)))
    kinds = [("mixture", "tasks")]
    for name in sorted(seqio.MixtureRegistry.names()):
        kinds.append((name, ", ".join(task.name for task in mixtures.leaf_tasks(name))))
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
    return "\n".join(
        [text_table.align(tasks, str.ljust), "", text_table.align(kinds, str.ljust), "", *notes]
    )


def examples(name: str, vocabulary_path: str | None = None, split: str | None = None) -> str:
    """The first examples, as text and tokens, of a task or of a mixture's first tasks."""
    provider = mixtures.get_mixture_or_task(name)
    called = use_vocabulary(vocabulary_path)
    is_task = isinstance(provider, seqio.Task)
    splits = [name for task in seqio.get_subtasks(provider) for name in task.splits]
    split = split or ("train" if "train" in splits else splits[0])
    leaves = mixtures.leaf_tasks(provider, split)
    lines = [f"{name} ({'task' if is_task else 'mixture'}), split {split}, vocabulary: {called}"]
    if is_task:
        read = [_first_examples(provider, split, NUM_SHOWN)]
    else:
        lines += ["", mixtures.format_mixing_table(mixtures.mixing_table(provider, split))]
        read = [_first_examples(task, split, 1) for task in leaves[:NUM_SHOWN]]
    shown = [(of_task, example) for of_task in read for example in of_task.examples]
    for number, (of_task, example) in enumerate(shown, 1):
        lines += ["", f"{number}. {of_task.task.name}"]
        for feature in types.FEATURES:
            ids = [int(token) for token in example[feature]]
            reader = of_task.task.output_features[feature].vocabulary
            lines += [
                f"   {feature:8} {of_task.text(example, feature)}",
                f"   {'tokens':8} {' '.join(_pieces(reader, ids))}",
                f"   {'ids':8} {' '.join(map(str, ids))}",
            ]
    return "\n".join(lines)


def _first_examples(task: seqio.Task, split: str, count: int) -> eval_batches.TaskExamples:
    # Nothing is cut here, so there is nothing to warn of.
    return eval_batches.read_examples(task, 0, _LENGTHS, split, num_examples=count, warns=False)


def _format_sizes(sizes: dict[str, int | None]) -> str:
    known = [f"{split} {UNKNOWN if size is None else f'{size:,}'}" for split, size in sizes.items()]
    return ", ".join(known) or UNKNOWN


def _pieces(reader: seqio.Vocabulary, ids: Iterable[int]) -> list[str]:
    """What each id stands for, as the vocabulary itself writes it."""
    reader = getattr(reader, "current", reader)  # The vocabulary that the run's stands for.
    if isinstance(reader, seqio.SentencePieceVocabulary):
        return [reader.tokenizer.IdToPiece(token) for token in ids]
    return [repr(reader.decode([token]))[1:-1] or "·" for token in ids]
