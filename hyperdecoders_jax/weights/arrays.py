"""Lazy arrays: a conversion between formats holds one array, or one shard, in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array of known shape and type whose values are read on demand."""

    shape: tuple[int, ...]
    dtype: np.dtype  # May be `ml_dtypes.bfloat16`.
    read: Callable[[], np.ndarray]  # Reads the values, anew with each call.

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Reads the values, for numpy."""
        return np.asarray(self.read(), dtype)

    @property
    def num_bytes(self) -> int:
        """Size in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def then(
        self, function: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...] | None = None
    ) -> StoredArray:
        """The array after a function that keeps its type, and its shape if none is given."""
        shape = self.shape if shape is None else shape
        return StoredArray(shape, self.dtype, lambda: function(self.read()))

    def cast(self, dtype: np.dtype) -> StoredArray:
        """The array with another type."""
        # When it is read, so that no copy of another type waits in memory.
        return StoredArray(self.shape, dtype, lambda: self.read().astype(dtype))


Arrays = Mapping[str, StoredArray]
# Types of stored weights, by their names in numpy, Flax and PyTorch.
_FLOATS = (np.float32, ml_dtypes.bfloat16, np.float16, np.float64)
FLOATS = {np.dtype(x).name: np.dtype(x) for x in _FLOATS}


def in_memory(arrays: Mapping[str, np.ndarray]) -> dict[str, StoredArray]:
    """Wraps arrays in memory; those on devices are copied when they are read."""
    # `x=x`: a closure would see the last array.
    return {
        name: StoredArray(tuple(x.shape), np.dtype(x.dtype), lambda x=x: np.asarray(x))
        for name, x in arrays.items()
    }


@dataclasses.dataclass(frozen=True)
class Accounted:
    """All arrays of a file: those that are parameters of the model, and the skipped ones."""

    arrays: dict[str, StoredArray]  # By our paths, in our layouts.
    left: dict[str, str]  # Name in the file → why it was skipped ("a copy of shared.weight").
