"""Scores of examples: their mean is the metric, and their spread that of the metric."""

import numpy as np
import pytest

from hyperdecoders_jax.study import example_scores
from hyperdecoders_jax.tasks import metrics


def answers(count=400, rate=0.8, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, count)
    return targets.tolist(), np.where(rng.random(count) < rate, targets, 1 - targets).tolist()


def test_an_accuracy_has_a_score_for_each_example():
    targets, predictions = answers()
    scores = example_scores.of_metric(metrics.accuracy, targets, predictions)["accuracy"]
    np.testing.assert_array_equal(scores, 100.0 * np.equal(targets, predictions))


def test_few_single_examples_tell_that_a_metric_is_no_mean():
    sizes = []

    def largest(targets, predictions):
        sizes.append(len(targets))
        return {"largest": max(predictions), "first": predictions[0] - targets[0]}

    scores = example_scores.of_metric(largest, *answers())
    assert {len(x) for x in scores.values()} == {example_scores.NUM_GROUPS}
    assert sizes.count(1) == 32


@pytest.mark.parametrize("metric", [metrics.matthews_corrcoef, metrics.f1_score_with_invalid])
def test_a_metric_that_is_no_mean_varies_as_its_resamples_do(metric):
    targets, predictions = answers()
    (scores,) = example_scores.of_metric(metric, targets, predictions).values()
    assert len(scores) == example_scores.NUM_GROUPS
    (value,) = metric(targets, predictions).values()
    assert scores.mean() == pytest.approx(value)
    rng, resampled = np.random.default_rng(1), []
    for _ in range(150):
        rows = rng.integers(400, size=400)
        resampled += metric([targets[i] for i in rows], [predictions[i] for i in rows]).values()
    # Both estimate the standard error, each within about a tenth.
    error = scores.std(ddof=1) / np.sqrt(len(scores))
    assert error == pytest.approx(np.std(resampled), rel=0.35)


def test_a_metric_that_is_a_mean_by_chance_is_compared_in_the_same_groups():
    targets, predictions = answers()
    constant = example_scores.of_metric(metrics.matthews_corrcoef, targets, [0] * len(targets))
    other = example_scores.of_metric(metrics.matthews_corrcoef, targets, predictions)
    (zeros,), (scores,) = constant.values(), other.values()
    assert len(zeros) == 400
    both = example_scores.alike([zeros, scores])
    assert both.shape == (2, example_scores.NUM_GROUPS)
    assert not both[0].any()


def test_a_mean_and_another_metric_of_few_examples_are_in_one_order():
    targets, predictions = answers(count=30)
    right = example_scores.of_metric(metrics.accuracy, targets, predictions)["accuracy"]
    (scores,) = example_scores.of_metric(
        metrics.f1_score_with_invalid, targets, predictions
    ).values()
    both = example_scores.alike([right, scores])
    # What an example does to F1 depends on whether it is right.
    assert np.corrcoef(both)[0, 1] > 0.5


@pytest.mark.parametrize("count", [51, 75, 120])
def test_means_of_groups_have_the_mean_of_the_examples(count):
    scores = np.random.default_rng(3).random(count)
    [groups, _] = example_scores.alike([scores, np.zeros(example_scores.NUM_GROUPS)])
    assert groups.mean() == pytest.approx(scores.mean())


def test_examples_that_are_read_together_are_left_out_together():
    targets, predictions = answers(count=60)
    groups = [i // 3 for i in range(60)]
    scores = example_scores.of_metric(metrics.accuracy, targets, predictions, groups)["accuracy"]
    right = np.reshape(np.equal(targets, predictions), (20, 3)).mean(axis=1)
    np.testing.assert_allclose(np.sort(scores), np.sort(100 * right))


def test_a_value_that_a_single_group_lacks_has_no_scores():
    def broken(targets, predictions):
        if len(targets) < 5:
            raise ZeroDivisionError
        return {"all": 1.0}

    assert example_scores.of_metric(broken, [1] * 5, [1] * 5) == {}
