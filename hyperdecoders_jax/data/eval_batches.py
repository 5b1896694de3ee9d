"""A split of a task in memory, and its batches: every example once, in order."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
from absl import logging
from jaxtyping import Bool

from hyperdecoders_jax import types
from hyperdecoders_jax.data import feature_converter, lost_text, mixtures, reading


@dataclasses.dataclass(frozen=True)
class EvalBatch:
    """A batch of one process."""

    batch: types.Batch
    is_real: Bool[np.ndarray, "batch"]  # False for rows that only fill the batch up.


@dataclasses.dataclass(frozen=True)
class TaskExamples:
    """The examples of one task's split, in order and in memory."""

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
            ids = {
                name: np.stack([self._padded(name, index) for index in filled])
                for name in mixtures.FEATURES
            }
            task_ids = np.full(num_rows, self.task_id, np.int32)
            batch = feature_converter.task_batch(ids["inputs"], ids["targets"], task_ids)
            weights = batch.decoder_loss_weights * is_real[:, None].astype(np.int32)
            yield EvalBatch(batch.replace(decoder_loss_weights=weights), is_real)

    def text(self, example: Mapping[str, Any], name: str) -> str:
        """The text of `inputs` or `targets` of one of the examples."""
        # SeqIO's tokenize keeps it beside the ids; tasks with a tokenizer of their own may not.
        text = example.get(f"{name}_pretokenized")
        if isinstance(text, bytes):
            return text.decode()
        return self.task.output_features[name].vocabulary.decode([int(i) for i in example[name]])

    def _padded(self, name: str, index: int) -> np.ndarray:
        ids = self.examples[index][name]
        row = np.zeros(self.task_feature_lengths[name], np.int32)
        kept = ids[: len(row)]
        row[: len(kept)] = kept
        if len(ids) > len(row) and ids[-1] == types.EOS_ID:  # As `reading` cuts training rows.
            row[-1] = types.EOS_ID
        return row


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
    """Reads a split of a task, in the task's own order, into memory.

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
    examples = list(reading.as_numpy(ds, task))
    for name in mixtures.FEATURES if warns else ():
        length = task_feature_lengths[name]
        count = sum(len(example[name]) > length for example in examples)
        if count:
            logging.warning(
                "%d of %d %s of task %s (%s) are longer than %d tokens and are cut.",
                count, len(examples), name, task.name, split, length,
            )  # fmt: skip
        texts = [text for x in examples if isinstance(text := x.get(f"{name}_pretokenized"), bytes)]
        if texts:
            lost = lost_text.LostText(task.output_features[name].vocabulary)
            lost.add_bytes(texts)
            lost.warn(f"{name} of task {task.name!r} ({split})")
    return TaskExamples(task, task_id, dict(task_feature_lengths), examples)
