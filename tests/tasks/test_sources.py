"""Order, shuffling, sharding, sizes; folders and downloads; what is said about a bad file."""

import gzip
import itertools
import json
import sys

import pyarrow
import pyarrow.parquet
import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax.data import reading, vocabulary
from hyperdecoders_jax.tasks import features, preprocessors, sources

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
    assert [*source.records("train")] == [{"word": record["word"]} for record in RECORDS]


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
        ValueError, match=rf"there is no file {tmp_path}/later\.jsonl\. Correct the path"
    ):
        source.get_dataset("train")


def test_an_unknown_split_is_named(source):
    with pytest.raises(ValueError, match=r"must be one of train; got 'dev'\. Choose one, or"):
        source.num_input_examples("dev")


@pytest.mark.parametrize(
    "values",
    [
        ["a", "ä\u2028"], [1, -(2**31)], [True, False], [1, 2.5], [2.5, 1], [1, 2**31],
        [-(2**63), 3], [1, 2.5, 2**40],
    ],
)  # fmt: skip
def test_tensors_are_those_that_tensorflow_makes_of_lists(tmp_path, values):
    path = write(tmp_path / "rows.jsonl", [{"value": value} for value in values])
    source = sources.JsonLinesDataSource({"train": path})
    dataset = source.get_dataset("train", shuffle=False)
    expected = tf.data.Dataset.from_tensor_slices({"value": values})
    assert dataset.element_spec == expected.element_spec
    assert list(dataset.as_numpy_iterator()) == list(expected.as_numpy_iterator())
    assert len(dataset) == len(values)


def test_every_record_is_read_whatever_their_number(tmp_path):
    records = [{"word": f"w{i}", "n": i} for i in range(1100)]  # More than two chunks.
    source = sources.JsonLinesDataSource({"train": write(tmp_path / "rows.jsonl", records)})
    assert words(source, shuffle=False) == [f"w{i}" for i in range(1100)]
    assert sorted(words(source, seed=1)) == sorted(f"w{i}" for i in range(1100))


@pytest.mark.parametrize("number", ["1e400", "9" * 19, "-1" + "0" * 5000])
def test_a_number_that_no_tensor_holds_is_told(tmp_path, number):
    (tmp_path / "rows.jsonl").write_text(f'{{"n": 1}}\n{{"n": {number}}}\n')
    source = sources.JsonLinesDataSource({"train": tmp_path / "rows.jsonl"})
    with pytest.raises(ValueError, match=r"fit into 64 bits; 'n' in line 2 of .*\. Correct it, or"):
        source.num_input_examples("train")


def test_a_file_that_changes_while_a_process_reads_it_is_told(tmp_path, caplog):
    source = sources.JsonLinesDataSource({"train": write(tmp_path / "rows.jsonl", RECORDS)})
    assert source.num_input_examples("train") == 7
    write(tmp_path / "rows.jsonl", RECORDS[:3])
    assert source.num_input_examples("train") == len(words(source)) == 7
    [record] = caplog.records
    assert "goes on with the records of then" in record.getMessage()
    again = sources.JsonLinesDataSource({"train": tmp_path / "rows.jsonl"})
    assert again.num_input_examples("train") == 3


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("line", ['{"word": "x"', '{"size": 1}', "[1]"])
def test_a_bad_line_is_named(tmp_path, line, number):
    lines = [json.dumps(RECORDS[0])] * 2
    lines[number - 1] = line
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    source = sources.JsonLinesDataSource({"train": tmp_path / "rows.jsonl"}, fields=["word"])
    with pytest.raises(
        ValueError, match=rf"line {number} of .*rows\.jsonl (is .*Write|has no 'word'.* or name)"
    ):
        source.get_dataset("train")


def test_without_fields_the_first_line_is_an_object(tmp_path):
    (tmp_path / "rows.jsonl").write_text("[1]\n")
    source = sources.JsonLinesDataSource({"train": tmp_path / "rows.jsonl"})
    with pytest.raises(ValueError, match=r"must be one JSON object; line 1 of .* is '\[1\]'"):
        source.get_dataset("train")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", '{"word": "é"}'.encode("latin-1"), "must be UTF-8; line 1 of .* 0xe9"),
        (
            "rows.jsonl.gz",
            b'{"word": "w0"}',
            r"must be gzip, and complete; .*rows\.jsonl\.gz is not",
        ),
    ],
)
def test_a_file_that_is_no_text_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    source = sources.JsonLinesDataSource({"train": tmp_path / name})
    with pytest.raises(ValueError, match=message):
        source.get_dataset("train")


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"word": "w0"}')
    source = sources.JsonLinesDataSource({"train": tmp_path / "rows.jsonl"})
    assert words(source) == ["w0"]


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


