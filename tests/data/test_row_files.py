"""Rows of JSON lines, CSV and TSV, and what is said about a file that is none of them."""

import codecs
import gzip

import pytest

from hyperdecoders_jax.data import row_files


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
        (
            "x.json",
            '[{"a": 1}]',
            r"line 1 of .* \(a JSON list\)\. Write .*: `jq -c '\.\[\]' x\.json",
        ),
        ("x.json", '[\n{"a": 1},\n{"a": 2}]', r"line 1 of .*x\.json is '\[' .*Write .*`jq -c"),
        ("x.json", '{\n"a": 1\n}', r"line 1 of .*x\.json is '\{' .*on one line: `jq -c \. x"),
        ("x.jsonl", '{"a": "b\tc"}', r"line 1 of .* \(Invalid control .*as \\t and \\n"),
        ("x.jsonl", '"a"', r"line 1 of .* \(a JSON str\)\. Write .* all on one line"),
        (
            "x.jsonl",
            '{"a": 1, "b": {"c": 1, "c": 2}}',
            r"line 1 of .* \(it names 'c' twice\)\. Write",
        ),
        ("x.jsonl", '{"a": NaN}', r"line 1 of .* \(NaN is no JSON; write null, or leave it out\)"),
        ("x.jsonl", '{"a": [-Infinity]}', r"line 1 of .* \(-Infinity is no JSON"),
        ("x.jsonl", '{"a": 1}\r{"a": 2}', r"line 1 of .* a carriage return alone ends no line"),
        ("x.jsonl", '{"a": ' + "[" * 100_000, r"line 1 of .* \(it is nested too deeply\)"),
        ("x.jsonl", r'{"a": "hi \ud83d"}', r"line 1 of .* \(an escape .* is half a character"),
        ("x.jsonl", " \n", r"must hold a row; .*x\.jsonl holds none\. Write some, or leave"),
        ("x.csv", "a,b\n", r"must hold a row; .*x\.csv holds none"),
        ("x.csv", "a,a\n1,2\n", r"name each column once; that of .* is \['a', 'a'\]\. Rename"),
        ("x.csv", "a,b\n1,2\n3\n", r"2 columns \['a', 'b'\]; the row in line 3 of .* has 1: \['3'"),
        (
            "x.csv",
            "a,b,,\n1,2,,\n1,2,3,\n",
            r"column 3 of .* none and holds '3' in line 3\. Name it",
        ),
        ("x.csv", ",,\n1,2,3\n", r"name each column once; that of .* is \['', '', ''\]"),
        ("x.csv", 'a,b\n1,2\n"3,4\n5,6\n', r"row that begins in line 3 of .* is broken \(unexp"),
        ("x.csv", b"a\nb\nna\xefve\n", r"UTF-8; line 3 of .* holds the byte 0xef .*\. Save it"),
    ],
)
def test_a_file_that_is_not_as_it_must_be_is_named_with_its_line(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        list(row_files.read(write(tmp_path / name, content)))


@pytest.mark.parametrize("scheme", ["s3", "https", "hf"])
def test_a_place_that_cannot_be_read_is_named(scheme):
    message = (
        rf"{scheme}://a/x\.csv gave: {scheme}:// is no file system .*Correct the path, or copy"
    )
    with pytest.raises(ValueError, match=message):
        list(row_files.read(f"{scheme}://a/x.csv"))


def test_a_folder_is_told_as_one(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder\. Name a file that is in it"):
        list(row_files.read(str(tmp_path)))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*none\.csv\. Correct"):
        list(row_files.read(str(tmp_path / "none.csv")))


# Without a time, so that every process that collects this test gives it the same name.
TRUNCATED = gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9]


@pytest.mark.parametrize("content", [b"a,b\n", TRUNCATED], ids=["plain", "truncated"])
def test_a_file_that_is_not_compressed_as_it_says_is_named(tmp_path, content):
    (tmp_path / "x.csv.gz").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"must be gzip, and complete; .*x\.csv\.gz is not .*again"
    ):
        list(row_files.read(str(tmp_path / "x.csv.gz")))


# Quotes of tables.


def tsv(*lines, name="x.tsv"):
    return lambda folder: write(folder / name, "".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    ("lines", "rows"),
    [
        # Bare quotes, as GLUE has them: CSV's reader takes three rows for one, without an error.
        (('"tis fine\t1', "ok film\t0", 'he said so"\t1', "end\t0"),
         ['"tis fine', "ok film", 'he said so"', "end"]),
        (('"Hello" he said\t1', "end\t0"), ['"Hello" he said', "end"]),
        (('"Hello"\t1', '" "\t0'), ['"Hello"', '" "']),
        (('say "hi"\t1',), ['say "hi"']),
        (('"a ""b"\t1', '"c\t0'), ['"a ""b"', '"c']),
        # Of a writer of CSV: quoted where quotes are inside, and there alone.
        (('"He said ""hi"""\t1', "end\t0"), ['He said "hi"', "end"]),
        (('"a\tb"\t1', "end\t0"), ["a\tb", "end"]),
        (('"a\nb"\t1', "end\t0"), ["a\nb", "end"]),
        (('"a ""b""\n\tc"\t1', '"d"\t"0"'), ['a "b"\n\tc', "d"]),
    ],
)  # fmt: skip
def test_the_whole_of_a_tsv_says_how_its_quotes_are_read(tmp_path, lines, rows):
    path = tsv("text\tlabel", *lines)(tmp_path)
    assert [row["text"] for _, row in row_files.read(path)] == rows


