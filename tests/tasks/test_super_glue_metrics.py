"""SuperGLUE's metrics against values worked out by hand and counted in another way."""

import random

import pytest

from hyperdecoders_jax.tasks import super_glue_metrics
from hyperdecoders_jax.tasks.postprocessors import Grouped


def f1_of(label, pairs):
    """F1 of one label from counts of pairs (target, prediction)."""
    true = pairs.count((label, label))
    found = sum(prediction == label for _, prediction in pairs)
    wanted = sum(target == label for target, _ in pairs)
    return 200 * true / (found + wanted) if true else 0.0


def test_the_f1_of_three_classes_counts_each_class_alike():
    # Label 0: 2*2/(3+2), 1: 0, 2: 2*1/(1+2).
    scores = super_glue_metrics.mean_3class_f1([0, 0, 1, 2, 2], [0, 0, 0, 2, -1])
    assert scores == {"mean_3class_f1": pytest.approx(100 * (4 / 5 + 0 + 2 / 3) / 3)}


def test_a_class_that_is_nowhere_has_no_f1():
    assert super_glue_metrics.mean_3class_f1([0, 1], [0, 1])["mean_3class_f1"] == pytest.approx(
        200 / 3
    )


def test_the_f1_of_three_classes_equals_counting():
    draw = random.Random(0)
    for _ in range(20):
        pairs = [(draw.randrange(3), draw.randrange(-1, 3)) for _ in range(draw.randrange(1, 9))]
        scores = super_glue_metrics.mean_3class_f1(*map(list, zip(*pairs, strict=True)))
        mean = sum(f1_of(label, pairs) for label in (0, 1, 2)) / 3
        assert scores == {"mean_3class_f1": pytest.approx(mean)}


def test_multirc_counts_answers_and_whole_questions():
    # The answers of three questions, mixed; one prediction is invalid, one wrong.
    targets = [
        Grouped((0, 0), 1),
        Grouped((0, 1), 0),
        Grouped((0, 0), 0),
        Grouped((1, 0), 1),
        Grouped((0, 1), 1),
    ]
    scores = super_glue_metrics.multirc(targets, [1, -1, 0, 0, 1])
    # True positives 2, one false positive (the invalid one) and one false negative.
    assert scores == {"f1": pytest.approx(100 * 4 / 6), "exact_match": pytest.approx(100 / 3)}


def test_multirc_tells_questions_of_different_texts_apart():
    targets = [Grouped((0, 0), 1), Grouped((1, 0), 1)]
    assert super_glue_metrics.multirc(targets, [1, 0])["exact_match"] == 50.0


def test_multirc_equals_counting():
    draw = random.Random(0)
    for _ in range(20):
        groups = [(0, draw.randrange(3)) for _ in range(draw.randrange(1, 9))]
        pairs = [(draw.randrange(2), draw.randrange(-1, 2)) for _ in groups]
        targets = [Grouped(group, pair[0]) for group, pair in zip(groups, pairs, strict=True)]
        scores = super_glue_metrics.multirc(targets, [prediction for _, prediction in pairs])
        wrong = {
            group
            for group, (target, prediction) in zip(groups, pairs, strict=True)
            if target != prediction
        }
        valid = [(t, 1 - t if prediction == -1 else prediction) for t, prediction in pairs]
        assert scores["f1"] == pytest.approx(f1_of(1, valid))
        assert scores["exact_match"] == pytest.approx(100 - 100 * len(wrong) / len(set(groups)))


def test_record_takes_the_best_answer():
    targets = [Grouped((0, 0), ["The U.S.", "New York City"]), Grouped((0, 1), ["Zoë"])]
    # Shared with the second answer: 2 of 2 and of 3 words, F1 0.8.
    assert super_glue_metrics.record(targets, ["new york", "zoë!"]) == pytest.approx(
        {"em": 50.0, "f1": 90.0}
    )


def test_record_counts_a_query_once_by_its_first_prediction():
    ann = Grouped((0, 0), ["Ann", "Ann Lee"])
    targets = [ann, Grouped((0, 1), ["Bob"]), ann, ann]
    scores = super_glue_metrics.record(targets, ["Ann", "", "Bob", "Bob"])
    assert scores == {"em": 50.0, "f1": 50.0}


@pytest.mark.parametrize(
    ("metric_fn", "target"),
    [
        (super_glue_metrics.mean_3class_f1, 1),
        (super_glue_metrics.multirc, Grouped((0, 0), 1)),
        (super_glue_metrics.record, Grouped((0, 0), ["Ann"])),
    ],
)
def test_targets_and_predictions_must_pair_up(metric_fn, target):
    for targets, predictions in [([target, target], [1]), ([], [])]:
        with pytest.raises(ValueError, match=r"got \d targets and \d predictions\. Check the"):
            metric_fn(targets, predictions)