@pytest.mark.parametrize("label", [1, 0.5, True])
def test_a_number_that_should_be_a_text_is_told(tmp_path, label):
    @seqio.map_over_dataset
    def render(example):
        return {"inputs": example["text"], "targets": example["label"]}

    path = write(tmp_path / "rows.jsonl", [{"text": "a", "label": label}] * 3)
    task = seqio.Task(
        "mail",
        source=sources.JsonLinesDataSource({"train": path}),
        preprocessors=[render, *preprocessors.TOKENIZE],
        output_features=features.OUTPUT_FEATURES,
    )
    vocabulary.set_run_vocabulary(seqio.ByteVocabulary())
    try:
        with pytest.raises(
            ValueError, match=r"'targets' of task 'mail' is of the type .*as_string"
        ):
            reading.task_dataset(task, {"inputs": 9, "targets": 9}, "train", shuffle=False, seed=0)
    finally:
        vocabulary.set_run_vocabulary(None)


SPLITS = {"train": "train", "validation": "dev", "test": "dev"}


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv(sources.DATA_DIR_VARIABLE, str(tmp_path / "data"))
    return tmp_path / "data"


def make_hub(folder, **splits):
    """A folder of Parquet files as the hub has them: two for each split."""
    for split, records in splits.items():
        (folder / split).mkdir(parents=True)
        for number, part in enumerate((records[:2], records[2:])):
            table = pyarrow.Table.from_pylist(part)
            pyarrow.parquet.write_table(table, folder / split / f"000{number}.parquet")
    return str(folder)


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["dev.jsonl", "dev.jsonl.gz"])
def test_a_folder_maps_splits_to_files(data_dir, name):
    source = sources.JsonLinesFolder("fruit", SPLITS, fields=["word"])
    (data_dir / "fruit").mkdir(parents=True)
    write(data_dir / "fruit" / name, RECORDS[:3])
    assert source.splits == ("train", "validation", "test")
    for split in ("validation", "test"):
        assert source.missing(split) is None
        assert [*source.records(split)] == [{"word": f"w{i}"} for i in range(3)]
    assert source.num_input_examples("test") == 3


@pytest.mark.parametrize(("label", "shown"), [("NEUTRAL", '"NEUTRAL"'), (1.0, "1.0"), (7, "7")])
def test_what_is_no_label_is_named(data_dir, label, shown):
    labels = {"label": ("0", "1")}
    source = sources.JsonLinesFolder("fruit", SPLITS, fields=["label"], labels=labels)
    (data_dir / "fruit").mkdir(parents=True)
    write(data_dir / "fruit" / "train.jsonl", [{"label": 1}, {"label": 0}])
    write(data_dir / "fruit" / "dev.jsonl", [{"label": label}])
    assert source.num_input_examples("train") == 2
    with pytest.raises(
        ValueError,
        match=rf"must be one of 0, 1; 'label' in line 1 of .*dev\.jsonl is {shown}\. Correct the",
    ):
        source.get_dataset("test")


def test_a_label_may_be_a_text_with_spaces_around_it(data_dir):
    source = sources.JsonLinesFolder(
        "fruit", SPLITS, fields=["label"], labels={"label": ("A", "B")}
    )
    (data_dir / "fruit").mkdir(parents=True)
    write(data_dir / "fruit" / "train.jsonl", [{"label": "B\n"}])
    assert source.num_input_examples("train") == 1


def test_a_folder_is_looked_for_when_data_are_asked_for(tmp_path, monkeypatch):
    source = sources.JsonLinesFolder("fruit", SPLITS, fields=["word"])
    for words_in_it, folder in ((["w0"], tmp_path / "one"), (["w0", "w1"], tmp_path / "two")):
        (folder / "fruit").mkdir(parents=True)
        write(folder / "fruit" / "train.jsonl", RECORDS[: len(words_in_it)])
        monkeypatch.setenv(sources.DATA_DIR_VARIABLE, str(folder))
        assert words(source, shuffle=False) == words_in_it


