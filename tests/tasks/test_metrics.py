"""Metrics against values worked out by hand, and their edges: invalid, constant, empty."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdecoders_jax.tasks import metrics

ALL = (
    metrics.accuracy,
    metrics.f1_score_with_invalid,
    metrics.matthews_corrcoef,
    metrics.pearson_corrcoef,
    metrics.spearman_corrcoef,
    metrics.squad,
)


def test_accuracy_counts_equal_texts():
    assert metrics.accuracy(["a", "b", "c", "d"], ["a", "B", "c", ""]) == {"accuracy": 50.0}


def test_accuracy_counts_equal_numbers():
    assert metrics.accuracy([0, 1, 1], [0, -1, 1]) == {"accuracy": pytest.approx(200 / 3)}


def test_f1_is_of_label_one():
    # 2 true positives, 1 false positive, 1 false negative: 2*2 / (2*2 + 1 + 1)
    scores = metrics.f1_score_with_invalid([1, 1, 1, 0, 0], [1, 1, 0, 1, 0])
    assert scores == {"f1": pytest.approx(100 * 4 / 6)}


def test_f1_counts_invalid_predictions_as_wrong():
    # The invalid ones become 0 for target 1 and 1 for target 0.
    invalid = metrics.f1_score_with_invalid([1, 1, 0], [1, -1, 7])
    assert invalid == metrics.f1_score_with_invalid([1, 1, 0], [1, 0, 1])
    assert invalid == {"f1": pytest.approx(50.0)}


def test_f1_without_any_positive_is_zero():
    assert metrics.f1_score_with_invalid([0, 0], [0, 0]) == {"f1": 0.0}


def test_matthews_is_the_correlation_of_two_classes():
    # (tp*tn - fp*fn) / sqrt((tp+fp)(tp+fn)(tn+fp)(tn+fn)) with tp=2, tn=1, fp=1, fn=0
    scores = metrics.matthews_corrcoef([1, 1, 0, 0], [1, 1, 1, 0])
    assert scores == {"matthews_corrcoef": pytest.approx(100 * 2 / math.sqrt(3 * 2 * 2 * 1))}


def test_matthews_keeps_an_invalid_prediction_as_a_third_class():
    # Gorodkin's generalisation: c=2 right of s=4; predicted 1,1,2 times (0, 1, -1), true 2,2,0.
    # (c*s - sum p*t) / sqrt((s^2 - sum p^2)(s^2 - sum t^2)) = (8 - 4) / sqrt(10 * 8)
    scores = metrics.matthews_corrcoef([1, 1, 0, 0], [1, -1, -1, 0])
    assert scores == {"matthews_corrcoef": pytest.approx(100 * 4 / math.sqrt(80))}


@pytest.mark.filterwarnings("error")
def test_matthews_of_constant_predictions_is_zero():
    assert metrics.matthews_corrcoef([1, 0, 1], [1, 1, 1]) == {"matthews_corrcoef": 0.0}
    assert metrics.matthews_corrcoef([1, 1, 1], [1, 1, 1]) == {"matthews_corrcoef": 0.0}


def test_pearson_is_the_linear_correlation():
    # deviations (-1, 0, 1) and (-4/3, -1/3, 5/3): 3 / sqrt(2 * 42/9)
    scores = metrics.pearson_corrcoef([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    assert scores == {"pearson_corrcoef": pytest.approx(100 * 3 / math.sqrt(2 * 42 / 9))}


def test_spearman_is_the_correlation_of_ranks():
    # rank differences 0, 1, -1: 1 - 6 * 2 / (3 * 8)
    scores = metrics.spearman_corrcoef([1.0, 2.0, 9.0], [10.0, 30.0, 20.0])
    assert scores == {"spearman_corrcoef": pytest.approx(50.0)}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric_fn", [metrics.pearson_corrcoef, metrics.spearman_corrcoef])
def test_a_correlation_that_does_not_exist_is_zero(metric_fn):
    for targets, predictions in [
        ([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]),
        ([1.0, 1.0], [1.0, 2.0]),
        ([1.0], [1.0]),
    ]:
        assert list(metric_fn(targets, predictions).values()) == [0.0]


def test_squad_normalises_both_sides():
    assert metrics.squad(["The U.S. Army"], ["the us  army!"]) == {"em": 100.0, "f1": 100.0}


def test_squad_f1_counts_shared_words_with_repetition():
    # Shared: "new", "new" is once in the target; precision 1/2, recall 1/3.
    scores = metrics.squad(["new york city"], ["new new"])
    assert scores == {"em": 0.0, "f1": pytest.approx(40.0)}


def test_squad_is_a_mean_over_examples():
    scores = metrics.squad(["dog", "cat"], ["dog", "a mouse"])
    assert scores == {"em": 50.0, "f1": 50.0}


def test_squad_of_two_empty_answers_matches_but_has_no_f1():
    assert metrics.squad([""], ["the"]) == {"em": 100.0, "f1": 0.0}


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-1, 2)), min_size=1, max_size=9))
def test_label_metrics_stay_in_their_range(pairs):
    targets, predictions = map(list, zip(*pairs, strict=True))
    for metric_fn in (metrics.accuracy, metrics.f1_score_with_invalid, metrics.matthews_corrcoef):
        [score] = metric_fn(targets, predictions).values()
        assert -100 <= score <= 100


@given(st.lists(st.text("ab the.", max_size=9), min_size=1, max_size=5))
def test_a_perfect_answer_has_full_marks(texts):
    assert metrics.accuracy(texts, texts) == {"accuracy": 100.0}
    assert metrics.squad(texts, texts)["em"] == 100.0


@pytest.mark.parametrize("metric_fn", ALL)
@pytest.mark.parametrize(("targets", "predictions"), [([1, 0], [1]), ([], [])])
def test_targets_and_predictions_must_pair_up(metric_fn, targets, predictions):
    with pytest.raises(ValueError, match=r"got \d targets and \d predictions\. Check the split"):
        metric_fn(targets, predictions)
