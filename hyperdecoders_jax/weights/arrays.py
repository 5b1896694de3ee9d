"""Lazy arrays: a conversion between formats holds one array, or one shard, in memory."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import ml_dtypes
import numpy as np
from absl import logging


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


def told_if_not_finite(arrays: Arrays, where: str) -> dict[str, StoredArray]:
    """The same arrays; the first of them that is read and has NaN or infinity is logged."""
    told: list[str] = []

    def tell(path: str, value: np.ndarray) -> np.ndarray:
        if not told and (count := num_not_finite(value)):
            told.append(path)
            tell_not_finite(path, where, count, value.size)
        return value

    return {path: array.then(functools.partial(tell, path)) for path, array in arrays.items()}


def tell_not_finite(path: str, where: str, count: int, size: int) -> None:
    """Logs that `count` of the `size` values of an array of `where` are no finite numbers."""
    logging.warning(
        "Weights should be finite numbers; %s of %s has %d of %d values that are NaN or infinite, "
        "and others may have some. Copy the weights again, or take an earlier checkpoint, unless "
        "you know why.",
        path, where, count, size,
    )  # fmt: skip


def num_not_finite(value: np.ndarray) -> int:
    """How many values are NaN or infinite.

    >>> num_not_finite(np.array([1.0, np.nan, -np.inf], ml_dtypes.bfloat16))
    2
    """
    if value.dtype == ml_dtypes.bfloat16:
        # By the bits of the exponent: numpy has no fast loop for bfloat16.
        return int(np.count_nonzero((value.view(np.uint16) & 0x7F80) == 0x7F80))
    return value.size - int(np.count_nonzero(np.isfinite(value)))
