"""The mixtures of docs/results: what their tasks ask, and that they ask it of all records."""

import gzip
import importlib
import itertools
import pathlib

import pytest
import seqio

from hyperdecoders_jax.data import vocabulary

RESULTS = pathlib.Path(__file__).parents[2] / "docs/results"
LENGTHS = {"inputs": 32, "targets": 12}


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    monkeypatch.syspath_prepend(RESULTS)
    loaded = vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH)
    vocabulary.set_run_vocabulary(loaded)


def examples(task):
    dataset = seqio.get_mixture_or_task(task).get_dataset(LENGTHS, "test", shuffle=False)
    return [
        tuple(row[f"{name}_pretokenized"].decode() for name in LENGTHS)
        for row in dataset.as_numpy_iterator()
    ]


def test_each_inflection_is_in_the_task_of_its_form():
    importlib.import_module("inflection_kinds")
    by_task = {
        task.name: examples(task.name)
        for task in seqio.get_mixture_or_task("inflection_kinds").tasks
    }
    for name, rows in by_task.items():
        form = name.removeprefix("inflect_").replace("_", " ")
        assert all(inputs.startswith(f"inflect {form}: ") for inputs, _ in rows)
    all_rows = itertools.chain.from_iterable(by_task.values())
    assert sorted(all_rows) == sorted(examples("demo_inflect"))


def test_conflicting_tasks_answer_the_same_text_otherwise():
    importlib.import_module("conflicting_tasks")
    assert len(seqio.get_mixture_or_task("conflicting_tasks").tasks) == 14
    by_task = {
        name: {
            inputs.removeprefix(f"{name}: "): targets
            for inputs, targets in examples(f"conflict_{name}")
        }
        for name in ("relation", "contrary", "part", "trap", "first", "last", "start", "end")
    }
    for name, other in (("relation", "contrary"), ("part", "trap")):
        assert by_task[name].keys() == by_task[other].keys()
        assert all(by_task[name][text] != by_task[other][text] for text in by_task[name])
    for name, place in (("first", 0), ("last", -1)):
        assert all(text.split()[place] == word for text, word in by_task[name].items())
    for name, place in (("start", 0), ("end", -1)):
        rows = by_task[name].items()
        assert all(text.split(" | ")[1].split()[place] == word for text, word in rows)


ENTRY = r"""
Coagulant \Co*ag"u*lant\, n. [L. coagulans, p. pr.]
   1. That which produces coagulation of a {liquid};
      as, {rennet} for milk.
      [1913 Webster]

         The nymph herself did then appose,
         For food and beverage.                   --Chapman.

   [Obs.] --Shak.
"""


def test_a_dictionary_becomes_plain_paragraphs(tmp_path):
    small_glue = importlib.import_module("small_glue")
    with gzip.open(tmp_path / "dictionary.dz", "wt") as file:
        file.write(ENTRY)
    assert list(small_glue.paragraphs(tmp_path / "dictionary.dz")) == [
        "That which produces coagulation of a liquid; as, rennet for milk.",
        "The nymph herself did then appose, For food and beverage.",
    ]


def test_texts_to_pretrain_on_are_restored_from_what_a_corruption_leaves(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPERDECODERS_DATA_DIR", str(tmp_path))
    small_glue = importlib.import_module("small_glue")
    for task in (small_glue.SENTENCES, small_glue.DICTIONARY):
        (tmp_path / task).mkdir()
        (tmp_path / task / "train.jsonl").write_text('{"text": "a cat sat on the mat"}\n' * 20)
    mixture = seqio.get_mixture_or_task("small_glue_texts")
    [row] = mixture.get_dataset({"inputs": 16, "targets": 24}, "train").take(1).as_numpy_iterator()
    text = vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH).decode(
        row["targets"][:-1].tolist()
    )
    assert "sat on the mat a cat sat" in text
    assert len(row["inputs"]) <= 16 < len(row["targets"])
