import pytest
from etils import epath

from hyperdecoders_jax import whole_file


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = epath.Path(tmp_path / "a.json")
    whole_file.write(path, "one")
    whole_file.write(path, "two")
    assert path.read_text() == "two"
    assert [child.name for child in tmp_path.iterdir()] == ["a.json"]


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    path = epath.Path(tmp_path / "a.json")
    whole_file.write(path, "one")
    (tmp_path / ".a.json.unfinished").mkdir()
    with pytest.raises(OSError, match="unfinished"):
        whole_file.write(path, "two")
    assert path.read_text() == "one"
