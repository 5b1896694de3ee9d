"""Lines of files: what is no text, no regular file or too much is told, and held in no memory."""

import gzip
import os
import tracemalloc

import pytest

from hyperdecoders_jax.data import text_files


def read(path):
    return list(text_files.read_lines(str(path)))


def write(path, content):
    path.write_bytes(content)
    return path


def test_lines_keep_their_ends_and_lose_byte_order_marks(tmp_path):
    content = "\ufeffa\u2028b\r\nc\rd\n\ufeffe".encode()
    expected = [(1, "a\u2028b\r\n"), (2, "c\rd\n"), (3, "e")]
    assert read(write(tmp_path / "x", content)) == expected
    # gzip is known by its content.
    assert read(write(tmp_path / "y.txt", gzip.compress(content))) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a\nä\n".encode("utf-16"),
            "line 1 of .* the byte 0xff .* like UTF-16: convert it with `iconv",
        ),
        ("a".encode("utf-16-le"), "line 1 of .* holds a NUL, as UTF-16 and binary files do"),
        ("a".encode("utf-32"), "like UTF-32: convert"),
        (b"a\n\xed\xa0\x80\n", r"line 2 of .* the byte 0xed .*Save it as UTF-8\."),
        (
            gzip.compress(gzip.compress(b"a\n", mtime=0), mtime=0),
            "like gzip: unpack it with `gunzip -c`",
        ),
        (b"PK\x03\x04\x14\x00", "a zip archive or a spreadsheet: unpack it, or save it as CSV"),
        (b"\x28\xb5\x2f\xfd\x04", "like zstd: unpack"),
        (b"PAR1\x15\x04\x00", "like Parquet: convert it to JSON lines"),
    ],
)
def test_what_is_no_text_is_told_with_its_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "x", content))


def test_a_file_that_is_not_there_is_told_with_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"no file none\.txt \(seen from {tmp_path}\)\. Correct"):
        read("none.txt")
    with pytest.raises(ValueError, match=r"is a folder\. Name a file that is in it"):
        read(tmp_path)
    for path in ("a/" * 2500, "a\0b", f"{__file__}/x"):
        with pytest.raises(ValueError, match=r"A file must .*Correct the path"):
            read(path)


def test_a_pattern_is_told_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("a-*.jsonl", "a-?.csv", "a[12].tsv", "{a,b}.csv"):
        with pytest.raises(ValueError, match=r"named by itself; .* is a pattern\. Pat.*name each"):
            read(path)
        (tmp_path / path).write_text("a")
        assert read(path) == [(1, "a")]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (" ", r"must be named; got ' '\. Write its path"),
        (".", r"\. is a folder\. Name a file"),
        ("gs://bucket/*.csv", "is a pattern"),
    ],
)
def test_what_names_no_file_is_told(path, message):
    with pytest.raises(ValueError, match=message):
        text_files.check_is_named(path)


def test_a_folder_that_is_gone_is_no_traceback(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ValueError, match=r"seen from a folder that is gone"):
        read("none.txt")


def test_pipes_and_devices_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "/dev/null"):
        with pytest.raises(ValueError, match=r"regular one.* is a (pipe|device).*--input=-"):
            read(path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_without_end_is_refused(tmp_path, monkeypatch, packed):
    monkeypatch.setattr(text_files, "MAX_LINE_BYTES", 100)
    content = b"a" * 99 + b"\n" + b"0" * 101
    path = write(tmp_path / "x", gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=r"at most 100 bytes; line 2 of .* has more\. Write one"):
        read(path)


def test_a_file_is_held_in_no_memory_whatever_it_expands_to(tmp_path):
    path = write(tmp_path / "x.gz", gzip.compress((b"0" * 999 + b"\n") * 30_000))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in text_files.read_lines(str(path))) == 30_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000  # Of 30 MB.
    finally:
        tracemalloc.stop()


def test_a_file_is_no_longer_the_same_once_it_is_written_again(tmp_path):
    path = write(tmp_path / "x", b"a")
    before = text_files.signature(str(path))
    assert before == text_files.signature(str(path))
    write(path, b"ab")
    assert text_files.signature(str(path)) not in (None, before)
    assert text_files.signature(str(tmp_path / "none")) is None
