"""Rows of JSON lines, CSV and TSV, and what is said about a file that is none of them."""

import codecs
import gzip

import pytest

from hyperdecoders_jax.tasks import row_files


def write(path, content):
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


CONTENTS = {
    "x.jsonl": '{"a": "ä, b", "n": 3.80}\n\n{"a": "c", "n": -1}\n',
    "x.json": '\n{"a": "ä, b", "n": 3.80}\r\n{"a": "c", "n": -1}',
    "x.csv": 'a,n\n"ä, b",3.80\n\nc,-1\n',
    "x.tsv": "a\tn\r\nä, b\t3.80\r\nc\t-1",
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("packed", ["", ".gz", ".GZ"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_every_format_gives_the_same_rows_with_numbers_as_they_are_written(
    tmp_path, name, packed, mark
):
    content = mark + CONTENTS[name].encode()
    path = tmp_path / (name + packed)
    path.write_bytes(gzip.compress(content) if packed else content)
    rows = [row for _, row in row_files.read(str(path))]
    assert rows == [{"a": "ä, b", "n": "3.80"}, {"a": "c", "n": "-1"}]


def test_rows_have_the_numbers_of_their_first_lines(tmp_path):
    path = write(tmp_path / "x.csv", 'a,b\n"one\ntwo","say ""hi"""\n\nlast,row\n')
    assert list(row_files.read(path)) == [
        (2, {"a": "one\ntwo", "b": 'say "hi"'}),
        (5, {"a": "last", "b": "row"}),
    ]
    path = write(tmp_path / "x.jsonl", '{"a": "u\u2028v"}\n \n{"a": [1, true, null]}')
    assert list(row_files.read(path)) == [
        (1, {"a": "u\u2028v"}),
        (3, {"a": ["1", True, None]}),
    ]


def test_a_field_may_be_a_long_document(tmp_path):
    path = write(tmp_path / "x.csv", "a,b\n" + "word " * 30_000 + ",c\n")
    [(_, row)] = row_files.read(path)
    assert len(row["a"]) == 150_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "a", r"must end in \.jsonl, \.json, \.csv, \.tsv, .*x\.txt'\. Rename it"),
        ("x.jsonl", '{"a": 1}\n{"a": 2', r"line 2 of .*x\.jsonl is '\{\"a\": 2' \(.*Write \{"),
        ("x.jsonl", '[{"a": 1}]', r"line 1 of .* \(a JSON list\)\. Write .* all on one line"),
        ("x.jsonl", r'{"a": "hi \ud83d"}', r"line 1 of .* \(an escape .* is half a character"),
        ("x.jsonl", " \n", r"must hold a row; .*x\.jsonl holds none\. Write some, or leave"),
        ("x.csv", "a,b\n", r"must hold a row; .*x\.csv holds none"),
        ("x.csv", "a,a\n1,2\n", r"name each column once; that of .* is \['a', 'a'\]\. Rename"),
        ("x.csv", "a,b\n1,2\n3\n", r"2 columns \['a', 'b'\]; the row in line 3 of .* has 1: \['3'"),
        ("x.tsv", 'a\tb\n1\t2\n"3" 4\t5\n', r"begins in line 3 of .*x\.tsv is broken .*Correct it"),
        ("x.csv", 'a,b\n1,2\n"3,4\n5,6\n', r"row that begins in line 3 of .* is broken \(unexp"),
        ("x.csv", b"a\nb\nna\xefve\n", r"UTF-8; line 3 of .* holds the byte 0xef .*Save the file"),
    ],
)
def test_a_file_that_is_not_as_it_must_be_is_named_with_its_line(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        list(row_files.read(write(tmp_path / name, content)))


def test_a_place_that_cannot_be_read_is_named():
    with pytest.raises(ValueError, match=r"s3://a/x\.csv gave: .*Correct the path, or copy"):
        list(row_files.read("s3://a/x.csv"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*none\.csv \(seen from .*Correct"):
        list(row_files.read(str(tmp_path / "none.csv")))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match=r"there is no file .*folder\.csv"):
        list(row_files.read(str(tmp_path / "folder.csv")))


# Without a time, so that every process that collects this test gives it the same name.
TRUNCATED = gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9]


@pytest.mark.parametrize("content", [b"a,b\n", TRUNCATED], ids=["plain", "truncated"])
def test_a_file_that_is_not_compressed_as_it_says_is_named(tmp_path, content):
    (tmp_path / "x.csv.gz").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"must be gzip, and complete; .*x\.csv\.gz is not .*again"
    ):
        list(row_files.read(str(tmp_path / "x.csv.gz")))
