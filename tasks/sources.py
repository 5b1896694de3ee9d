"""SeqIO data sources for records that TFDS does not have: JSON lines, or several sources as one.

No file is opened before its records are asked for, so registering a task is cheap. (For TFDS and
TFRecords there are SeqIO's own sources.)
"""

import functools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from absl import logging

from hyperdecoders_jax.data import offline, row_files, text_files
from hyperdecoders_jax.data.packed_records import PackedRecords

Record = dict[str, str | int | float]
_Labels = tuple[tuple[str, tuple[str, ...]], ...]

DATA_DIR_VARIABLE = offline.DATA_DIR_VARIABLE
DEFAULT_DATA_DIR = "~/hyperdecoders_data"


def data_dir() -> str:
    """The folder that `JsonLinesFolder` looks in: `$HYPERDECODERS_DATA_DIR`, or the default."""
    return os.environ.get(DATA_DIR_VARIABLE) or os.path.expanduser(DEFAULT_DATA_DIR)


class JsonLinesDataSource(seqio.DataSource):
    """Records from files with one JSON object a line, plain or gzipped (`.gz`).

    The records are shuffled completely by the seed, and divided over any number of processes record
    by record. They are read once and kept, in bounded memory: more than 64 MiB lie in a temporary
    file (in `$TMPDIR`).

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
        self._labels: _Labels = ()
        self._read: dict[tuple[str, ...], PackedRecords] = {}
        self._signatures: dict[tuple[str, ...], Sequence[object]] = {}

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        return self._files[split]

    def num_input_examples(self, split: str) -> int:
        return len(self.records(split))

    def fingerprint(self, split: str) -> str:
        """Differs once a record of the split differs; formats and paths of files do not matter."""
        return self.records(split).fingerprint

    def records(self, split: str) -> PackedRecords:
        """All records of a split in the files' order, with the kept fields only."""
        if split not in self._files:
            raise ValueError(
                f"A split must be one of {', '.join(self._files)}; got {split!r}. Choose one, or "
                "name its file where the task is registered."
            )
        paths = tuple(self.list_shards(split))
        signatures = [text_files.signature(path) for path in paths]
        if paths not in self._read:
            self._read[paths] = PackedRecords(self._iterate(paths))
            self._signatures[paths] = signatures
        if self._signatures[paths] != signatures:
            # A run's order of data must not change under it.
            self._signatures[paths] = signatures
            logging.warning(
                "%s changed after it was read; this process goes on with the records of then.",
                ", ".join(paths),
            )
        return self._read[paths]

    def _iterate(self, paths: Sequence[str]) -> Iterator[Record]:
        return _read_files(paths, self._fields, self._labels)

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
        dtypes = {name: _dtype(kinds) for name, kinds in records.kinds.items()}

        # One crossing from Python to TensorFlow costs as much as many records.
        def chunks() -> Iterator[dict[str, np.ndarray]]:
            for chunk in records.chunks(order):
                yield {
                    name: np.array([record[name] for record in chunk], dtype.as_numpy_dtype)
                    for name, dtype in dtypes.items()
                }

        specs = {name: tf.TensorSpec([None], dtype) for name, dtype in dtypes.items()}
        dataset = tf.data.Dataset.from_generator(chunks, output_signature=specs).unbatch()
        return dataset.apply(tf.data.experimental.assert_cardinality(len(order)))