def test_quoted_names_of_columns_tell_a_writer_of_csv(tmp_path):
    path = tsv('"text"\t"label"', '"Hello"\t1', '"a b"\t0')(tmp_path)
    rows = [row for _, row in row_files.read(path)]
    assert rows == [{"text": "Hello", "label": "1"}, {"text": "a b", "label": "0"}]


@pytest.mark.parametrize("lines", [("one", '"two', 'three"'), ('"one"', "two", "three")])
def test_a_tsv_of_one_column_has_a_row_a_line(tmp_path, lines):
    path = tsv("text", *lines)(tmp_path)
    assert [row["text"] for _, row in row_files.read(path)] == list(lines)


@pytest.mark.parametrize(
    ("lines", "decided"),
    [
        (('"Hello" he said\t1',), (": 1 in ", "as text, and lines as rows; --quoting=csv")),
        (('"a\tb"\t1', '"c"\t0'), (": 2 in ", "as in CSV; --quoting=none")),
        (('say "hi"\t1',), ()),
    ],
)
def test_what_was_decided_is_told_once(tmp_path, caplog, lines, decided):
    path = tsv("text\tlabel", *lines)(tmp_path)
    for _ in range(2):
        list(row_files.read(path))
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == bool(decided)
    assert all(part in message for message in messages for part in decided)


def test_a_flag_says_how_quotes_are_read(tmp_path):
    path = tsv("text\tlabel", '"Hello"\t1', '"a ""b"""\t0')(tmp_path)
    read = {x: [row["text"] for _, row in row_files.read(path, x)] for x in row_files.QUOTINGS}
    assert read == {
        "auto": ['"Hello"', '"a ""b"""'],
        "csv": ["Hello", 'a "b"'],
        "none": ['"Hello"', '"a ""b"""'],
    }
    path = tsv("text,label", '"Hello,1', name="x.csv")(tmp_path)
    assert [*row_files.read(path, "none")] == [(2, {"text": '"Hello', "label": "1"})]


def test_a_tsv_that_fits_in_neither_way_is_told(tmp_path):
    path = tsv("text\tlabel", '"Hello" he said\t1', "one\ttoo\tmany")(tmp_path)
    message = r"as text line 3 has 3 fields for 2 columns of .*begins in line 2 .*--quoting=none or"
    with pytest.raises(ValueError, match=message):
        list(row_files.read(path))


def test_no_row_of_a_tsv_takes_in_other_rows_silently(tmp_path):
    # One line is wrong, and CSV's reader would get over it by taking three lines for one.
    path = tsv("text\tlabel", '"tis\t1', "ok\tfilm\t0", 'he said so"\t1')(tmp_path)
    with pytest.raises(ValueError, match=r"lines 2 to 4 of .*inside one pair of quotes\. Close"):
        list(row_files.read(path))


def test_a_space_before_a_quote_is_told(tmp_path, caplog):
    (tmp_path / "a.csv").write_text('inputs,targets\n"a, x","b"\n"c", "d"\n')
    rows = [row for _, row in row_files.read(f"{tmp_path}/a.csv", "auto")]
    assert [row["targets"] for row in rows] == ["b", ' "d"']
    assert "line 3 of" in caplog.text


def test_rows_inside_quotes_of_a_csv_are_told(tmp_path, caplog):
    path = tsv("text,label", '"tis fine,1', "ok film,0", 'he said so",1', name="x.csv")(tmp_path)
    assert len(list(row_files.read(path))) == 1
    assert "lines 2 to 4 of" in caplog.text


def test_columns_without_names_are_left_out_where_they_are_empty_or_an_index(tmp_path):
    path = write(tmp_path / "x.csv", ",a,,\n0,b,,\n1,c, ,\n")
    assert [row for _, row in row_files.read(path)] == [{"a": "b"}, {"a": "c"}]


def test_a_carriage_return_alone_ends_rows_of_tables(tmp_path):
    path = write(tmp_path / "x.csv", 'a,b\r1,"2\r3"\r4,5')
    assert [row for _, row in row_files.read(path)] == [
        {"a": "1", "b": "2\r3"},
        {"a": "4", "b": "5"},
    ]


def test_numbers_come_out_as_they_went_in():
    line = '{"id": 3.80, "n": 1e400, "l": [-0, {"k": 12345678901234567890123}], "t": "ä\u2028"}'
    assert row_files.to_json(row_files.json_object(line, "")) == line


# Names of files.


def test_a_file_with_an_equals_sign_in_its_name_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert row_files.split_name("data=v2.jsonl") == ("data", "v2.jsonl")
    (tmp_path / "data=v2.jsonl").touch()
    assert row_files.split_name("data=v2.jsonl") == (None, "data=v2.jsonl")
    (tmp_path / "v2.jsonl").touch()
    with pytest.raises(
        ValueError, match=r"'data=v2\.jsonl' is a file, and so is 'v2\.jsonl'.*/data="
    ):
        row_files.split_name("data=v2.jsonl")
    assert row_files.split_name("./data=v2.jsonl") == (None, "./data=v2.jsonl")


def test_a_file_says_how_its_quotes_are_read():
    assert row_files.with_quoting("x.tsv.gz", "none") == "x.tsv.gz?quoting=none"
    with pytest.raises(ValueError, match=r"one of auto, csv, none; got 'x\.tsv\?quoting=no'\. "):
        row_files.split_quoting("x.tsv?quoting=no")


def test_a_warning_of_a_file_comes_once_however_often_it_is_read(tmp_path, caplog):
    path = tmp_path / "spaced.csv"
    path.write_text('inputs,targets\n1, "b"\n')
    for _ in range(3):
        assert len(list(row_files.read(str(path), "csv"))) == 1
    assert caplog.text.count("A field in quotes should begin with its quote; in line 2") == 1
