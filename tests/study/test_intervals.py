"""The interval of a difference: it covers as often as it says, and finds what is there."""

import numpy as np
import pytest

from hyperdecoders_jax.study import intervals


def coverage(num_seeds, seed_sd, example_sd, rest_sd, is_rounded=False, num_examples=24, sets=3000):
    """How often, in %, the interval of equal methods holds 0."""
    rng = np.random.default_rng(num_seeds)
    values = seed_sd * rng.normal(size=(sets, num_seeds, 1))
    values = values + example_sd * rng.normal(size=(sets, 1, num_examples))
    values = values + rest_sd * rng.normal(size=(sets, num_seeds, num_examples))
    found = intervals.components(np.clip(np.round(values), -1, 1) if is_rounded else values)
    return 100 * np.mean(np.abs(found.mean) <= intervals.half_width(found))


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize(
    ("seed_sd", "example_sd", "rest_sd"),
    [(0, 0, 1), (0, 1, 0.3), (0.15, 1, 1), (0.3, 1, 0.5), (1, 1, 1)],
)
def test_the_interval_of_equal_methods_holds_0_in_95_of_100(
    num_seeds, seed_sd, example_sd, rest_sd
):
    # 3,000 sets: the standard error is 0.4.
    assert 93 <= coverage(num_seeds, seed_sd, example_sd, rest_sd) <= 97.5


def test_differences_of_right_and_wrong_answers_are_covered_as_well():
    assert 93 <= coverage(5, 0.1, 0.7, 0.5, is_rounded=True) <= 97.5


def test_an_interval_over_seeds_alone_would_not_cover():
    # What the module's docstring warns of, with examples that differ and seeds that do not.
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2000, 5, 40)) * 0.3 + rng.normal(size=(2000, 1, 40))
    found = intervals.components(values)
    alone = found._replace(of_examples=np.zeros_like(found.mean))
    assert np.mean(np.abs(found.mean) <= intervals.half_width(alone)) < 0.5


def test_a_difference_is_found_and_equal_methods_are_not_told_apart():
    rng = np.random.default_rng(1)
    tasks = [rng.normal(0, 2, (5, 60)) + rng.normal(0, 1, (1, 60)) for _ in range(3)]
    assert not intervals.paired([x - x.mean() for x in tasks]).is_shown
    better = intervals.paired([x - x.mean() + 3 for x in tasks])
    assert better.is_shown
    assert better.difference == pytest.approx(3)
    assert better.p_value < 1e-3


def test_a_p_value_of_5_percent_ends_the_interval_at_0():
    values = np.random.default_rng(2).normal(size=(4, 30))
    found = intervals.paired([values])
    shifted = intervals.paired([values - found.low])
    assert shifted.low == pytest.approx(0, abs=1e-9)
    assert shifted.p_value == pytest.approx(0.05, abs=1e-6)


def test_one_seed_has_no_interval():
    found = intervals.paired([np.ones((1, 9))])
    assert found.difference == 1
    assert np.isnan([found.low, found.high, found.p_value]).all()
    assert not found.is_shown


def test_examples_of_several_tasks_are_independent():
    rng = np.random.default_rng(3)
    examples = rng.normal(size=(1, 400))
    one = intervals.paired([np.repeat(examples, 5, axis=0)])
    four = intervals.paired([np.repeat(x, 5, axis=0) for x in np.split(examples, 4, axis=1)])
    assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.05)


def test_simultaneous_intervals_are_bonferronis():
    # Without effects of examples the interval is the t interval over seeds, by hand: the mean of
    # 5 seeds is 2, its standard error 0.5, and t of 4 degrees is 2.776 at 5 % and 4.604 at 1 %.
    seeds = 2 + 0.5 * np.sqrt(5) * np.array([-1.0, -1.0, 0.0, 1.0, 1.0])
    values = np.repeat(seeds[:, None], 7, axis=1)
    one, of_five = intervals.paired([values]), intervals.paired([values], num_intervals=5)
    assert one[:3] == pytest.approx((2, 2 - 1.388, 2 + 1.388), abs=1e-3)
    assert of_five[:3] == pytest.approx((2, 2 - 2.302, 2 + 2.302), abs=1e-3)
    assert of_five.p_value == pytest.approx(5 * one.p_value)
    assert one.is_shown
    assert not of_five.is_shown
    assert intervals.paired([values], num_intervals=10**6).p_value == 1


@pytest.mark.parametrize("shift", [-0.01, 0.01])
def test_a_corrected_p_value_agrees_with_the_ends(shift):
    values = np.random.default_rng(4).normal(size=(4, 30))
    low = intervals.paired([values], num_intervals=6).low
    found = intervals.paired([values - low + shift], num_intervals=6)
    assert found.is_shown == (found.p_value < 0.05) == (shift > 0)


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_all_simultaneous_intervals_of_a_table_hold_0_in_95_of_100(num_seeds):
    rng, num_intervals = np.random.default_rng(num_seeds), 8
    values = rng.normal(size=(2000, num_intervals, num_seeds, 24))
    values = values + rng.normal(size=(2000, num_intervals, 1, 24))
    found = intervals.components(values)
    level = 1 - (1 - intervals.LEVEL) / num_intervals
    holds = np.abs(found.mean) <= intervals.half_width(found, level)
    # 2,000 tables: the standard error is 0.5.
    assert 94 <= 100 * np.mean(holds.all(axis=1)) <= 100
    single = np.abs(found.mean) <= intervals.half_width(found)
    assert 100 * np.mean(single.all(axis=1)) < 85


def test_one_example_shows_nothing():
    one, many = np.full((3, 1), 100.0), np.random.default_rng(0).normal(size=(3, 20))
    for values in ([one], [many, one]):
        found = intervals.paired(values)
        assert np.isnan(found[1:]).all()
        assert not found.is_shown
