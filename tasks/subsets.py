"""Tasks with the splits of a `SplitConfig`: their records are filtered as they are read.

An example is chosen by its index in the order of the original's files. TFDS stores records in
another order, but those of GLUE and SuperGLUE carry their line number, `idx`, so the very examples
of the original are chosen; records without one are counted in the order of their source.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from absl import logging

from hyperdecoders_jax.tasks import splits
from hyperdecoders_jax.tasks.splits import SplitConfig

_LINE_NUMBER = "idx"
_ROWS_AT_ONCE = 8192


def resplit(task: seqio.Task, config: SplitConfig) -> seqio.Task:
    """The task with the splits of `config`: same name, not registered; itself if unchanged.

    Nothing is read before data or sizes are asked for. The copy cannot be read from SeqIO's cache,
    which holds the splits of the registered task.
    """
    if not any(config.changes(task.name, split) for split in task.splits):
        if config.split_validation_test and _has_one_split_twice(task.source):
            logging.warning(
                "The splits validation and test of %s are the same examples, and "
                "split_validation_test divides only the tasks of the original's lists: a "
                "checkpoint that is chosen on validation is flattered by test.",
                task.name,
            )
        return task
    return task.replace(
        source=SubsetSource(task.source, task.name, config),
        preprocessors=[
            step
            for step in task.preprocessors
            if not isinstance(step, seqio.CacheDatasetPlaceholder)
        ],
    )


def _has_one_split_twice(source: seqio.DataSource) -> bool:
    if not isinstance(source, seqio.TfdsDataSource):
        return False
    names = source.tfds_dataset._split_map or {}
    return "test" in names and names["test"] == names.get("validation")


class SubsetSource(seqio.DataSource):
    """The records of a source that a `SplitConfig` gives to each split, in the source's order.

    A split that the configuration does not change is read as the source gives it. A changed one is
    read in order, so that every process counts alike: its files are not shuffled, and each process
    reads all of it and keeps its share.

    Args:
        source: where the records are.
        task_name: whose rules hold.
        config: the rules.
    """

    def __init__(self, source: seqio.DataSource, task_name: str, config: SplitConfig):
        super().__init__(splits=(), caching_permitted=False)
        self.sources = (source,)
        self._task_name = task_name
        self._config = config

    @property
    def splits(self):
        return self.sources[0].splits

    def describe(self) -> dict[str, Any]:
        """The rules as plain values, for a run's `config.json`."""
        return {"kind": "subset", "splits": dataclasses.asdict(self._config)}

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    def list_shards(self, split: str):
        return self.sources[0].list_shards(self.origin(split))

    def num_input_examples(self, split: str) -> int | None:
        if not self._config.changes(self._task_name, split):
            return self.sources[0].num_input_examples(split)
        return len(self._indices(split))

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **unused,
    ) -> tf.data.Dataset:
        (source,) = self.sources
        if not self._config.changes(self._task_name, split):
            return source.get_dataset(split, shuffle=shuffle, seed=seed, shard_info=shard_info)
        is_kept = tf.constant(self._is_kept(split))
        ds = source.get_dataset(self.origin(split), shuffle=False).enumerate()
        ds = ds.filter(lambda index, record: tf.gather(is_kept, index))
        ds = ds.map(lambda index, record: record, num_parallel_calls=tf.data.AUTOTUNE)
        return ds.shard(shard_info.num_shards, shard_info.index) if shard_info else ds

    def origin(self, split: str) -> str:
        """The split of the source that this one is taken from."""
        return self._config.origin(self._task_name, split)

    def _indices(self, split: str) -> range:
        num_examples = _num_examples(self.sources[0], self.origin(split))
        return self._config.indices(self._task_name, split, num_examples)

    def _is_kept(self, split: str) -> np.ndarray:
        """For each record of the origin, in the order of the source."""
        source, origin = self.sources[0], self.origin(split)
        num_examples = _num_examples(source, origin)
        indices = self._indices(split)
        order = splits.permutation(num_examples, self._config.seed)
        is_kept = np.zeros(num_examples, bool)
        is_kept[order[indices.start : indices.stop]] = True
        return is_kept[_original_indices(source, origin, num_examples)]


@functools.lru_cache(maxsize=256)
def _counted(source: seqio.DataSource, split: str) -> int:
    """The number of records, by reading them."""
    ds = source.get_dataset(split, shuffle=False)
    return int(ds.reduce(np.int64(0), lambda count, record: count + 1))


def _num_examples(source: seqio.DataSource, split: str) -> int:
    count = source.num_input_examples(split)
    return _counted(source, split) if count is None else count


@functools.lru_cache(maxsize=256)
def _original_indices(source: seqio.DataSource, split: str, num_examples: int) -> np.ndarray:
    """The index of each record of a source in the order of the original's files.

    Cost: reads the split once, where records carry their line number; other numbers may be missing.
    """
    ds = source.get_dataset(split, shuffle=False)
    spec = ds.element_spec.get(_LINE_NUMBER)
    if not (isinstance(spec, tf.TensorSpec) and spec.dtype.is_integer and spec.shape.rank == 0):
        return np.arange(num_examples)
    numbers = ds.map(lambda record: record[_LINE_NUMBER]).batch(_ROWS_AT_ONCE)
    order = np.argsort(np.concatenate(list(numbers.as_numpy_iterator())), kind="stable")
    indices = np.empty_like(order)
    indices[order] = np.arange(len(order))
    return indices
