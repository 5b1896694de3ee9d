"""Checks of a run's data before anything is compiled or written, and what fixes their order."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio

from hyperdecoders_jax import types
from hyperdecoders_jax.data import cache, lost_text, mixtures, packing, reading
from hyperdecoders_jax.data.pipeline import PipelineConfig

# Splits with no more examples than this are read to their end before training.
_SMALL_SPLIT = 20_000
# T5 rounds its embeddings up to a multiple of this, so fewer rows than this may be without an id.
_VOCABULARY_MULTIPLE = 128


@dataclasses.dataclass(frozen=True)
class TaskReport:
    """What `preflight` saw of a task."""

    mixing: mixtures.MixingRow
    num_checked: int  # Examples that were read.
    longest_inputs: int  # Most tokens of an input among them, before cutting.
    longest_targets: int
    num_truncated: int  # Inputs among them that training would cut.
    # What makes the examples, as JSON: templates and digests of own files; None: registered data.
    source: Mapping[str, Any] | None = None


def preflight(
    config: PipelineConfig,
    vocab_size: int | None = None,
    num_examples: int = 64,
    budget_secs: float = 5.0,
) -> dict[str, TaskReport]:
    """Finds what would stop a run later, and reports on each task, sorted by name.

    Checked are names, data, task numbers, rates, vocabularies, and lengths: of all examples, where
    a task has no more than 20,000 and `budget_secs` last, else of the first `num_examples`. A
    `vocab_size` (rows of the embedding) of None skips its check. A warning tells what of these
    examples the vocabulary cannot write. Raises ValueError for the first problem found, with what
    to do about it.
    """
    reading.keep_tensorflow_off_accelerators()
    mixture = config.mixture_or_task_name
    tasks = mixtures.leaf_tasks(mixture, config.split, config.use_cached)
    mixtures.check_features_agree(tasks)
    mixtures.resolve_task_names(mixture, config.task_names)
    if vocab_size is not None:
        # One task stands for all: `check_features_agree` has compared their vocabularies.
        _check_vocabulary(tasks[0], vocab_size, config.is_small_vocabulary_allowed)
    table = mixtures.mixing_table(mixture, config.split, config.use_cached)
    deadline = time.monotonic() + budget_secs  # Shared, so many tasks take no longer than one.
    return {
        task.name: _check_examples(task, config, table[task.name], num_examples, deadline)
        for task in tasks
    }


def order_settings(config: PipelineConfig, report: Mapping[str, TaskReport]) -> dict[str, Any]:
    """What defines the order of a run's data, as JSON; a position holds under these alone."""
    # Only where rows are packed: the checkpoints of other runs have no such settings.
    packed = {}
    if config.pack:
        packed = {"max_segments": config.max_segments, "row_lengths": config.packed_lengths}
        if config.examples_per_step is not None:
            packed["examples_per_step"] = config.examples_per_step
    return {
        **packed,
        "seed": config.seed,
        "batch_size": config.batch_size,
        "task_feature_lengths": {n: config.task_feature_lengths[n] for n in types.FEATURES},
        "split": config.split,
        "use_cached": config.use_cached,
        "shuffle": config.shuffle,
        "shuffle_buffer_size": config.shuffle_buffer_size,
        "examples_per_turn": config.examples_per_turn,  # The name that checkpoints hold.
        "mixing_rates": {name: task.mixing.rate for name, task in report.items()},
        "num_examples": {name: task.mixing.num_examples for name, task in report.items()},
        "sources": {name: task.source for name, task in report.items() if task.source is not None},
    }


def describe_source(source: seqio.DataSource, split: str = "train") -> dict[str, Any] | None:
    """What a source makes its examples of, as JSON; None where a registered name tells."""
    described = getattr(source, "describe", dict)()
    # A file may be moved, and metrics may change; nobody trains on, or chooses by, a test file.
    kept = {key: x for key, x in described.items() if key not in ("kind", "files", "metrics")}
    own = {*described.get("files", ())} - {"test"}
    # The name of a TFDS data set holds its version; of large data's many files the sizes are slow.
    is_told = isinstance(source, seqio.TfdsDataSource | seqio.FileDataSource)
    for read in sorted(own or {split}):
        if not is_told and (found := cache.fingerprint(source, read)) is not None:
            kept[f"{read}_examples"] = found
    return kept or None


