"""One interval for the difference of two methods, over random seeds and over examples.

Each seed trains both methods anew, and all of them are evaluated on the same examples, which are a
sample, too. The difference of seed s on example i is a sum of random effects (crossed, two ways):

    d[s, i] = difference + seed[s] + example[i] + rest[s, i]

so that the mean over S seeds and n examples has the variance (seed² + rest²/n)/S + example²/n. Both
parts are estimated from mean squares. An interval over seeds alone takes the examples for all there
are (with 10 seeds it covers 15 to 95 % instead of 95), one over examples alone the seeds.

Of two textbook widths, Satterthwaite's is a little short with few seeds (92 to 95 % covered with
3), and that which adds the squared widths of both parts a little long (95 to 98 %): the mean of the
two covers 93 to 97 % with 3 to 10 seeds, whichever part dominates (`benchmarks.coverage`).
Source: Satterthwaite 1946, "An approximate distribution of estimates of variance components";
Graybill & Wang 1980, "Confidence intervals on nonnegative linear combinations of variances".

Simultaneous intervals are Bonferroni's: each of m has the level 1 − 0.05/m, so that in 95 of 100
tables all of them hold the truth. Holm's procedure shows a little more, but has no two-sided
intervals that agree with what it shows.
Source: Dunn 1961, "Multiple comparisons among means".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean difference and its interval; with one seed, or one example, its ends are NaN."""

    difference: float
    low: float
    high: float
    p_value: float  # Two-sided, of no difference, corrected as the ends are; NaN where they are.

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return bool(self.low > 0 or self.high < 0)


class Components(NamedTuple):
    """A mean over seeds and examples, and the two parts of its variance."""

    mean: Float[np.ndarray, "*sets"]
    of_seeds: Float[np.ndarray, "*sets"]
    of_examples: Float[np.ndarray, "*sets"]
    num_seeds: int
    num_examples: int


def components(values: Float[np.ndarray, "*sets seeds examples"]) -> Components:
    """Mean and variance components; leading axes are data sets of their own.

    >>> values = np.array([[1.0, 2.0, 6.0], [3.0, 4.0, 8.0]])  # The examples differ alike.
    >>> found = components(values)
    >>> float(found.mean), float(found.of_seeds), round(float(found.of_examples), 3)
    (4.0, 1.0, 2.333)
    """
    *_, seeds, examples = values.shape
    mean = values.mean((-2, -1))
    by_seed, by_example = values.mean(-1), values.mean(-2)
    of_seeds = _variance(by_seed) / seeds
    rest = values - by_seed[..., None] - by_example[..., None, :] + mean[..., None, None]
    degrees = (seeds - 1) * (examples - 1)
    rest = (rest**2).sum((-2, -1)) / degrees if degrees else np.zeros_like(mean)
    # What examples' means vary by the rest alone is no effect of examples.
    of_examples = np.maximum(_variance(by_example) - rest / seeds, 0.0) / examples
    return Components(mean, of_seeds, of_examples, seeds, examples)


def _variance(values: Float[np.ndarray, "*sets n"]) -> Float[np.ndarray, "*sets"]:
    return values.var(-1, ddof=1) if values.shape[-1] > 1 else np.zeros(values.shape[:-1])


def half_width(found: Components, level: float | np.ndarray = LEVEL) -> Float[np.ndarray, "*sets"]:
    """Half the width of the interval around the mean."""
    upper = (1 + np.asarray(level)) / 2
    degrees = found.num_seeds - 1, max(found.num_examples - 1, 1)
    of_seeds, of_examples = found.of_seeds, found.of_examples
    both = of_seeds + of_examples
    spread = of_seeds**2 / degrees[0] + of_examples**2 / degrees[1]
    # Degrees of freedom of the sum; any where nothing varies at all.
    of_sum = np.divide(both**2, spread, out=np.ones_like(both), where=spread > 0)
    short = _t(of_sum, upper) * np.sqrt(both)
    long = np.sqrt(_t(degrees[0], upper) ** 2 * of_seeds + _t(degrees[1], upper) ** 2 * of_examples)
    return (short + long) / 2


def _t(degrees, upper):
    return scipy.special.stdtrit(degrees, upper)


def paired(
    differences: Sequence[Float[np.ndarray, "seeds examples"]], num_intervals: int = 1
) -> Interval:
    """The mean difference over tasks, from each task's differences of scores, with its interval.

    >>> rng = np.random.default_rng(0)
    >>> print(*(f"{x:.2f}" for x in paired([rng.normal(1.0, 0.5, (5, 40))])[:3]))
    1.01 0.90 1.12

    It is one of `num_intervals` that hold their truths all together in 95 of 100 cases.
    Seeds are the same in all tasks, since a run is trained on all of them; examples are not.
    """
    parts = [components(np.asarray(values, float)) for values in differences]
    count, seeds = len(parts), parts[0].num_seeds
    mean = np.asarray(sum(part.mean for part in parts) / count)
    if seeds < 2 or min(part.num_examples for part in parts) < 2:
        return Interval(float(mean), np.nan, np.nan, np.nan)
    by_seed = sum(np.asarray(values, float).mean(-1) for values in differences) / count
    found = Components(
        mean,
        np.asarray(_variance(by_seed) / seeds),
        np.asarray(sum(part.of_examples for part in parts) / count**2),
        seeds,
        min(part.num_examples for part in parts),
    )
    half = half_width(found, 1 - (1 - LEVEL) / num_intervals)
    p_value = min(1.0, num_intervals * _p_value(found))
    return Interval(float(mean), float(mean - half), float(mean + half), p_value)


def _p_value(found: Components) -> float:
    """One minus the level at which the interval would end at 0."""
    low, high = 0.0, 1.0
    for _ in range(60):  # The width grows with the level.
        middle = (low + high) / 2
        is_inside = abs(found.mean) <= half_width(found, middle)
        low, high = (low, middle) if is_inside else (middle, high)
    return 1.0 - (low + high) / 2
