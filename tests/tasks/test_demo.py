"""The demo's data: sizes, lengths, and that nothing of one split is in another."""

import itertools
import pathlib

import pytest
import seqio

from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.tasks import demo, mixtures, sources

TASKS = ("topic", "part_of_speech", "relation", "genus", "find", "inflect")
# Fields that hold headwords.
WORDS = ("word", "first", "second")
MAX_BYTES = 1_000_000


@pytest.fixture(autouse=True)
def run_vocabulary():
    loaded = vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH)
    vocabulary.set_run_vocabulary(loaded)
    yield loaded
    vocabulary.set_run_vocabulary(None)


def records(name, split):
    return seqio.TaskRegistry.get(f"demo_{name}").source.records(split)


def headwords(split):
    rows = itertools.chain.from_iterable(records(name, split) for name in TASKS)
    return {row[field].lower() for row in rows for field in WORDS if field in row}


def texts(split):
    rows = itertools.chain.from_iterable(records(name, split) for name in TASKS)
    return {row["text"] for row in rows if "text" in row}


@pytest.mark.parametrize("name", TASKS)
def test_every_split_has_a_size_that_can_be_learned_and_measured(name):
    sizes = [len(records(name, split)) for split in ("train", "validation", "test")]
    assert 3_000 <= sizes[0] <= 6_000
    assert all(300 <= size <= 500 for size in sizes[1:])


@pytest.mark.parametrize("name", TASKS)
def test_every_example_fits_the_mixtures_lengths(name):
    lengths = mixtures.TASK_FEATURE_LENGTHS["demo"]
    task = seqio.TaskRegistry.get(f"demo_{name}")
    for split in task.splits:
        dataset = task.get_dataset(None, split=split, shuffle=False)
        for example in dataset.as_numpy_iterator():
            for feature, length in lengths.items():
                assert len(example[feature]) <= length, example[f"{feature}_pretokenized"]
                assert 2 not in example[feature], "an unknown character"


@pytest.mark.parametrize("other", ["validation", "test"])
def test_no_headword_of_training_is_in_another_split(other):
    assert not headwords("train") & headwords(other)
    assert not headwords("validation") & headwords("test")


def test_no_text_is_in_two_splits():
    for one, other in itertools.combinations(("train", "validation", "test"), 2):
        assert not texts(one) & texts(other)


def test_pretraining_sees_no_headword_and_no_text_of_another_split():
    source = sources.JsonLinesDataSource({"train": demo.FOLDER / "pretrain/train.jsonl.gz"})
    entries = [record["text"] for record in source.records("train")]
    words = {word for entry in entries for word in entry.partition(": ")[0].split(", ")}
    held_out = texts("validation") | texts("test")
    assert not {word.lower() for word in words} & (headwords("validation") | headwords("test"))
    for entry in entries:
        assert not {entry, *entry.partition(": ")[2].split("; ")} & held_out


@pytest.mark.parametrize(("name", "num_labels"), [("topic", 14), ("part_of_speech", 4)])
def test_classes_are_about_as_frequent(name, num_labels):
    for split in ("train", "validation", "test"):
        labels = [record["label"] for record in records(name, split)]
        counts = [labels.count(label) for label in set(labels)]
        assert len(counts) == num_labels
        assert max(counts) <= 1.3 * len(labels) / num_labels


def test_relations_are_balanced_in_every_split():
    for split in ("train", "validation", "test"):
        labels = [record["label"] for record in records("relation", split)]
        assert labels.count("synonym") == pytest.approx(len(labels) / 2, rel=0.02)


@pytest.mark.parametrize("name", ["genus", "find"])
def test_answers_stand_once_in_their_text(name):
    for split in ("train", "validation", "test"):
        for record in records(name, split):
            assert record["text"].count(record["answer"]) >= 1


def test_pretraining_windows_fit_their_lengths(run_vocabulary):
    lengths = mixtures.TASK_FEATURE_LENGTHS["demo_pretrain"]
    task = seqio.TaskRegistry.get("demo_pretrain")
    dataset = task.get_dataset(lengths, split="validation", shuffle=False, seed=0)
    examples = list(dataset.as_numpy_iterator())
    assert len(examples) > 200
    assert {len(example["inputs"]) for example in examples} == {lengths["inputs"]}
    assert max(len(example["targets"]) for example in examples) == lengths["targets"]
    assert max(example["inputs"].max() for example in examples) == run_vocabulary.vocab_size - 1


def test_the_vocabulary_is_small_and_t5s_in_kind(run_vocabulary):
    assert run_vocabulary.vocab_size == 4_100
    assert (run_vocabulary.pad_id, run_vocabulary.eos_id, run_vocabulary.unk_id) == (0, 1, 2)
    text = "".join(map(chr, range(33, 127)))
    assert run_vocabulary.decode(run_vocabulary.encode(text)) == text
    assert run_vocabulary.encode("it’s") == run_vocabulary.encode("it's")


def test_data_fit_into_a_megabyte_weights_into_eight_and_both_carry_their_notices():
    folder = pathlib.Path(demo.FOLDER)
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    (weights,) = [path for path in files if path.suffix == ".safetensors"]
    assert weights.stat().st_size <= 8 * MAX_BYTES
    assert sum(path.stat().st_size for path in files if path != weights) <= MAX_BYTES
    notice = (folder / "NOTICE.md").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in notice
    assert "Copyright (C) 2019 Brad Jascob" in notice
