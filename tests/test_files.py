"""Paths and atomic writes."""

import errno
import os
import pathlib

import pytest
from etils import epath

from hyperdecoders_jax import files


def test_a_file_of_the_package_is_found():
    found = files.resolve("package://tasks/demo_data/demo.spiece.model")
    assert pathlib.Path(found).is_file()


@pytest.mark.parametrize(
    "path", ["package://tasks/none.model", "package://nothing/at/all", "package://"]
)
def test_a_path_of_the_package_that_is_not_there_is_refused(path):
    with pytest.raises(ValueError, match="must name a file that ships with the package"):
        files.resolve(path)


def test_other_paths_stay():
    assert files.resolve("gs://bucket/file") == "gs://bucket/file"
    assert files.resolve(None) is None


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = epath.Path(tmp_path / "a.json")
    files.write_text(path, "one")
    files.write_text(path, "two")
    assert path.read_text() == "two"
    assert [child.name for child in tmp_path.iterdir()] == ["a.json"]


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    path = epath.Path(tmp_path / "a.json")
    files.write_text(path, "one")
    (tmp_path / ".a.json.unfinished").mkdir()
    with pytest.raises(OSError, match="unfinished"):
        files.write_text(path, "two")
    assert path.read_text() == "one"


def test_a_file_in_parts_appears_once_it_is_complete(tmp_path):
    path = epath.Path(tmp_path / "a.jsonl")
    with files.replacing(path) as write:
        write(b"one\n")
        assert not path.exists()
        write(b"two\n")
    assert path.read_text() == "one\ntwo\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_stops_a_file_in_parts_is_told_as_it_is(tmp_path, error):
    path = epath.Path(tmp_path / "a.jsonl")
    files.write_text(path, "old")
    with pytest.raises(error), files.replacing(path) as write:  # noqa: PT012
        write(b"new")
        raise error
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["a.jsonl"]


def test_an_unwritable_directory_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match=r"must be writable; got '.*file/runs/one', .*--model_dir"):
        files.check_writable(str(file / "runs" / "one"))


def test_checking_a_directory_leaves_no_trace(tmp_path):
    files.check_writable(str(tmp_path / "runs" / "one"))
    assert list(pathlib.Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Make room on its disk"),
        (errno.EROFS, "Its disk is read-only"),
        (errno.EACCES, "Change its rights"),
    ],
)
def test_a_write_that_fails_names_the_file_and_what_to_do(tmp_path, monkeypatch, number, advice):
    path = epath.Path(tmp_path / "a.json")

    def refuse(self, mode):
        raise OSError(number, os.strerror(number), os.fspath(self))

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(files.NotWrittenError, match=rf"^{path} must be written; .*{advice}.*\.$"):
        files.write_text(path, "text")
    assert list(tmp_path.iterdir()) == []


def test_the_words_of_a_library_s_error_are_understood():
    error = ValueError("RESOURCE_EXHAUSTED: Error writing\nno space left on device [errno 28]")
    assert files.why_not_written(error).endswith("No space left on device. Make room on its disk.")


@pytest.mark.parametrize("path", ["/".join(["a" * 99] * 40), "b" * 300])
def test_a_path_too_long_is_told_before_any_work(tmp_path, path):
    with pytest.raises(ValueError, match=r"File name too long\. Name a shorter path\. --model_dir"):
        files.check_writable(str(tmp_path / path))
    assert list(tmp_path.iterdir()) == []


def test_only_sources_that_are_there_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t5").mkdir()
    assert files.absolute_source("t5") == str(tmp_path / "t5")
    for other in ("google/t5", "gs://bucket/t5", "package://tasks/x", "/data/t5"):
        assert files.absolute_source(other) == other


def test_a_folder_is_filled_at_once_or_not_at_all(tmp_path):
    folder = epath.Path(tmp_path / "analysis")

    def fill(number, *, fails=False):
        with files.filling(folder) as unfinished:
            (unfinished / "pictures").mkdir()
            (unfinished / "pictures" / f"{number}.png").write_text("")
            (unfinished / "a.json").write_text(number)
            if fails:
                raise KeyError

    with pytest.raises(KeyError):
        fill("0", fails=True)
    assert not folder.exists()
    fill("1")
    (folder / files.UNFINISHED).mkdir()  # As a killed process leaves it.
    fill("2")
    with pytest.raises(KeyError):
        fill("3", fails=True)
    found = pathlib.Path(folder).rglob("*")
    names = sorted(str(path.relative_to(folder)) for path in found)
    assert names == ["a.json", "pictures", "pictures/2.png"]
    assert (folder / "a.json").read_text() == "2"
