"""Arrays of every stored type, and the check that a file gave them back."""

import ml_dtypes
import numpy as np


def make():
    rng = np.random.default_rng(0)
    return {
        "a": rng.normal(size=(3, 2)).astype(np.float32),
        "b": rng.normal(size=(5,)).astype(ml_dtypes.bfloat16),
        "c": rng.normal(size=(2, 1, 4)).astype(np.float16),
        "d": np.array(1.5, np.float32),
    }


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name, array in found.items():
        value = array.read()
        assert (array.shape, array.dtype) == (value.shape, value.dtype)
        assert value.dtype == expected[name].dtype
        np.testing.assert_array_equal(value, expected[name])
