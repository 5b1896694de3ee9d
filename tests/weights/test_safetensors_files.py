import json

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from hyperdecoders_jax.weights import arrays, safetensors_files
from tests.weights.stored import assert_equal, make


def test_a_file_gives_back_every_bit_shape_and_type(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors_files.write_file(path, arrays.in_memory(make()), {"made_by": "a test"})
    assert_equal(safetensors_files.open(path), make())
    assert_equal(safetensors_files.open(tmp_path), make())
    assert safetensors_files.metadata(path) == {"made_by": "a test"}


def test_transposed_arrays_are_written_as_they_read(tmp_path):
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    transposed = arrays.in_memory({"a": value})["a"].then(np.transpose, (3, 2))
    safetensors_files.write_file(tmp_path / "a.safetensors", {"a": transposed})
    assert_equal(safetensors_files.open(tmp_path), {"a": value.T})


def test_shards_have_an_index_and_at_most_so_many_bytes(tmp_path):
    held = make()
    safetensors_files.write_sharded(tmp_path, arrays.in_memory(held), max_shard_bytes=30)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(held)
    assert index["metadata"]["total_size"] == 24 + 10 + 16 + 4
    assert sorted(set(index["weight_map"].values())) == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert_equal(safetensors_files.open(tmp_path), held)


def test_small_arrays_are_one_file_without_an_index(tmp_path):
    safetensors_files.write_sharded(tmp_path, arrays.in_memory(make()))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_folder_of_files_without_an_index_opens(tmp_path):
    held = make()
    for i, names in enumerate((["a", "b"], ["c", "d"])):
        safetensors_numpy.save_file({n: held[n] for n in names}, tmp_path / f"{i}.safetensors")
    assert_equal(safetensors_files.open(tmp_path), held)
    safetensors_numpy.save_file({"c": held["c"]}, tmp_path / "2.safetensors")
    with pytest.raises(ValueError, match=r"each array once; .*2\.safetensors holds c again. Move"):
        safetensors_files.open(tmp_path)


def test_a_file_that_somebody_still_writes_is_not_read(tmp_path):
    safetensors_files.write_file(tmp_path / "a.safetensors", arrays.in_memory(make()))
    (tmp_path / ".unfinished-7-b.safetensors").write_bytes(b"half")
    assert_equal(safetensors_files.open(tmp_path), make())


def test_missing_files_folders_and_shards_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing at .*absent\. Correct the path"):
        safetensors_files.open(tmp_path / "absent")
    (tmp_path / "tf_model.h5").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"holds tf_model\.h5\. Save the model"):
        safetensors_files.open(tmp_path)
    safetensors_files.write_sharded(tmp_path, arrays.in_memory(make()), max_shard_bytes=30)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"All 2 shards .*missing: model-00002-of-00002\.saf.*again"
    ):
        safetensors_files.open(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"metadata": {}}',
        '{"weight_map": 3}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../other/model.safetensors"}}',
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(
        ValueError,
        match=r"index\.json must be JSON|must be a JSON obj|JSON with a weight_map to .*again",
    ):
        safetensors_files.open(tmp_path)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors_files.write_file(path, arrays.in_memory(make()))
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[:20], b"", b"\xff" * 40):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.safetensors is not: .*again"):
            safetensors_files.open(path)


def test_quantised_arrays_are_refused(tmp_path):
    safetensors_numpy.save_file({"q": np.zeros((2, 3), np.int8)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"of type F32, .*; q in .* of type I8\. Save the w"):
        safetensors_files.open(tmp_path)


def test_an_open_file_reads_on_when_its_name_is_gone(tmp_path):
    safetensors_files.write_file(tmp_path / "a.safetensors", arrays.in_memory(make()))
    found = safetensors_files.open(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").unlink()
    assert_equal(found, make())


def test_a_file_may_be_read_by_whom_other_files_may(tmp_path):
    safetensors_files.write_file(tmp_path / "a.safetensors", arrays.in_memory(make()))
    (tmp_path / "b.txt").write_text("")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1
