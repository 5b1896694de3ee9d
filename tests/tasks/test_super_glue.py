"""Text, labels, splits and data of three tasks of SuperGLUE are the original's."""

import pytest

from hyperdecoders_jax.tasks import super_glue
from tests.tasks import rendering


@pytest.mark.parametrize(
    ("function", "record", "text"),
    [
        (
            super_glue.render_boolq,
            {"question": "is ice cold", "passage": "Ice -- Ice is frozen.", "label": 1, "idx": 3},
            ("superglue-boolq question: is ice cold passage: Ice -- Ice is frozen.", "1"),
        ),
        (
            super_glue.render_cb,
            {"premise": "A: I doubt it won.", "hypothesis": "it won", "label": 1, "idx": 3},
            ("superglue-cb premise: A: I doubt it won. hypothesis: it won", "1"),
        ),
        (
            super_glue.render_rte,
            {"premise": "Ann ran far.", "hypothesis": "Ann ran.", "label": 0, "idx": 3},
            ("superglue-rte premise: Ann ran far. hypothesis: Ann ran.", "0"),
        ),
    ],
)
def test_a_record_becomes_text(function, record, text):
    assert rendering.render(function, **record) == text


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("boolq", ["False", "True"]),
        ("cb", ["entailment", "contradiction", "neutral"]),
        ("rte", ["entailment", "not_entailment"]),
    ],
)
def test_data_labels_and_splits_are_the_originals(name, labels):
    splits = {"train": "train", "validation": "validation", "test": "validation"}
    task = f"superglue_{name}_v102"
    assert rendering.data_of(task) == (f"super_glue/{name}:1.0.2", splits)
    assert rendering.labels_of(task) == labels
    assert rendering.score(task, ["1", "0"], ["1", ""]) == {"accuracy": 50.0}
