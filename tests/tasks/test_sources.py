"""JSON lines: order, shuffling, sharding, sizes, and what is said about a bad file."""

import gzip
import itertools
import json

import pytest
import seqio

from hyperdecoders_jax.tasks import sources

RECORDS = [{"word": f"w{i}", "count": i, "rate": i / 2} for i in range(7)]


def write(path, records):
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def words(source, **arguments):
    dataset = source.get_dataset("train", **arguments)
    return [record["word"].decode() for record in dataset.as_numpy_iterator()]


@pytest.fixture
def source(tmp_path):
    return sources.JsonLinesDataSource({"train": write(tmp_path / "rows.jsonl", RECORDS)})


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_records_come_in_the_files_order_with_their_types(tmp_path, name):
    source = sources.JsonLinesDataSource({"train": str(write(tmp_path / name, RECORDS))})
    dataset = source.get_dataset("train", shuffle=False)
    expected = [{**record, "word": record["word"].encode()} for record in RECORDS]
    assert list(dataset.as_numpy_iterator()) == expected
    assert source.num_input_examples("train") == 7


def test_several_files_make_one_split(tmp_path):
    files = [write(tmp_path / "a.jsonl", RECORDS[:3]), write(tmp_path / "b.jsonl", RECORDS[3:])]
    source = sources.JsonLinesDataSource({"train": files}, fields=["word"])
    assert source.records("train") == tuple({"word": record["word"]} for record in RECORDS)


def test_a_seed_fixes_the_order(source):
    in_order = [record["word"] for record in RECORDS]
    assert words(source, shuffle=True, seed=3) == words(source, shuffle=True, seed=3)
    assert words(source, shuffle=True, seed=3) != words(source, shuffle=True, seed=4)
    assert sorted(words(source, shuffle=True, seed=3)) == in_order


@pytest.mark.parametrize("shuffle", [False, True])
def test_shards_divide_the_records(source, shuffle):
    shards = [
        words(source, shuffle=shuffle, seed=5, shard_info=seqio.ShardInfo(index, 3))
        for index in range(3)
    ]
    assert sorted(map(len, shards)) == [2, 2, 3]
    assert sorted(itertools.chain(*shards)) == [record["word"] for record in RECORDS]


def test_no_file_is_opened_before_records_are_asked_for(tmp_path):
    source = sources.JsonLinesDataSource({"train": tmp_path / "later.jsonl"})
    with pytest.raises(
        ValueError, match=rf"nothing is at {tmp_path}/later\.jsonl\. Check the path"
    ):
        source.get_dataset("train")


def test_an_unknown_split_is_named(source):
    with pytest.raises(ValueError, match=r"must be one of train; got 'dev'\. Choose one, or"):
        source.num_input_examples("dev")


@pytest.mark.parametrize("line", ['{"word": "x"', '{"count": 1}', "[1]"])
def test_a_bad_line_is_named(tmp_path, line):
    (tmp_path / "rows.jsonl").write_text(json.dumps(RECORDS[0]) + "\n" + line + "\n")
    source = sources.JsonLinesDataSource({"train": tmp_path / "rows.jsonl"})
    with pytest.raises(ValueError, match=r"line 2 of .*rows\.jsonl is .*Correct the file, or name"):
        source.get_dataset("train")


def test_blank_lines_are_skipped_and_strings_may_hold_other_line_ends(tmp_path):
    lines = '{"word": "a\u2028b"}\r\n\n  \n{"word": "c\u0085d"}'
    (tmp_path / "rows.jsonl").write_bytes(lines.encode())
    source = sources.JsonLinesDataSource({"train": tmp_path / "rows.jsonl"})
    assert words(source, shuffle=False) == ["a\u2028b", "c\u0085d"]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("null", '"x"', "hold a string or a number in every line; 'word' in line 1 of .* is null"),
        ('"x"', "null", r"hold a string in every line; 'word' in line 2 of .*rows\.jsonl is null"),
        ('"x"', '["y"]', r"hold a string in every line; 'word' in line 2 of .* is \[\"y\"\]"),
        ("1.5", '{"y": 2}', "hold a number in every line; 'word' in line 2 of .* is {"),
    ],
)
def test_a_value_that_is_no_string_or_number_is_named(tmp_path, first, second, message):
    (tmp_path / "rows.jsonl").write_text(f'{{"word": {first}}}\n{{"word": {second}}}\n')
    source = sources.JsonLinesDataSource({"train": tmp_path / "rows.jsonl"})
    with pytest.raises(ValueError, match=f"{message}.* Correct the file, or name"):
        source.get_dataset("train")


def test_a_split_without_records_is_refused(tmp_path):
    source = sources.JsonLinesDataSource({"train": write(tmp_path / "none.jsonl", [])})
    with pytest.raises(ValueError, match=r"must hold a record; .*none\.jsonl hold none\. Write"):
        source.num_input_examples("train")