class JsonLinesFolder(JsonLinesDataSource):
    """Records from `<data_dir>/<task>/<split>.jsonl` or `<split>.jsonl.gz`.

    The function `data_dir` is called when data are asked for, not before.

    Args:
        task: the folder's name.
        splits: from a split's name to its file's, without its ending.
        fields: the fields to keep; others may be in the files.
        labels: from a field to all values that it may have, as text; others are refused.
        hub: a folder that holds `<split>/*.parquet` for each of those files: the Hugging Face hub
            has one for every public data set and configuration,
            "hf://datasets/<owner>/<name>@refs/convert/parquet/<configuration>". None: no such.
        from_hub: converts one of the hub's records to ours, where the fields differ.
    """

    def __init__(
        self,
        task: str,
        splits: Mapping[str, str],
        fields: Sequence[str],
        labels: Mapping[str, Sequence[str]] | None = None,
        hub: str | None = None,
        from_hub: Callable[[dict[str, Any]], Record] | None = None,
    ):
        super().__init__(splits, fields)
        self._task = task
        self._stems = dict(splits)
        self._labels = tuple((name, tuple(texts)) for name, texts in (labels or {}).items())
        self._hub = hub
        self._from_hub = from_hub

    def list_shards(self, split: str) -> Sequence[str]:
        plain = os.path.join(data_dir(), self._task, f"{self._stems[split]}.jsonl")
        packed = f"{plain}.gz"
        is_packed = tf.io.gfile.exists(packed) and not tf.io.gfile.exists(plain)
        return [packed if is_packed else plain]

    def missing(self, split: str) -> str | None:
        """A sentence on what is missing and where it should be; None if nothing is."""
        [path] = self.list_shards(split)
        if tf.io.gfile.exists(path):
            return None
        folder, name = os.path.split(path)
        origin = f"${DATA_DIR_VARIABLE}" if os.environ.get(DATA_DIR_VARIABLE) else DEFAULT_DATA_DIR
        return (
            f"There is no {name} or {name}.gz, {self._layout()}, in {folder}; the folder of data "
            f"is {origin}."
        )

    def records(self, split: str) -> PackedRecords:
        if split in self._stems and (missing := self.missing(split)):
            raise ValueError(
                f"The data of a task must be there before they are read. {missing} Prepare them "
                f"with `hyperdecoders tasks --prepare {self._task}`, name the folder of data with "
                "--data_dir=FOLDER, or write the file."
            )
        return super().records(split)

    def prepare(self) -> None:
        """Downloads the files that are not there, each atomically.

        Raises:
            ValueError: there is nothing to download from, or it cannot be read.
            ImportError: the hub needs huggingface_hub.
        """
        one_split_a_file = {stem: split for split, stem in self._stems.items()}
        for stem, split in one_split_a_file.items():
            if self.missing(split):
                [path] = self.list_shards(split)
                self._download(stem, path)

    def _download(self, stem: str, path: str) -> None:
        unfinished = f"{path}.unfinished"
        try:
            tf.io.gfile.makedirs(os.path.dirname(path))
            with tf.io.gfile.GFile(unfinished, "w") as file:
                for record in self._read_hub(stem):
                    record = self._from_hub(record) if self._from_hub else record
                    kept = {name: record[name] for name in self._fields}
                    file.write(json.dumps(kept, ensure_ascii=False) + "\n")
        except ImportError as error:
            raise ImportError(
                f"Downloading {self._hub} needs huggingface_hub; importing it failed: {error}. "
                f"Install it (pip install huggingface_hub), or write {path}: {self._layout()}."
            ) from error
        except Exception as error:  # A client of the hub raises what its HTTP library does.
            raise ValueError(
                f"The data of a task must be where they are downloaded from; {self._hub} gave "
                f"{error!r}. Try again where there is a network, or write {path}: {self._layout()}."
            ) from error
        tf.io.gfile.rename(unfinished, path, overwrite=True)

    def _read_hub(self, stem: str) -> Iterator[dict[str, Any]]:
        import fsspec
        import pyarrow.parquet

        if self._hub is None:
            raise FileNotFoundError("no folder to download from is known")
        system, folder = fsspec.url_to_fs(self._hub)
        paths = sorted(system.glob(f"{folder}/{stem}/*.parquet"))
        if not paths:
            raise FileNotFoundError(f"no {stem}/*.parquet")
        for path in paths:
            with system.open(path, "rb") as file:
                for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
                    yield from batch.to_pylist()

    def _layout(self) -> str:
        return f"one JSON object a line with the fields {', '.join(self._fields)}"


