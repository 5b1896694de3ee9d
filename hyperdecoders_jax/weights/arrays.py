"""Arrays of a file, known by shape and read one at a time.

Every format opens as a mapping of names to `StoredArray`s, in the names and layouts of its files,
and writes one: a conversion holds one array, or one shard of a file, at a time. Who renames or
transposes wraps an array with `StoredArray.then`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array that is read when it is asked for.

    Attributes:
      shape: of what `read` gives.
      dtype: of what `read` gives; `ml_dtypes.bfloat16` is one.
      read: reads it, each time anew.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Reads it, for numpy."""
        return np.asarray(self.read(), dtype)

    @property
    def num_bytes(self) -> int:
        """Bytes of the array in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def then(
        self, function: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...] | None = None
    ) -> StoredArray:
        """The array after `function`, which keeps its type, and its shape unless one is given."""
        shape = self.shape if shape is None else shape
        return StoredArray(shape, self.dtype, lambda: function(self.read()))

    def cast(self, dtype: np.dtype) -> StoredArray:
        """The array in another type."""
        return StoredArray(self.shape, dtype, lambda: self.read().astype(dtype))


Arrays = Mapping[str, StoredArray]


def in_memory(arrays: Mapping[str, np.ndarray]) -> dict[str, StoredArray]:
    """Wraps arrays that are in memory.

    >>> in_memory({"a": np.zeros((2, 3), np.float32)})["a"].num_bytes
    24
    """
    return {
        name: StoredArray(tuple(x.shape), np.dtype(x.dtype), lambda x=x: np.asarray(x))
        for name, x in arrays.items()
    }


@dataclasses.dataclass(frozen=True)
class Accounted:
    """All arrays of a file: those that became ours, and those that did not.

    Attributes:
      arrays: under our paths, in our layouts.
      left: name in the file → why it was left, such as "a copy of shared.weight".
    """

    arrays: dict[str, StoredArray]
    left: dict[str, str]
