"""Parquet table of examples, written batch by batch.

Vectors are lists of float32, values of layers lists over layers. Any Parquet reader opens it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from etils import epath
from pyarrow import parquet


class Writer:
    """Atomic writer of a table: the file appears, or is replaced, when it closes without an error.

    >>> import tempfile
    >>> path = epath.Path(tempfile.mkdtemp()) / "examples.parquet"
    >>> with Writer(path) as table:
    ...     table.write({"id": ["a-0"], "pooled": np.ones((1, 3), np.float32)})
    >>> read(path, ["pooled"])
    {'pooled': array([[1., 1., 1.]], dtype=float32)}
    """

    def __init__(self, path: epath.PathLike):
        self._path = epath.Path(path)
        self._unfinished = self._path.parent / f".unfinished-{self._path.name}"
        self._writer: parquet.ParquetWriter | None = None

    def write(self, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        """Adds rows; every call must give the same columns."""
        table = pa.table({name: _to_arrow(values) for name, values in columns.items()})
        if self._writer is None:
            # Opened by epath: Arrow does not know every file system.
            self._file = self._unfinished.open("wb")
            self._writer = parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if self._writer is not None:
            self._writer.close()
            self._file.close()
            if kind is None:
                self._unfinished.replace(self._path)
            else:
                self._unfinished.unlink()


def read(path: epath.PathLike, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Columns of a table, by default all; lists become axes."""
    table = parquet.read_table(path, columns=columns)
    return {name: _to_numpy(table[name]) for name in table.column_names}


def _to_arrow(values: Sequence[Any] | np.ndarray) -> pa.Array:
    if not isinstance(values, np.ndarray) or values.ndim == 1:
        return pa.array(values)
    # From the innermost axis outwards, without a Python object per value.
    flat = pa.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    array, shape = column.combine_chunks(), [len(column)]
    while isinstance(array.type, pa.FixedSizeListType):
        shape.append(array.type.list_size)
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False).reshape(shape)