def test_without_the_variable_a_folder_is_at_home(monkeypatch):
    monkeypatch.delenv(sources.DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", "/home/ann")
    source = sources.JsonLinesFolder("fruit", SPLITS, fields=["word"])
    assert source.missing("validation") == (
        "There is no dev.jsonl or dev.jsonl.gz, one JSON object a line with the fields word, in "
        "/home/ann/hyperdecoders_data/fruit; the folder of data is ~/hyperdecoders_data."
    )


def test_a_missing_file_is_named_with_all_ways_to_get_it(data_dir):
    source = sources.JsonLinesFolder("fruit", SPLITS, fields=["word", "count"])
    with pytest.raises(
        ValueError,
        match=r"There is no dev\.jsonl or dev\.jsonl\.gz, one JSON object a line with the fields "
        rf"word, count, in {data_dir}/fruit; the folder of data is \$HYPERDECODERS_DATA_DIR\. "
        r"Prepare them with .* --prepare fruit`, .*--data_dir=FOLDER, or write the file\.",
    ):
        source.get_dataset("test")


def test_a_folder_is_prepared_from_parquet_files(data_dir, tmp_path):
    rows = [{"text": {"en": f"w{i}", "nl": "é"}, "more": i} for i in range(5)]
    hub = make_hub(tmp_path / "hub", train=rows, dev=rows[:3])
    source = sources.JsonLinesFolder(
        "fruit", SPLITS, fields=["en", "nl"], hub=hub, from_hub=lambda record: record["text"]
    )
    source.prepare()
    assert files_in(data_dir) == ["dev.jsonl", "train.jsonl"]
    assert (data_dir / "fruit" / "dev.jsonl").read_text(encoding="utf-8") == "".join(
        f'{{"en": "w{i}", "nl": "é"}}\n' for i in range(3)
    )
    assert [record["en"] for record in source.records("train")] == ["w0", "w1", "w2", "w3", "w4"]


def test_files_that_are_there_are_not_prepared_again(data_dir, tmp_path):
    (data_dir / "fruit").mkdir(parents=True)
    write(data_dir / "fruit" / "dev.jsonl.gz", RECORDS[:1])
    hub = make_hub(tmp_path / "hub", train=RECORDS)
    sources.JsonLinesFolder("fruit", SPLITS, fields=["word"], hub=hub).prepare()
    assert files_in(data_dir) == ["dev.jsonl.gz", "train.jsonl"]


def test_a_failed_download_leaves_no_file(data_dir, tmp_path):
    hub = make_hub(tmp_path / "hub", train=[*RECORDS[:3], {"count": 3}], dev=RECORDS)
    source = sources.JsonLinesFolder("fruit", SPLITS, fields=["word", "size"], hub=hub)
    with pytest.raises(ValueError, match=r"hub gave KeyError\('size'\)\. Try again .*, or write"):
        source.prepare()
    assert not any(name.endswith((".jsonl", ".gz")) for name in files_in(data_dir))


@pytest.mark.parametrize(
    ("hub", "reason"), [("/nowhere", r"/nowhere gave .*no train/\*\.parquet"), (None, "no folder")]
)
def test_what_cannot_be_downloaded_is_to_be_written(data_dir, hub, reason):
    source = sources.JsonLinesFolder("fruit", SPLITS, fields=["word"], hub=hub)
    with pytest.raises(
        ValueError, match=rf"{reason}.* or write {data_dir}/fruit/train\.jsonl: one JSON object a"
    ):
        source.prepare()


def test_the_hub_needs_its_library(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    hub = "hf://datasets/ann/fruit@refs/convert/parquet/red"
    source = sources.JsonLinesFolder("fruit", SPLITS, fields=["word"], hub=hub)
    with pytest.raises(
        ImportError, match=r"needs huggingface_hub; .* \(pip install huggingface_hub"
    ):
        source.prepare()


@pytest.fixture
def joined(tmp_path):
    """Three sources of unequal sizes as one: w0, w1 | w2 | w3, w4, w5, w6."""
    parts = (RECORDS[:2], RECORDS[2:3], RECORDS[3:])
    files = [write(tmp_path / f"{i}.jsonl", part) for i, part in enumerate(parts)]
    parts = [sources.JsonLinesDataSource({"train": file, "test": file}) for file in files]
    return sources.ConcatenatedSource(*parts)


def test_joined_sources_follow_one_another(joined):
    assert words(joined, shuffle=False) == [f"w{i}" for i in range(7)]
    assert joined.num_input_examples("train") == 7
    assert joined.splits == ("train", "test")
    assert len(joined.list_shards("train")) == 3


def test_joined_sources_are_mixed_by_a_seed(joined):
    orders = [words(joined, shuffle=True, seed=seed) for seed in range(4)]
    assert orders == [words(joined, shuffle=True, seed=seed) for seed in range(4)]
    assert all(sorted(order) == [f"w{i}" for i in range(7)] for order in orders)
    # The last source is not always last.
    assert {order[0] for order in orders} & {"w3", "w4", "w5", "w6"}


@pytest.mark.parametrize("shuffle", [False, True])
def test_joined_sources_are_divided_over_processes(joined, shuffle):
    shards = [
        words(joined, shuffle=shuffle, seed=5, shard_info=seqio.ShardInfo(index, 3))
        for index in range(3)
    ]
    assert list(map(len, shards)) == [3, 2, 2]
    assert sorted(itertools.chain(*shards)) == [f"w{i}" for i in range(7)]


def test_joined_sources_of_unknown_size_are_joined(joined):
    def read(split, shuffle_files):
        return tf.data.Dataset.from_tensors(
            {name: tf.constant(v) for name, v in RECORDS[0].items()}
        )

    endless = seqio.FunctionDataSource(read, splits=["train", "test"])
    both = sources.ConcatenatedSource(joined, endless)
    assert both.num_input_examples("train") is None
    assert sorted(words(both, shuffle=True)) == sorted([*words(joined, shuffle=False), "w0"])


def test_joined_sources_have_the_same_splits(joined, source):
    with pytest.raises(ValueError, match=r"\['test', 'train'\], \['train'\]\]\. Map the splits"):
        sources.ConcatenatedSource(joined, source)
