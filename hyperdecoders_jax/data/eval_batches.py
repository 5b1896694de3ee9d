"""A split of a task, and its batches: every example once, in order.

Examples are kept, since each evaluation needs them: in bounded memory, more on the disk.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
from absl import logging
from jaxtyping import Bool

from hyperdecoders_jax import types
from hyperdecoders_jax.data import feature_converter, lost_text, reading
from hyperdecoders_jax.data.packed_records import PackedExamples


@dataclasses.dataclass(frozen=True)
class EvalBatch:
    """A batch of one process."""

    batch: types.Batch
    is_real: Bool[np.ndarray, "batch"]  # False for rows that only fill the batch up.


@dataclasses.dataclass(frozen=True)
class TaskExamples:
    """The examples of one task's split, in order."""

    task: seqio.Task
    task_id: int
    task_feature_lengths: Mapping[str, int]  # Tokens of `inputs` and of `targets`.
    examples: Sequence[Mapping[str, Any]]  # Uncut, as postprocessors expect them as `example`.

    def batches(
        self, batch_size: int, process_index: int = 0, process_count: int = 1
    ) -> Iterator[EvalBatch]:
        """This process's rows of every batch; all processes get equally many batches.

        Example `i` belongs to process `i % process_count`. Inputs and targets are cut before EOS.
        Rows that fill the last batch up repeat an example, with no loss weight.
        """
        num_rows = batch_size // process_count
        # From all examples, not this process's: a collective step needs every process each time.
        num_batches = -(-len(self.examples) // (num_rows * process_count))
        mine = np.arange(process_index, len(self.examples), process_count)
        for start in range(0, num_batches * num_rows, num_rows):
            indices = mine[start : start + num_rows]
            is_real = np.arange(num_rows) < len(indices)
            # Any example does to fill up, unlike an input of nothing but padding. All batches have
            # one size, since each size of a batch is compiled anew.
            filled = np.concatenate([indices, np.zeros(num_rows - len(indices), int)])
            rows = [self.examples[index] for index in filled]
            ids = {
                name: np.stack([self._padded(name, row[name]) for row in rows])
                for name in types.FEATURES
            }
            task_ids = np.full(num_rows, self.task_id, np.int32)
            batch = feature_converter.task_batch(ids["inputs"], ids["targets"], task_ids)
            weights = batch.decoder_loss_weights * is_real[:, None].astype(np.int32)
            yield EvalBatch(batch.replace(decoder_loss_weights=weights), is_real)

    def text(self, example: Mapping[str, Any], name: str) -> str:
        """The text of `inputs` or `targets` of one of the examples."""
        return text_of(self.task, example, name)

    def _padded(self, name: str, ids: np.ndarray) -> np.ndarray:
        row = np.zeros(self.task_feature_lengths[name], np.int32)
        kept = ids[: len(row)]
        row[: len(kept)] = kept
        if len(ids) > len(row) and ids[-1] == types.EOS_ID:  # As `reading` cuts training rows.
            row[-1] = types.EOS_ID
        return row


def text_of(task: seqio.Task, example: Mapping[str, Any], name: str) -> str:
    """The text of `inputs` or `targets` of one of a task's examples."""
    # SeqIO's tokenize keeps it beside the ids; tasks with a tokenizer of their own may not.
    text = example.get(f"{name}_pretokenized")
    if isinstance(text, bytes):
        return text.decode()
    return task.output_features[name].vocabulary.decode([int(i) for i in example[name]])


def read_examples(
    task: seqio.Task,
    task_id: int,
    task_feature_lengths: Mapping[str, int],
    split: str,
    num_examples: int | None = None,
    seed: int = 0,
    warns: bool = True,
    use_cached: bool = False,
) -> TaskExamples:
    """Reads a split of a task, in the task's own order.

    At most the first `num_examples` are read; `seed` is for tasks that draw at random even in
    evaluation (few-shot prompts); `use_cached` reads caches. `warns` tells how many are too long,
    and what of them the vocabulary cannot write.
    """
    reading.keep_tensorflow_off_accelerators()
    ds = reading.task_dataset(
        task, task_feature_lengths, split, shuffle=False, seed=seed, use_cached=use_cached
    )
    if num_examples is not None:
        ds = ds.take(num_examples)
    faults = {name: _Faults(task, name, task_feature_lengths[name]) for name in types.FEATURES}

    def looked_at() -> Iterator[Mapping[str, Any]]:
        for example in reading.as_numpy(ds, task):
            for found in faults.values() if warns else ():
                found.add(example)
            yield example

    examples = PackedExamples(looked_at())
    for found in faults.values():
        found.warn(split, len(examples))
    return TaskExamples(task, task_id, dict(task_feature_lengths), examples)


class _Faults:
    """What of a feature's texts is cut, or cannot be written."""

    def __init__(self, task: seqio.Task, name: str, length: int):
        self._task, self._name, self._length = task, name, length
        self._num_cut = 0
        self._lost: lost_text.LostText | None = None  # None while no text was seen.

    def add(self, example: Mapping[str, Any]) -> None:
        self._num_cut += len(example[self._name]) > self._length
        text = example.get(f"{self._name}_pretokenized")
        if isinstance(text, bytes):
            vocabulary = self._task.output_features[self._name].vocabulary
            self._lost = self._lost or lost_text.LostText(vocabulary)
            self._lost.add_bytes([text])

    def warn(self, split: str, num_examples: int) -> None:
        if self._num_cut:
            logging.warning(
                "%d of %d %s of task %s (%s) are longer than %d tokens and are cut.",
                self._num_cut, num_examples, self._name, self._task.name, split, self._length,
            )  # fmt: skip
        if self._lost is not None:
            self._lost.warn(f"{self._name} of task {self._task.name!r} ({split})")
