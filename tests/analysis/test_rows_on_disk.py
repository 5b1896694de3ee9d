import numpy as np
import pytest

from hyperdecoders_jax.analysis import rows_on_disk


def test_rows_come_back_in_any_order_while_others_are_added():
    x = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)
    rows = rows_on_disk.RowsOnDisk()
    for start in range(0, 7, 3):
        rows.append(x[start : start + 3])
        assert rows.shape == (len(rows), 2, 3)
        order = np.random.default_rng(start).permutation(len(rows))
        np.testing.assert_array_equal(rows[order], x[order])
    np.testing.assert_array_equal(rows[[4, 4, 0]], x[[4, 4, 0]])
    np.testing.assert_array_equal(np.asarray(rows), x)
    for places in (x[:, 0, 0] > 0, slice(2, 5), [-1]):
        np.testing.assert_array_equal(rows[places], x[places])


def test_a_row_that_is_not_there_is_an_error():
    rows = rows_on_disk.RowsOnDisk()
    rows.append(np.ones((2, 3)))
    with pytest.raises(IndexError):
        rows[[2]]


def test_rows_have_one_shape():
    rows = rows_on_disk.RowsOnDisk()
    rows.append(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"one shape; it began with \(3,\) and got \(4,\)"):
        rows.append(np.ones((2, 4)))