class ConcatenatedSource(seqio.DataSource):
    """The examples of several sources, one after the other, or mixed where they are shuffled.

    Args:
        *sources: with the same splits, named when they were made, and the same fields.
    """

    def __init__(self, *sources: seqio.DataSource):
        splits = {tuple(sorted(source.splits)) for source in sources}
        if len(splits) != 1:
            raise ValueError(
                "Sources that make one must be some, and have the same splits; got "
                f"{[sorted(source.splits) for source in sources]}. Map the splits of each to those "
                "of the task."
            )
        super().__init__(splits=sources[0].splits)
        self.sources = sources

    def origin(self, split: str) -> str:
        """The split of each source that this one is made of; see `data.offline`."""
        return split

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        return [shard for source in self.sources for shard in source.list_shards(split)]

    def num_input_examples(self, split: str) -> int | None:
        sizes = [source.num_input_examples(split) for source in self.sources]
        return None if None in sizes else sum(sizes)

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **unused,
    ) -> tf.data.Dataset:
        datasets = [source.get_dataset(split, shuffle, seed) for source in self.sources]
        total = self.num_input_examples(split)
        if shuffle and total:
            # In proportion: a shuffle buffer would never bring the first and the last together.
            shares = [source.num_input_examples(split) / total for source in self.sources]
            dataset = tf.data.Dataset.sample_from_datasets(
                datasets, shares, seed, stop_on_empty_dataset=False
            )
        else:
            dataset = functools.reduce(tf.data.Dataset.concatenate, datasets)
        if shard_info:
            dataset = dataset.shard(shard_info.num_shards, shard_info.index)
        return dataset


class _Wide(int):
    """A whole number of more than 32 bits."""


def _dtype(kinds: set[type]) -> tf.DType:
    """TensorFlow's type of the values of a field, as `tf.constant` has it for a list of them."""
    if str in kinds:
        return tf.string
    if float in kinds:
        return tf.float32
    if kinds == {bool}:
        return tf.bool
    return tf.int64 if _Wide in kinds else tf.int32


def _number(text: str, where: str) -> int | float:
    """The number that JSON has; ValueError if no tensor can hold it."""
    if re.fullmatch(r"-?\d{1,19}", text):
        value = int(text)
        if -(2**63) <= value < 2**63:
            return value if -(2**31) <= value < 2**31 else _Wide(value)
    elif "." in text or "e" in text.lower():
        value = float(text)
        if math.isfinite(value):
            return value
    raise ValueError(
        f"A number must fit into 64 bits; {where} is {text[:80]}. Correct it, or write it as a "
        "text, in quotes."
    )


def _check_values(record: Record, first: Record, where: str) -> None:
    for name, value in record.items():
        kind = str if isinstance(first[name], str) else int | float
        if not isinstance(value, kind):
            wanted = "a string" if kind is str else "a number"
            if value is first[name]:
                wanted = "a string or a number"
            raise ValueError(
                f"A field must hold {wanted} in every line; {name!r} in {where} is "
                f"{row_files.to_json(value)[:80]}. Correct the file, or name the fields to keep "
                "with fields=(…)."
            )


def _check_labels(record: Record, labels: _Labels, where: str) -> None:
    for name, texts in labels:
        if str(record[name]).strip() not in texts:
            raise ValueError(
                f"A label must be one of {', '.join(texts)}; {name!r} in {where} is "
                f"{json.dumps(record[name])[:80]}. Correct the file."
            )


def _read_files(
    paths: Sequence[str], fields: Sequence[str] | None, labels: _Labels
) -> Iterator[Record]:
    first = None
    for path in paths:
        for number, line in text_files.read_lines(path):
            if not line.strip():
                continue
            where = f"line {number} of {path}"
            row = row_files.json_object(line, where)
            fields = fields or tuple(row)
            if missing := [name for name in fields if name not in row]:
                raise ValueError(
                    f"Each line must have the fields {', '.join(fields)}; {where} has no "
                    f"{missing[0]!r}: {line.strip()[:80]!r}. Correct the file, or name the fields "
                    "that all lines have with fields=(…)."
                )
            record = {name: row[name] for name in fields}
            for name, value in record.items():
                if isinstance(value, row_files.Number):
                    record[name] = _number(value, f"{name!r} in {where}")
            first = first or record
            _check_values(record, first, where)
            _check_labels(record, labels, where)
            yield record
    if first is None:
        raise ValueError(
            f"A split must hold a record; {', '.join(paths)} hold none. Write them, or leave the "
            "split out where the task is registered."
        )
