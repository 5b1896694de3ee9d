"""Text, labels, splits and data of the tasks of inference are the original's."""

import pytest
import seqio

from hyperdecoders_jax.tasks import nli, sources
from tests.tasks import rendering

OWN_SPLITS = {"train": "train", "validation": "validation", "test": "test"}


@pytest.mark.parametrize(
    ("function", "record", "inputs"),
    [
        (
            nli.render_anli,
            {"uid": "7", "context": "He won.", "hypothesis": "He lost.", "label": 2},
            "anli premise: He won. hypothesis: He lost.",
        ),
        (
            nli.render_art,
            {
                "observation_1": "Ann slept.",
                "observation_2": "She was late.",
                "hypothesis_1": "She woke up early.",
                "hypothesis_2": "Her clock stopped.",
                "label": 2,
            },
            "art observation 1: Ann slept. observation 2: She was late. "
            "hypothesis 1: She woke up early. hypothesis 2: Her clock stopped.",
        ),
        (
            nli.render_snli,
            {"premise": "A boy runs.", "hypothesis": "A boy sits.", "label": 2},
            "snli premise: A boy runs. hypothesis: A boy sits.",
        ),
        (
            nli.render_scitail,
            {"premise": "Ice melts.", "hypothesis": "Ice is a metal.", "label": 2},
            "scitail sentence1: Ice melts. sentence2: Ice is a metal.",
        ),
        (
            nli.render_sick,
            {"premise": "A dog barks", "hypothesis": "No dog barks", "label": 2},
            "sick premise: A dog barks hypothesis: No dog barks",
        ),
    ],
)
def test_a_premise_and_a_hypothesis_become_text(function, record, inputs):
    assert rendering.render(function, **record) == (inputs, "2")


def test_snli_keeps_records_without_a_label():
    record = {"premise": "a", "hypothesis": "b", "label": -1}
    assert rendering.render(nli.render_snli, **record)[1] == "-1"


def test_labels_have_the_numbers_of_the_original():
    # entailment 0, neutral 1, contradiction 2; SciTail has the first two alone.
    for source in seqio.TaskRegistry.get("anli_v010").source.sources:
        assert source.tfds_dataset.builder.info.features["label"].names == ["e", "n", "c"]
    assert rendering.labels_of("snli_v110") == ["entailment", "neutral", "contradiction"]
    assert rendering.labels_of("scitail_v100") == ["entails", "neutral"]


def test_anli_is_its_three_rounds_in_order():
    parts = seqio.TaskRegistry.get("anli_v010").source.sources
    assert [part.tfds_dataset.name for part in parts] == [
        "anli/r1:0.1.0",
        "anli/r2:0.1.0",
        "anli/r3:0.1.0",
    ]
    assert all(part.tfds_dataset._split_map == OWN_SPLITS for part in parts)


def test_snli_and_scitail_have_three_splits():
    assert rendering.data_of("snli_v110") == ("snli:1.1.0", OWN_SPLITS)
    assert rendering.data_of("scitail_v100") == ("sci_tail:1.0.0", OWN_SPLITS)


def test_folders_have_the_splits_of_the_original(monkeypatch):
    monkeypatch.setenv(sources.DATA_DIR_VARIABLE, "/data")
    art, sick = (seqio.TaskRegistry.get(name).source for name in ("art", "sick"))
    assert [*art.list_shards("validation"), *art.list_shards("test")] == [
        "/data/art/validation.jsonl",
        "/data/art/validation.jsonl",
    ]
    assert [*sick.list_shards("validation"), *sick.list_shards("test")] == [
        "/data/sick/validation.jsonl",
        "/data/sick/test.jsonl",
    ]


def test_folders_hold_the_labels_of_the_original():
    art, sick = (seqio.TaskRegistry.get(name).source for name in ("art", "sick"))
    assert art._labels == (("label", ("1", "2")),)
    assert sick._labels == (("label", ("0", "1", "2")),)


@pytest.mark.parametrize("name", ["anli_v010", "art", "snli_v110", "scitail_v100", "sick"])
def test_labels_are_compared_as_text(name):
    assert rendering.score(name, ["2", "0"], [" 2", "1"]) == {"accuracy": 50.0}