def _check_vocabulary(task: seqio.Task, vocab_size: int, is_small_allowed: bool) -> None:
    for name in types.FEATURES:
        vocabulary = task.output_features[name].vocabulary
        if vocabulary.vocab_size > vocab_size:
            raise ValueError(
                "Every id of the vocabulary must have a row in the model's embedding; the "
                f"vocabulary of {task.name!r} has {vocabulary.vocab_size} ids and the model "
                f"vocab_size={vocab_size}. Set --vocabulary to the model's, or raise vocab_size."
            )
        unused = vocab_size - vocabulary.vocab_size
        if unused >= _VOCABULARY_MULTIPLE and not is_small_allowed:
            raise ValueError(
                f"Fewer than {_VOCABULARY_MULTIPLE} rows of the model's embedding may be without "
                f"an id, as T5's are; the vocabulary of {task.name!r} has {vocabulary.vocab_size} "
                f"ids and the model vocab_size={vocab_size}, which leaves {unused}. Set "
                "--vocabulary to the model's, vocab_size to the vocabulary's (rounded up), or "
                "PipelineConfig.is_small_vocabulary_allowed = True."
            )
        if (vocabulary.pad_id, vocabulary.eos_id) != (types.PAD_ID, types.EOS_ID):
            raise ValueError(
                f"A vocabulary must have padding at {types.PAD_ID} and EOS at {types.EOS_ID}, as "
                f"T5's do; that of {task.name!r} has {vocabulary.pad_id} and {vocabulary.eos_id}. "
                "Set --vocabulary to a T5, mT5 or ByT5 vocabulary."
            )


def _check_examples(
    task: seqio.Task,
    config: PipelineConfig,
    mixing: mixtures.MixingRow,
    num_examples: int,
    deadline: float,
) -> TaskReport:
    lengths = config.task_feature_lengths
    is_small = mixing.num_examples is not None and mixing.num_examples <= _SMALL_SPLIT
    is_all_read = is_small and time.monotonic() < deadline
    chunks = reading.read_rows(
        task,
        # A target that is too long is reported after the loop, with the longest of all.
        dataclasses.replace(config, shuffle=False, truncate_targets=True),
        seqio.ShardInfo(index=0, num_shards=1),
        epoch_block=0,
        num_examples=None if is_all_read else num_examples,
        keeps_texts=True,
    )
    num_checked = num_truncated = 0
    longest = dict.fromkeys(types.FEATURES, 0)
    first_long = None
    lost: dict[str, lost_text.LostText] = {}
    for chunk in chunks:
        if config.pack and (chunk["inputs_len"] == 0).any():
            number = num_checked + int(np.argmin(chunk["inputs_len"]))
            raise packing.empty_inputs_error(f"example {number} of task {task.name!r}")
        num_checked += len(chunk["inputs"])
        num_truncated += int(np.sum(chunk["inputs_len"] > lengths["inputs"]))
        for name in types.FEATURES:
            longest[name] = max(longest[name], int(chunk[f"{name}_len"].max()))
            if (texts := chunk.get(f"{name}_pretokenized")) is not None:
                if name not in lost:
                    lost[name] = lost_text.LostText(task.output_features[name].vocabulary)
                lost[name].add_bytes(texts)
        if first_long is None and reading.has_long_target(chunk, lengths):
            first_long = chunk
        # Checked between chunks, so a slow source may take somewhat longer.
        if num_checked >= num_examples and time.monotonic() > deadline:
            break
    for name, of_name in lost.items():
        of_name.warn(f"{name} of task {task.name!r} ({config.split})")
    if first_long is not None and not config.truncate_targets:
        raise reading.long_target_error(task, first_long, lengths, longest["targets"])
    return TaskReport(
        mixing,
        num_checked,
        longest["inputs"],
        longest["targets"],
        num_truncated,
        None if config.use_cached else describe_source(task.source, config.split),
    )
