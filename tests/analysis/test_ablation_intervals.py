import collections
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdecoders_jax.analysis import ablation_intervals
from hyperdecoders_jax.tasks import metrics


def draw(seed=0, count=200, share=0.3):
    """Targets, and predictions of which the second are right less often than the first."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, count)
    own = np.where(rng.random(count) < 0.1, 1 - targets, targets)
    other = np.where(rng.random(count) < share, 1 - own, own)
    return targets.tolist(), own.tolist(), other.tolist()


def counted(metric_fn):
    calls = []

    def call(targets, predictions):
        calls.append(len(targets))
        return metric_fn(targets, predictions)

    return call, calls


def test_the_interval_is_that_of_paired_examples():
    targets, own, other = draw()
    found = ablation_intervals.paired_bootstrap(metrics.accuracy, targets, own, other)["accuracy"]
    changes = 100.0 * (np.equal(targets, other).astype(int) - np.equal(targets, own))
    assert found.value == 100 * np.mean(np.equal(targets, other))
    assert found.difference == pytest.approx(changes.mean())
    half = 1.96 * changes.std() / np.sqrt(len(changes))
    np.testing.assert_allclose(
        (found.low, found.high), (changes.mean() - half, changes.mean() + half), atol=1.5
    )


def test_examples_that_are_hard_for_both_do_not_widen_it():
    targets = [0, 1] * 100
    own = [0] * 200
    other = [1, 0, *own[2:]]
    found = ablation_intervals.paired_bootstrap(metrics.accuracy, targets, own, other)["accuracy"]
    # Alone, each accuracy of 50 is known to 7 either way.
    assert -2 < found.low <= found.difference == -0.5 <= found.high <= 0


def test_equal_predictions_differ_by_nothing_and_cost_nothing():
    metric, calls = counted(metrics.accuracy)
    targets, own, _ = draw()
    found = ablation_intervals.paired_bootstrap(metric, targets, own, list(own))
    assert found == {"accuracy": (100 * np.mean(np.equal(targets, own)), 0.0, 0.0, 0.0)}
    assert calls == [200]


@pytest.mark.parametrize("prediction", ["text", {"id": "a"}, ["a", "b"], np.arange(3)])
def test_predictions_may_be_anything(prediction):
    metric, calls = counted(lambda targets, predictions: {"count": len(predictions)})
    twice = [prediction, prediction]
    found = ablation_intervals.paired_bootstrap(metric, [0, 1], twice, list(twice))
    assert found == {"count": (2.0, 0.0, 0.0, 0.0)}
    assert len(calls) == 1


def test_arrays_within_predictions_are_compared():
    pairs = [(np.arange(3), {"scores": number}) for number in (-1.0, -2.0)]
    found = ablation_intervals.paired_bootstrap(
        lambda targets, predictions: {"count": len(predictions)}, [0, 1], pairs, list(pairs[::-1])
    )
    assert found == {"count": (2.0, 0.0, 0.0, 0.0)}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 999), st.floats(0.02, 0.9))
def test_swapped_predictions_give_the_opposite(seed, share):
    targets, own, other = draw(seed, 30, share)
    [there] = ablation_intervals.paired_bootstrap(
        metrics.accuracy, targets, own, other, seed, 60
    ).values()
    [back] = ablation_intervals.paired_bootstrap(
        metrics.accuracy, targets, other, own, seed, 60
    ).values()
    np.testing.assert_allclose(
        (there.difference, there.low, there.high), (-back.difference, -back.high, -back.low)
    )


def test_intervals_cover_the_true_difference_as_often_as_they_say():
    # Own predictions are right in 90 %; the other ones in 66 %: 0.9 * 0.7 + 0.1 * 0.3.
    covered = 0
    for seed in range(50):
        found = ablation_intervals.paired_bootstrap(
            metrics.accuracy, *draw(seed, 100), seed, num_resamples=100
        )["accuracy"]
        covered += found.low <= -24 <= found.high
    assert 44 <= covered <= 50


def test_every_number_of_a_metric_has_its_row():
    def metric(targets, predictions):
        accuracy = metrics.accuracy(targets, predictions)["accuracy"]
        return {
            "accuracy": np.float32(accuracy),
            "wrapped": types.SimpleNamespace(value=accuracy / 2),
            "text": "no number",
        }

    found = ablation_intervals.paired_bootstrap(metric, *draw(), num_resamples=40)
    assert list(found) == ["accuracy", "wrapped"]
    np.testing.assert_allclose(np.array(found["accuracy"]) / 2, found["wrapped"], rtol=1e-6)


def test_a_metric_may_fail_where_a_resample_has_one_class():
    def needs_two_classes(targets, predictions):
        if len(set(targets)) < 2:
            raise ValueError("only one class")
        nan = float("nan") if sum(targets) < 2 else 0.0
        return metrics.accuracy(targets, predictions) | {"is_nan_at_times": nan + sum(predictions)}

    targets = [1, 1, 0, 0, 0, 0, 0]
    found = ablation_intervals.paired_bootstrap(needs_two_classes, targets, targets, [0] * 7)
    assert set(found) == {"accuracy", "is_nan_at_times"}
    for row in found.values():
        assert row.low <= row.difference <= row.high
        assert row.low < row.high


def test_a_metric_that_fails_on_all_resamples_has_no_interval():
    targets, own, other = draw(count=20)

    def needs_order(targets_, predictions):
        if targets_ != targets:
            raise RuntimeError("unordered")
        return metrics.accuracy(targets_, predictions)

    found = ablation_intervals.paired_bootstrap(needs_order, targets, own, other)["accuracy"]
    assert found.difference < 0
    assert np.isnan([found.low, found.high]).all()


def test_a_metric_that_fails_on_all_examples_says_so():
    with pytest.raises(ZeroDivisionError):
        ablation_intervals.paired_bootstrap(lambda *_: {"x": 1 / 0}, [1, 2], [1, 2], [2, 1])


def test_one_example_has_no_interval():
    found = ablation_intervals.paired_bootstrap(metrics.accuracy, [1], [1], [0])["accuracy"]
    assert found[:2] == (0.0, -100.0)
    assert np.isnan([found.low, found.high]).all()


def test_real_metrics_of_one_class_have_intervals():
    targets, own, other = draw(count=12)
    targets = [0] * 11 + [1]
    for metric in (metrics.matthews_corrcoef, metrics.f1_score_with_invalid):
        [row] = ablation_intervals.paired_bootstrap(
            metric, targets, own, other, num_resamples=40
        ).values()
        assert np.isfinite(row).all()


def best_of_questions(targets, predictions):
    """A question is answered if one of its windows is; twice the same question counts once."""
    answered = {}
    for (question, target), prediction in zip(targets, predictions, strict=True):
        answered[question] = answered.get(question, False) or target == prediction
    return {"questions": 100 * np.mean(list(answered.values()))}


def test_groups_are_drawn_whole_and_their_intervals_cover_what_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(60):
        # 100 questions of three windows; own predictions answer nine of ten, others two of three.
        groups = np.repeat(np.arange(100), 3).tolist()
        targets = [(group, 1) for group in groups]
        own, other = (
            (np.tile([0, 0, 1], 100) * np.repeat(rng.random(100) < share, 3)).tolist()
            for share in (0.9, 2 / 3)
        )
        row = ablation_intervals.paired_bootstrap(
            best_of_questions, targets, own, other, seed, num_resamples=100, groups=groups
        )["questions"]
        covered += row.low <= -100 * (0.9 - 2 / 3) <= row.high
    assert 53 <= covered <= 60


def test_windows_of_one_question_are_never_apart():
    seen = []

    def metric(targets, predictions):
        seen.append(collections.Counter(targets))
        return {"count": float(len(targets))}

    groups = ["a", "b", "b", "c", "c", "c", "a"]
    ablation_intervals.paired_bootstrap(metric, groups, [0] * 7, [1] * 7, groups=groups)
    sizes = collections.Counter(groups)
    assert all(counts.items() <= sizes.items() for counts in seen)
    assert {len(counts) for counts in seen[2:]} == {1, 2}


def test_questions_of_one_window_are_known_no_better_than_examples():
    """Drawn twice, each would count once: as if more of them were known."""
    targets, own, other = draw(count=400)
    questions = list(enumerate(targets))
    [by_example] = ablation_intervals.paired_bootstrap(
        metrics.accuracy, targets, own, other
    ).values()
    [by_group] = ablation_intervals.paired_bootstrap(
        best_of_questions, questions, own, other, groups=range(400)
    ).values()
    assert by_group.difference == pytest.approx(by_example.difference)
    np.testing.assert_allclose(by_group[2:], by_example[2:], atol=0.8)


@pytest.mark.parametrize(("max_secs", "resamples"), [(0.0, 40), (60.0, 90)])
def test_slow_metrics_are_resampled_less(max_secs, resamples):
    metric, calls = counted(metrics.accuracy)
    ablation_intervals.paired_bootstrap(metric, *draw(count=9), num_resamples=90, max_secs=max_secs)
    assert collections.Counter(calls) == {9: 2 + 2 * resamples}


@pytest.mark.parametrize("arguments", [([], [], []), ([1, 2], [1], [1, 2]), ([1], [1], [1, 2])])
def test_every_example_has_two_predictions(arguments):
    with pytest.raises(ValueError, match=r"one for each example, of one at least; got \d, \d"):
        ablation_intervals.paired_bootstrap(metrics.accuracy, *arguments)


def test_an_interval_needs_some_resamples():
    with pytest.raises(ValueError, match=r"at least 40.*got 39. Keep the default"):
        ablation_intervals.paired_bootstrap(metrics.accuracy, *draw(), num_resamples=39)
