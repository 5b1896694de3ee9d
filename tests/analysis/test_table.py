import numpy as np
import pytest

from hyperdecoders_jax.analysis import table


def make_columns(start, count):
    rng = np.random.default_rng(start)
    return {
        "id": [f"a-{start + i}" for i in range(count)],
        "is_correct": rng.random(count) > 0.5,
        "pooled": rng.normal(size=(count, 3)).astype(np.float32),
        "hidden": rng.normal(size=(count, 2, 4)).astype(np.float32),
    }


def test_rows_are_read_as_they_were_written(tmp_path):
    parts = [make_columns(0, 5), make_columns(5, 2)]
    with table.Writer(tmp_path / "x.parquet") as writer:
        for part in parts:
            writer.write(part)
    found = table.read(tmp_path / "x.parquet")
    assert list(found) == list(parts[0])
    for name in found:
        expected = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(found[name], expected)


def test_an_unfinished_table_leaves_the_one_that_was_there(tmp_path):
    path = tmp_path / "x.parquet"
    with table.Writer(path) as writer:
        writer.write(make_columns(0, 3))
    before = path.read_bytes()

    def write_and_stop():
        with table.Writer(path) as writer:
            writer.write(make_columns(3, 3))
            raise RuntimeError("the model stopped")

    with pytest.raises(RuntimeError, match="the model stopped"):
        write_and_stop()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.parquet"]
