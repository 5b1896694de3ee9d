"""Arrays on disk, appended in batches and read by row.

Conditions of all examples may exceed memory: a HyperGrid of T5 large reads 100 KB per example.
"""

from __future__ import annotations

import math
import os
import tempfile

import numpy as np
from jaxtyping import Float, Int


class RowsOnDisk:
    """Rows of one shape in a temporary file (in `$TMPDIR`), deleted with this object.

    `np.asarray` reads all of them.
    >>> rows = RowsOnDisk()
    >>> rows.append(np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> rows.append(np.array([[5.0, 6.0]]))
    >>> rows[[2, 0]]
    array([[5., 6.],
           [1., 2.]], dtype=float32)
    """

    def __init__(self):
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  Freed with the last reference.
        self._row_shape: tuple[int, ...] | None = None
        self._count = 0

    def append(self, rows: Float[np.ndarray, "batch *rest"]) -> None:
        """Adds rows, as float32."""
        if self._row_shape not in (None, rows.shape[1:]):
            raise ValueError(
                f"Rows of one file must have one shape; it began with {self._row_shape} and got "
                f"{rows.shape[1:]}. Use another file."
            )
        self._row_shape = rows.shape[1:]
        self._count += len(rows)
        self._file.write(np.ascontiguousarray(rows, np.float32).data)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._count, *(self._row_shape or ()))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, rows: Int[np.ndarray, "rows"]) -> Float[np.ndarray, "rows *rest"]:
        """Rows by index, slice or mask, as of an array."""
        rows = np.arange(self._count)[rows]
        self._file.flush()
        found = np.empty((len(rows), *self.shape[1:]), np.float32)
        row_bytes = 4 * math.prod(self.shape[1:])
        # One read per row, into its own memory: a memory map would count as memory of the process.
        for into, row in zip(found, rows, strict=True):
            os.preadv(self._file.fileno(), [into.data], int(row) * row_bytes)
        return found

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[np.arange(len(self))].astype(dtype or np.float32, copy=False)
