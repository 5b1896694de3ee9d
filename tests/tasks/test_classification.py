"""Text, labels, splits and data of the tasks of classification are the original's."""

import pytest

from hyperdecoders_jax.tasks import classification
from tests.tasks import rendering

WITHOUT_VALIDATION = {"train": "train", "validation": "test", "test": "test"}


@pytest.mark.parametrize(
    ("function", "record", "text"),
    [
        (
            classification.render_imdb,
            {"text": "A <br />joy.", "label": 1},
            ("imdb A <br />joy.", "1"),
        ),
        (
            classification.render_yelp_polarity,
            {"text": "Cold \\n soup.", "label": 0},
            ("yelp_polarity sentence: Cold \\n soup.", "0"),
        ),
        (
            classification.render_trec,
            {"text": "What is rain ?", "label-coarse": 0, "label-fine": 7},
            ("trec sentence: What is rain ?", "0"),
        ),
        (
            classification.render_paws,
            {"sentence1": "He ran .", "sentence2": "Ran he .", "label": 1},
            ("paws sentence1: He ran . sentence2: Ran he .", "1"),
        ),
    ],
)
def test_a_record_becomes_text(function, record, text):
    assert rendering.render(function, **record) == text


def test_labels_have_the_numbers_of_the_original():
    assert rendering.labels_of("imdb_v100") == ["neg", "pos"]
    # Not their numbers: the label "1", a bad review, is 0.
    assert rendering.labels_of("yelp_polarity_v020") == ["1", "2"]
    coarse = rendering.labels_of("trec_v100", "label-coarse")
    assert coarse == ["DESC", "ENTY", "ABBR", "HUM", "NUM", "LOC"]
    assert rendering.labels_of("paws_v110") == ["different_meaning", "paraphrase"]


@pytest.mark.parametrize(
    ("name", "data", "splits"),
    [
        ("imdb_v100", "imdb_reviews/plain_text:1.0.0", WITHOUT_VALIDATION),
        ("yelp_polarity_v020", "yelp_polarity_reviews:0.2.0", WITHOUT_VALIDATION),
        ("trec_v100", "trec:1.0.0", WITHOUT_VALIDATION),
        (
            "paws_v110",
            "paws_wiki/labeled_final_tokenized:1.1.0",
            {"train": "train", "validation": "validation", "test": "test"},
        ),
    ],
)
def test_data_and_splits_are_the_originals(name, data, splits):
    assert rendering.data_of(name) == (data, splits)
    assert rendering.score(name, ["1", "0"], ["1 ", "one"]) == {"accuracy": 50.0}
