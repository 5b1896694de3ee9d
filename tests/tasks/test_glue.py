"""GLUE's text, labels, splits and metrics are the original's, letter by letter."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import glue, mixtures
from tests.tasks.rendering import render

NAMES = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")


def test_cola_is_one_sentence():
    assert render(glue.render_cola, sentence="The car honked.", label=0, idx=7) == (
        "cola sentence: The car honked.",
        "0",
    )


def test_sst2_keeps_spaces_and_case():
    assert render(glue.render_sst2, sentence="-lrb- A joy -rrb- ", label=1) == (
        "sst2 sentence: -lrb- A joy -rrb- ",
        "1",
    )


def test_mrpc_is_two_sentences():
    record = {"sentence1": 'He said "no".', "sentence2": "No, he said.", "label": 1}
    assert render(glue.render_mrpc, **record) == (
        'mrpc sentence1: He said "no". sentence2: No, he said.',
        "1",
    )


def test_stsb_is_two_sentences_and_a_score():
    record = {"sentence1": "A man is smoking.", "sentence2": "A man is skating.", "label": 0.5}
    assert render(glue.render_stsb, **record) == (
        "stsb sentence1: A man is smoking. sentence2: A man is skating.",
        "0.5",
    )


def test_qqp_is_two_questions():
    record = {"question1": "Why?", "question2": "What for?", "label": 0}
    assert render(glue.render_qqp, **record) == ("qqp question1: Why? question2: What for?", "0")


def test_mnli_has_three_labels():
    record = {"premise": "It rains.", "hypothesis": "It is dry.", "label": 2}
    assert render(glue.render_mnli, **record) == (
        "mnli premise: It rains. hypothesis: It is dry.",
        "2",
    )


def test_qnli_is_a_question_and_a_sentence():
    record = {"question": "Who ran?", "sentence": "Ann ran.", "label": 0}
    assert render(glue.render_qnli, **record) == ("qnli question: Who ran? sentence: Ann ran.", "0")


def test_rte_is_two_sentences():
    record = {"sentence1": "Ann ran far.", "sentence2": "Ann ran.", "label": 0}
    assert render(glue.render_rte, **record) == (
        "rte sentence1: Ann ran far. sentence2: Ann ran.",
        "0",
    )


def test_wnli_is_two_sentences():
    record = {"sentence1": "Ann met Bo as she ran.", "sentence2": "Ann ran.", "label": 1}
    assert render(glue.render_wnli, **record) == (
        "wnli sentence1: Ann met Bo as she ran. sentence2: Ann ran.",
        "1",
    )


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (3.75, "3.8"),
        (4.25, "4.2"),
        (2.857, "2.9"),
        (0, "0.0"),
        (5, "5.0"),
        (3.8, "3.8"),
        (2, "2.0"),
    ],
)
def test_stsb_scores_are_rounded_half_to_even(score, text):
    record = {"sentence1": "a", "sentence2": "b", "label": np.float32(score)}
    assert render(glue.render_stsb, **record)[1] == text


def test_stsb_scores_are_rounded_as_numpy_rounds_them():
    scores = np.random.default_rng(0).uniform(0, 5, 500).round(3).astype(np.float32)
    rows = {"sentence1": ["a"] * 500, "sentence2": ["b"] * 500, "label": scores}
    dataset = glue.render_stsb(tf.data.Dataset.from_tensor_slices(rows))
    texts = [example["targets"].decode() for example in dataset.as_numpy_iterator()]
    assert texts == [str(np.round((float(score) * 5) / 5, decimals=1)) for score in scores]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_holds_the_version_of_its_data_set(name):
    task = seqio.TaskRegistry.get(f"glue_{name}_v200")
    assert task.source.tfds_dataset.name == f"glue/{name}:2.0.0"


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_the_originals(name):
    task = seqio.TaskRegistry.get(f"glue_{name}_v200")
    validation, test = "validation", "validation"
    if name == "mnli":
        validation, test = "validation_mismatched", "validation_matched"
    assert task.source.tfds_dataset._split_map == {
        "train": "train",
        "validation": validation,
        "test": test,
    }


@pytest.mark.parametrize(
    ("name", "targets", "predictions", "expected"),
    [
        ("cola", ["0", "1", "1"], ["0", "1", "1"], {"matthews_corrcoef": 100.0}),
        ("sst2", ["0", "1"], ["0", " 0"], {"accuracy": 50.0}),
        ("mrpc", ["1", "0", "1"], ["1", "yes", "1"], {"f1": 80.0, "accuracy": 200 / 3}),
        ("qqp", ["1", "0", "1"], ["1", "0", "1"], {"f1": 100.0, "accuracy": 100.0}),
        ("mnli", ["2", "0"], ["2", "1"], {"accuracy": 50.0}),
        ("qnli", ["1", "0"], ["1", "0"], {"accuracy": 100.0}),
        ("rte", ["1", "0"], ["0", "1"], {"accuracy": 0.0}),
        ("wnli", ["1", "0"], ["1", "1"], {"accuracy": 50.0}),
        (
            "stsb",
            ["1.0", "2.0", "3.0"],
            ["2.0", "4.0", "6.0"],
            {"pearson_corrcoef": 100.0, "spearman_corrcoef": 100.0},
        ),
    ],
)
def test_text_is_scored_with_the_originals_metrics(name, targets, predictions, expected):
    task = seqio.TaskRegistry.get(f"glue_{name}_v200")
    targets = [task.postprocess_fn(text, is_target=True, example={}) for text in targets]
    predictions = [task.postprocess_fn(text, is_target=False, example={}) for text in predictions]
    scores = {}
    for metric_fn in task.predict_metric_fns:
        scores |= metric_fn(targets, predictions)
    assert scores == pytest.approx(expected)


def test_an_unparsable_similarity_is_minus_one():
    task = seqio.TaskRegistry.get("glue_stsb_v200")
    assert task.postprocess_fn("three") == -1.0


def test_the_mixture_is_in_proportion_to_size():
    mixture = seqio.MixtureRegistry.get("glue")
    shares = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    total = sum(shares.values())
    assert total == 949_098
    # The shares of the original's training mixture, in percent (before its splits are cut).
    for name, share in {"mnli": 41.4, "qqp": 38.3, "qnli": 11.0, "sst2": 7.1}.items():
        assert 100 * shares[f"glue_{name}_v200"] / total == pytest.approx(share, abs=0.1)


def test_lengths_are_the_originals():
    assert mixtures.TASK_FEATURE_LENGTHS["glue"]["inputs"] == 128
