"""Paired bootstrap: a metric's difference between two predictions, with its 95 % interval.

Examples are resampled for both predictions together, so that those which are hard for both do not
widen the interval. Metrics of groups (a question's windows) would take a group that is drawn twice
for one: of groups half are drawn, each once, which gives the same variance.
Source: Koehn 2004, "Statistical significance tests for machine translation evaluation"; McCarthy
1969, "Pseudo-replication: half samples".
"""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

MIN_RESAMPLES = 40  # The fewest of which 2.5 % are one.
Metric = Callable[[Sequence[Any], Sequence[Any]], Mapping[str, Any]]


class Difference(NamedTuple):
    """A metric of the other predictions, and its difference from that of the own ones."""

    value: float
    difference: float
    low: float  # 95 % interval of the difference, by percentiles; NaN if unknown.
    high: float


def paired_bootstrap(
    metric_fn: Metric,
    targets: Sequence[Any],
    own_predictions: Sequence[Any],
    other_predictions: Sequence[Any],
    seed: int = 0,
    num_resamples: int = 1000,
    max_secs: float = 30.0,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Difference]:
    """Compares two predictions for the same examples by every value of a metric.

    >>> def accuracy(targets, predictions):
    ...     return {"accuracy": 100 * np.mean(np.equal(targets, predictions))}
    >>> paired_bootstrap(accuracy, [1, 0, 1, 1], [1, 0, 1, 0], [0, 0, 1, 0])["accuracy"]
    Difference(value=50.0, difference=-25.0, low=-75.0, high=0.0)

    Equal predictions differ by exactly 0, without resampling. Resamples on which the metric fails
    or is NaN (a single class) are dropped; with fewer than `MIN_RESAMPLES` left, or a single
    example or group, the interval is NaN. `metric_fn` is SeqIO's, (targets, predictions) →
    {name: value}; only numbers are compared. After `max_secs` no resample begins, once there are
    `MIN_RESAMPLES`, so that results of slow metrics depend on the machine. `groups` are needed if
    the metric reads examples of a group together.
    Raises ValueError for no examples, different lengths or too few resamples; the metric's own
    error if it fails for all examples.
    Cost: two calls of the metric per resample, each with as many examples as there are.
    """
    lengths = len(targets), len(own_predictions), len(other_predictions)
    if len(set(lengths)) > 1 or not len(targets):
        raise ValueError(
            "Targets, own and other predictions must be one for each example, of one at least; got "
            "{}, {} and {}.".format(*lengths)
        )
    if num_resamples < MIN_RESAMPLES:
        raise ValueError(
            f"Resamples must be at least {MIN_RESAMPLES}; got {num_resamples}. Keep the default."
        )
    targets, own, other = list(targets), list(own_predictions), list(other_predictions)
    values = numbers(metric_fn(targets, other))
    if all(_is_equal(*pair) for pair in zip(own, other, strict=True)):
        return {name: Difference(value, 0.0, 0.0, 0.0) for name, value in values.items()}
    own_values = numbers(metric_fn(targets, own))
    differences = {name: [] for name in values if name in own_values}
    end = time.monotonic() + max_secs  # Clocks may be set back, this one is not.
    resamples = _resamples(len(targets), groups, np.random.default_rng(seed))
    for number, rows in enumerate(itertools.islice(resamples, num_resamples)):
        if number >= MIN_RESAMPLES and time.monotonic() > end:
            break
        for name, difference in _difference(metric_fn, targets, own, other, rows).items():
            if name in differences and np.isfinite(difference):
                differences[name].append(difference)
    return {
        name: Difference(values[name], values[name] - own_values[name], *_interval(found))
        for name, found in differences.items()
    }


def _resamples(
    num_examples: int, groups: Sequence[Hashable] | None, rng: np.random.Generator
) -> Iterator[Int[np.ndarray, "rows"]]:
    """Endless draws of rows; none from a single example or group."""
    if groups is None:
        while num_examples > 1:
            yield rng.integers(num_examples, size=num_examples)
        return
    # Groups by number, in order of appearance.
    index = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    of_rows = np.array([index[group] for group in groups])
    while len(index) > 1:
        # Of an odd number half of one group too many, or too few, at random: on average half.
        half = (len(index) + rng.integers(2)) // 2
        yield np.flatnonzero(np.isin(of_rows, rng.permutation(len(index))[:half]))


def _difference(metric_fn, targets, own, other, rows) -> dict[str, float]:
    """Differences on these rows; none if the metric fails."""
    targets, own, other = ([values[row] for row in rows] for values in (targets, own, other))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Shown once for all examples, not per resample.
            before, after = (numbers(metric_fn(targets, x)) for x in (own, other))
    except Exception:  # Metrics are users' code: any may fail on what was drawn.
        return {}
    return {name: after[name] - before[name] for name in after.keys() & before.keys()}


def _interval(differences: list[float]) -> tuple[float, float]:
    is_known = len(differences) >= MIN_RESAMPLES
    low, high = np.percentile(differences, [2.5, 97.5]) if is_known else (np.nan, np.nan)
    return float(low), float(high)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metric's numbers; SeqIO wraps some of them, texts are skipped."""
    found = {}
    for name, value in metrics.items():
        with contextlib.suppress(TypeError, ValueError):
            found[name] = float(getattr(value, "value", value))
    return found


def _is_equal(own: Any, other: Any) -> bool:
    if isinstance(own, np.ndarray):
        return np.array_equal(own, other)
    try:
        return bool(own == other)
    except ValueError:  # Nested arrays. Taking them for unequal only costs a resampling.
        return False
