"""Where records come from when they are not a TensorFlow data set: files of JSON lines.

Paths go in, a `seqio.DataSource` comes out. No file is opened before its records are asked for, so
registering a task is cheap. (For TFDS and TFRecords there are SeqIO's own sources.)
"""

import functools
import gzip
import json
import os
from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

Record = dict[str, str | int | float]


class JsonLinesDataSource(seqio.DataSource):
    """Records from files with one JSON object a line, plain or gzipped (`.gz`).

    The records are read into memory once, shuffled as a whole by the seed, and divided over any
    number of processes record by record. For more than a few million records use TFDS.

    Args:
      files: from a split's name to its file or files; `gs://` works.
      fields: the fields to keep. Default: those of the first record. All records have them, with
        strings or numbers as values. Blank lines are skipped.
    """

    def __init__(
        self,
        files: Mapping[str, str | os.PathLike | Sequence[str | os.PathLike]],
        fields: Sequence[str] | None = None,
    ):
        super().__init__(splits=files)
        self._files = {
            split: tuple(map(os.fspath, [paths] if isinstance(paths, str | os.PathLike) else paths))
            for split, paths in files.items()
        }
        self._fields = tuple(fields) if fields is not None else None

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        return self._files[split]

    def num_input_examples(self, split: str) -> int:
        return len(self.records(split))

    def records(self, split: str) -> Sequence[Record]:
        """All records of a split in the files' order, with the kept fields only."""
        if split not in self._files:
            raise ValueError(
                f"A split must be one of {', '.join(self._files)}; got {split!r}. Choose one, or "
                "name its file where the task is registered."
            )
        return _read_files(self._files[split], self._fields)

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **unused,
    ) -> tf.data.Dataset:
        records = self.records(split)
        order = np.arange(len(records))
        if shuffle:
            order = np.random.default_rng(seed).permutation(order)
        if shard_info:
            order = order[shard_info.index :: shard_info.num_shards]
        columns = {name: [records[i][name] for i in order] for name in records[0]}
        return tf.data.Dataset.from_tensor_slices(columns)


def _check_values(record: Record, first: Record, place: str) -> None:
    for name, value in record.items():
        kind = str if isinstance(first[name], str) else int | float
        if not isinstance(value, kind):
            wanted = "a string" if kind is str else "a number"
            if value is first[name]:
                wanted = "a string or a number"
            raise ValueError(
                f"A field must hold {wanted} in every line; {name!r} in {place} is "
                f"{json.dumps(value)[:80]}. Correct the file, or name the fields to keep with "
                "fields=(…)."
            )


@functools.cache
def _read_files(paths: tuple[str, ...], fields: tuple[str, ...] | None) -> tuple[Record, ...]:
    records: list[Record] = []
    for path in paths:
        if not tf.io.gfile.exists(path):
            raise ValueError(
                f"A file of JSON lines must exist; nothing is at {os.path.abspath(path)}. Check "
                "the path where the task is registered."
            )
        with tf.io.gfile.GFile(path, "rb") as file:
            content = file.read()
        if path.endswith(".gz"):
            content = gzip.decompress(content)
        # Not splitlines, which also cuts at U+2028 and others that JSON allows inside strings.
        for number, line in enumerate(content.decode().split("\n"), start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                fields = fields or tuple(record)
                records.append({name: record[name] for name in fields})
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"Each line must be a JSON object with the fields {fields or '…'}; line "
                    f"{number} of {path} is {line[:80]!r} ({error!r}). Correct the file, or name "
                    "the fields that all lines have with fields=(…)."
                ) from error
            _check_values(records[-1], records[0], f"line {number} of {path}")
    if not records:
        raise ValueError(
            f"A split must hold a record; {', '.join(paths)} hold none. Write them, or leave the "
            "split out where the task is registered."
        )
    return tuple(records)
