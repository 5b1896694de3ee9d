"""Files are Flax's to the byte, read an array at a time; damaged ones are refused."""

import json
import weakref

import jax
import numpy as np
import pytest
from flax import serialization

from hyperdecoders_jax.weights import arrays, flax_files, names
from hyperdecoders_jax.weights.arrays import StoredArray
from tests.weights import stored

FILE = "flax_model.msgpack"
INDEX = "flax_model.msgpack.index.json"
# What Flax makes of a large array; here a value is missing.
CHUNKS = {
    "__msgpack_chunked_array__": True,
    "shape": {"0": 3, "1": 2},
    "chunks": {"0": np.ones(4), "1": np.ones(1)},
}


def make():
    """Arrays of all types at several depths, whose names are not in order."""
    found = stored.make()
    kernel = np.arange(30, dtype=np.float32).reshape(5, 6)
    return {f"b/{i}/{name}": x for i, name in enumerate(found) for x in [found[name]]} | {
        "b/10/kernel": kernel,
        "b/2/kernel": -kernel,
        "a_bias": np.ones(0, np.float32),
    }


def write(folder, **kw):
    flax_files.write(folder, arrays.in_memory(make()), **kw)


def as_flax_writes(flat):
    # Whoever maps a function over a tree gets its names in order.
    return serialization.to_bytes(jax.tree.map(np.asarray, names.unflatten(flat)))


@pytest.mark.parametrize("chunk_bytes", [2**30, 44])
def test_files_are_flaxs_to_the_byte(tmp_path, monkeypatch, chunk_bytes):
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", chunk_bytes)
    write(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    assert content == as_flax_writes(make())
    assert (b"__msgpack_chunked_array__" in content) == (chunk_bytes == 44)
    stored.assert_equal(flax_files.open(tmp_path), make())


def test_shards_come_with_an_index(tmp_path):
    write(tmp_path, max_shard_bytes=150)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"total_size": sum(x.nbytes for x in make().values())}
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"flax_model-0000{i}-of-00003.msgpack" for i in (1, 2, 3)]
    for file in files:
        held = {name: x for name, x in make().items() if index["weight_map"][name] == file}
        assert (tmp_path / file).read_bytes() == as_flax_writes(held)
    stored.assert_equal(flax_files.open(tmp_path), make())


def test_arrays_that_numpy_calls_scalars_are_read(tmp_path):
    (tmp_path / FILE).write_bytes(serialization.to_bytes({"a": np.float32(1.5)}))
    stored.assert_equal(flax_files.open(tmp_path), {"a": np.array(1.5, np.float32)})


def test_one_array_at_a_time_is_in_memory_and_reading_can_wait(tmp_path):
    alive = []

    def read():
        assert not any(reference() is not None for reference in alive)
        value = np.zeros((5, 7), np.float32)
        alive.append(weakref.ref(value))
        return value

    array = StoredArray((5, 7), np.dtype(np.float32), read)
    flax_files.write(tmp_path, dict.fromkeys(["a/x", "a/y", "b"], array))
    assert len(alive) == 3
    found = flax_files.open(tmp_path)
    (tmp_path / FILE).unlink()  # It is open; nothing of it was read but names.
    np.testing.assert_array_equal(found["b"].read(), np.zeros((5, 7)))


@pytest.mark.parametrize("kept", [0, 1, 2, 40, -200, -1])
def test_a_file_that_ends_too_early_is_refused(tmp_path, kept):
    write(tmp_path)
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"must be complete msgpack .*\.msgpack is not: .*again\."):
        flax_files.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (serialization.to_bytes({"a": np.ones(3, np.int32)}), r"type int32 and shape \(3,\)\. C"),
        (serialization.to_bytes({"a": {"b": 3, "c": "d"}}), r"is not: a/b, a/c is no array\. Copy"),
        (serialization.to_bytes({"a": 1j}), r"a value of kind 2, which is no array\. Copy"),
        (serialization.msgpack_serialize({3: np.ones(3)}), r"a name in it is 3\. Copy"),
        (serialization.to_bytes({"a": np.ones(3)}) + b"123", r"3 bytes follow the last array\. C"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"does not begin with a map of names\. "),
        (b"\x81\xa1a" * 2000, r"is not: .*recursion.*\. Copy or download it again"),
        (b"\x81\xa1a\xc7\x0e\x01\x93\x92\xff\xfe\xa7float32\xc4\x00", r"shape \(-1, -2\)\. Copy"),
        (b"\x81\xa1a\xc7\x0d\x01\x93\x91\x02\xa7float32\xc4\x00", r"\(2,\) does not fit its 13 b"),
        (serialization.to_bytes({"a": CHUNKS}), r"array of shape \(3, 2\) do not fit it\. Copy"),
    ],
)  # fmt: skip
def test_what_holds_no_weights_is_refused(tmp_path, content, message):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        flax_files.open(tmp_path)


def test_missing_and_repeated_shards_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold flax_model\.msgpack or .* neither\. C"):
        flax_files.open(tmp_path)
    write(tmp_path, max_shard_bytes=150)
    first, second, _ = sorted(tmp_path.glob("flax_model-*"))
    content = second.read_bytes()
    second.write_bytes(first.read_bytes())
    with pytest.raises(
        ValueError, match=r"hold each array once; .*00002-of-00003.* holds .* again"
    ):
        flax_files.open(tmp_path)
    second.write_bytes(content)
    first.unlink()
    with pytest.raises(FileNotFoundError, match=r"missing: flax_model-00001-of-00003\.msgpack\. C"):
        flax_files.open(tmp_path)
