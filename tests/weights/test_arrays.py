"""Arrays are known by shape before they are read, and are read anew each time."""

import ml_dtypes
import numpy as np

from hyperdecoders_jax.weights import arrays


def test_an_array_is_read_when_it_is_asked_for():
    reads = []

    def read():
        reads.append("a")
        return np.arange(6, dtype=np.float32).reshape(2, 3)

    stored = arrays.StoredArray((2, 3), np.dtype(np.float32), read)
    swapped = stored.then(lambda x: x.T, shape=(3, 2))
    assert not reads
    assert swapped.shape == swapped.read().shape == (3, 2)
    assert swapped.dtype == np.float32
    assert reads == ["a"]


def test_numpy_reads_an_array():
    stored = arrays.in_memory({"a": np.float32([1.5, -2])})["a"]
    np.testing.assert_array_equal(np.ascontiguousarray(stored), np.float32([1.5, -2]))
    assert np.asarray(stored, np.float64).dtype == np.float64


def test_bytes_are_counted_in_the_stored_type():
    stored = arrays.in_memory({"a": np.zeros((2, 3), ml_dtypes.bfloat16), "b": np.float32(1)})
    assert stored["a"].num_bytes == 12
    assert (stored["b"].shape, stored["b"].num_bytes) == ((), 4)
    assert stored["b"].then(lambda x: x).shape == ()
