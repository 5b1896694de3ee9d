"""GLUE's text, labels, splits and metrics are T5's, letter by letter."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import mixtures, t5_glue

NAMES = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte")


def render(function, **record):
    rows = {name: tf.constant([value]) for name, value in record.items()}
    [example] = function(tf.data.Dataset.from_tensor_slices(rows)).as_numpy_iterator()
    return example["inputs"].decode(), example["targets"].decode()


def score(name, targets, predictions):
    task = seqio.TaskRegistry.get(f"t5_glue_{name}_v200")
    targets = [task.postprocess_fn(text, is_target=True, example={}) for text in targets]
    predictions = [task.postprocess_fn(text, is_target=False, example={}) for text in predictions]
    scores = {}
    for metric_fn in task.predict_metric_fns:
        scores |= metric_fn(targets, predictions)
    return scores


def test_cola_is_one_sentence():
    assert render(t5_glue.render_cola, sentence="The car honked.", label=0, idx=7) == (
        "cola sentence: The car honked.",
        "unacceptable",
    )


def test_sst2_keeps_spaces_and_case():
    assert render(t5_glue.render_sst2, sentence="-lrb- A joy  -rrb- ", label=1, idx=7) == (
        "sst2 sentence: -lrb- A joy  -rrb- ",
        "positive",
    )


def test_mrpc_is_two_sentences():
    record = {"sentence1": 'He said "no".', "sentence2": "No, he said.", "label": 1, "idx": 7}
    assert render(t5_glue.render_mrpc, **record) == (
        'mrpc sentence1: He said "no". sentence2: No, he said.',
        "equivalent",
    )


def test_stsb_is_two_sentences_and_a_score():
    record = {"sentence1": "A man smokes.", "sentence2": "A man skates.", "label": 1.75, "idx": 7}
    assert render(t5_glue.render_stsb, **record) == (
        "stsb sentence1: A man smokes. sentence2: A man skates.",
        "1.8",
    )


def test_qqp_is_two_questions():
    record = {"question1": "Why?", "question2": "What for?", "label": 0, "idx": 7}
    assert render(t5_glue.render_qqp, **record) == (
        "qqp question1: Why? question2: What for?",
        "not_duplicate",
    )


def test_mnli_begins_with_the_hypothesis():
    record = {"premise": "It rains.", "hypothesis": "It is dry.", "label": 2, "idx": 7}
    assert render(t5_glue.render_mnli, **record) == (
        "mnli hypothesis: It is dry. premise: It rains.",
        "contradiction",
    )


def test_qnli_is_a_question_and_a_sentence():
    record = {"question": "Who ran?", "sentence": "Ann ran.", "label": 1, "idx": 7}
    assert render(t5_glue.render_qnli, **record) == (
        "qnli question: Who ran? sentence: Ann ran.",
        "not_entailment",
    )


def test_rte_is_two_sentences():
    record = {"sentence1": "Ann ran far.", "sentence2": "Ann ran.", "label": 0, "idx": 7}
    assert render(t5_glue.render_rte, **record) == (
        "rte sentence1: Ann ran far. sentence2: Ann ran.",
        "entailment",
    )


def test_a_secret_label_is_unknown():
    assert render(t5_glue.render_cola, sentence="It rains.", label=-1)[1] == "<unk>"
    record = {"sentence1": "a", "sentence2": "b", "label": np.float32(-1)}
    assert render(t5_glue.render_stsb, **record)[1] == "<unk>"


@pytest.mark.parametrize(
    ("score", "text"),
    [(0, "0.0"), (0.5, "0.4"), (2.5, "2.4"), (3.75, "3.8"), (4.3, "4.4"), (4.9, "4.8"), (5, "5.0")],
)
def test_a_similarity_is_rounded_to_fifths(score, text):
    record = {"sentence1": "a", "sentence2": "b", "label": np.float32(score)}
    assert render(t5_glue.render_stsb, **record)[1] == text


def test_similarities_become_26_texts():
    scores = np.random.default_rng(0).uniform(0, 5, 500).astype(np.float32)
    rows = {"sentence1": ["a"] * 500, "sentence2": ["b"] * 500, "label": scores}
    dataset = t5_glue.render_stsb(tf.data.Dataset.from_tensor_slices(rows))
    texts = [example["targets"].decode() for example in dataset.as_numpy_iterator()]
    assert texts == [f"{np.rint(score * 5) / 5:.1f}" for score in scores]
    assert len(set(texts)) == 26


@pytest.mark.parametrize("name", NAMES)
def test_a_name_holds_the_version_of_its_data_set(name):
    task = seqio.TaskRegistry.get(f"t5_glue_{name}_v200")
    assert task.source.tfds_dataset.name == f"glue/{name}:2.0.0"


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_those_of_the_data_set(name):
    splits = {"train": "train", "validation": "validation", "test": "test"}
    if name == "mnli":
        splits = {
            "train": "train",
            "validation": "validation_matched",
            "validation_mismatched": "validation_mismatched",
            "test": "test_matched",
            "test_mismatched": "test_mismatched",
        }
    task = seqio.TaskRegistry.get(f"t5_glue_{name}_v200")
    assert task.source.tfds_dataset._split_map == splits


@pytest.mark.parametrize(
    ("name", "targets", "predictions", "expected"),
    [
        # Gorodkin's correlation with a third class, worked out in test_metrics.py.
        (
            "cola",
            ["acceptable", "acceptable", "unacceptable", "unacceptable"],
            ["acceptable", "Acceptable", "", "unacceptable"],
            {"matthews_corrcoef": 400 / np.sqrt(80)},
        ),
        ("sst2", ["negative", "positive"], ["negative", "1"], {"accuracy": 50.0}),
        # An invalid one counts as a false negative: 2 * 1 / (2 * 1 + 0 + 1).
        (
            "mrpc",
            ["equivalent", "not_equivalent", "equivalent"],
            ["equivalent", "not_equivalent", "equivalent."],
            {"f1": 200 / 3, "accuracy": 200 / 3},
        ),
        (
            "stsb",
            ["1.0", "2.0", "3.0"],
            ["2.0", "4.0", "6.0"],
            {"pearson_corrcoef": 100.0, "spearman_corrcoef": 100.0},
        ),
        # An invalid one counts as a false positive: 2 * 1 / (2 * 1 + 1 + 0).
        (
            "qqp",
            ["duplicate", "not_duplicate"],
            ["duplicate", "0"],
            {"f1": 200 / 3, "accuracy": 50.0},
        ),
        ("mnli", ["contradiction", "neutral"], ["contradiction", "?"], {"accuracy": 50.0}),
        ("qnli", ["entailment", "not_entailment"], ["entailment"] * 2, {"accuracy": 50.0}),
        ("rte", ["entailment", "entailment"], ["", "not entailment"], {"accuracy": 0.0}),
    ],
)
def test_labels_are_scored_by_their_numbers(name, targets, predictions, expected):
    assert score(name, targets, predictions) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("cola", ("unacceptable", "acceptable")),
        ("sst2", ("negative", "positive")),
        ("mrpc", ("not_equivalent", "equivalent")),
        ("qqp", ("not_duplicate", "duplicate")),
        ("mnli", ("entailment", "neutral", "contradiction")),
        ("qnli", ("entailment", "not_entailment")),
        ("rte", ("entailment", "not_entailment")),
    ],
)
def test_labels_are_in_the_order_of_the_data_set(name, order):
    task = seqio.TaskRegistry.get(f"t5_glue_{name}_v200")
    numbers = [task.postprocess_fn(text, is_target=True, example={}) for text in order]
    assert numbers == list(range(len(order)))
    assert task.postprocess_fn(f" {order[0]}", is_target=False, example={}) == -1


@pytest.mark.parametrize(("name", "prediction"), [("rte", "entailment"), ("stsb", "3.8")])
def test_a_secret_label_cannot_be_scored(name, prediction):
    with pytest.raises(ValueError, match=r"labels of GLUE's .* are secret: evaluate .* validation"):
        score(name, ["<unk>"], [prediction])


def test_the_mixtures_have_the_rates_of_t5():
    glue = seqio.MixtureRegistry.get("t5_glue")
    both = seqio.MixtureRegistry.get("glue_super_glue")
    rates = {task.name: glue.get_rate(task) for task in glue.tasks}
    assert sum(rates.values()) == 949_101
    largest = rates["t5_glue_mnli_v200"] + rates["t5_glue_qqp_v200"]
    assert 100 * largest / sum(rates.values()) == pytest.approx(79.7, abs=0.05)
    assert {task.name: both.get_rate(task) for task in both.tasks}.items() >= rates.items()
    assert mixtures.TASK_FEATURE_LENGTHS["t5_glue"] == {"inputs": 512, "targets": 84}
