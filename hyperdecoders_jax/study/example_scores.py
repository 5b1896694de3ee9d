"""Scores of single examples whose mean is the metric, so that one interval serves all metrics.

Accuracy is the mean of its values on single examples, and these are its scores. Of others, such as
Matthews, F1 or Spearman, a score is a pseudo-value of the jackknife: what the metric of all n
examples owes to one group of them, n·metric(all) − (n − g)·metric(all but the g), over g.
Source: Tukey 1958; Shao & Tu 1995, "The jackknife and bootstrap" (groups, smooth statistics).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from hyperdecoders_jax.analysis import ablation_intervals

NUM_GROUPS = 50  # Of the jackknife: t intervals of 49 degrees are 2.5 % wider than of all.
# A metric is a mean if it differs from that of its scores by less than this.
_ROUNDING = 1e-6
_NUM_TRIED = 32  # Examples that tell whether a metric is a mean.

Metric = Callable[[Sequence[Any], Sequence[Any]], Mapping[str, Any]]


def of_metric(
    metric_fn: Metric,
    targets: Sequence[Any],
    predictions: Sequence[Any],
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Float[np.ndarray, "examples"]]:
    """The scores of each value of a metric; one of each group where examples belong together.

    >>> def accuracy(targets, predictions):
    ...     return {"accuracy": 100 * np.mean(np.equal(targets, predictions))}
    >>> of_metric(accuracy, ["a", "b", "a"], ["a", "a", "a"])["accuracy"]
    array([100.,   0., 100.])

    `groups` are those of examples that a metric reads together. A value that the metric does not
    give for some of the examples has no scores.
    """
    targets, predictions = list(targets), list(predictions)
    values = ablation_intervals.numbers(metric_fn(targets, predictions))
    found = {}
    if groups is None:
        # A ROUGE of one example takes 0.3 s, but the whole is no mean of them: a few tell.
        few = targets[:_NUM_TRIED], predictions[:_NUM_TRIED]
        of_few = _evaluated(metric_fn, *few, [range(len(few[0]))])
        if _of_singles(metric_fn, *few, {name: x.item() for name, x in of_few.items()}):
            found = _of_singles(metric_fn, targets, predictions, values)
    missing = values.keys() - found.keys()
    if missing:
        found |= _jackknife(
            metric_fn, targets, predictions, groups, {x: values[x] for x in missing}
        )
    return found


def _of_singles(metric_fn, targets, predictions, values: Mapping[str, float]):
    """The scores of single examples, for each of the metric's values that is their mean."""
    singles = _evaluated(metric_fn, targets, predictions, [[i] for i in range(len(targets))])
    return {
        name: singles[name]
        for name, value in values.items()
        if name in singles and abs(singles[name].mean() - value) <= _ROUNDING * max(1, abs(value))
    }


def _jackknife(metric_fn, targets, predictions, groups, values: Mapping[str, float]):
    """Pseudo-values of groups of examples that are drawn alike for every method and seed."""
    count = len(targets)
    keys = list(range(count)) if groups is None else list(groups)
    index = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    drawn = _draw(len(index))
    of_rows = np.array([drawn[index[key]] for key in keys])
    left_out = range(of_rows.max() + 1)
    rows = [np.flatnonzero(of_rows != group) for group in left_out]
    without = _evaluated(metric_fn, targets, predictions, rows) if len(left_out) > 1 else {}
    found = {}
    for name in values.keys() & without.keys():
        sizes = np.bincount(of_rows)
        pseudo = (count * values[name] - (count - sizes) * without[name]) / sizes
        # Their mean is the jackknife's estimate: as a table has it, the metric itself.
        found[name] = pseudo - pseudo.mean() + values[name]
    return found


def _draw(count: int) -> Int[np.ndarray, "examples"]:
    """The group of the jackknife that each example belongs to; few examples keep their order."""
    if count <= NUM_GROUPS:
        return np.arange(count)
    return np.random.default_rng(0).permutation(count) % NUM_GROUPS


def alike(scores: Sequence[Float[np.ndarray, "_"]]) -> Float[np.ndarray, "runs scores"]:
    """The scores of several runs as one array.

    A metric that is no mean may be one by chance, as Matthews' 0 of a run that always answers the
    same: such a run's scores become means of the other runs' groups.
    """
    fewest = min(map(len, scores))
    return np.stack([x if len(x) == fewest else _group_means(x) for x in scores])


def _group_means(scores: Float[np.ndarray, "examples"]) -> Float[np.ndarray, "groups"]:
    drawn = _draw(len(scores))
    means = np.bincount(drawn, weights=scores) / np.bincount(drawn)
    # Groups may be of unequal sizes; as in `_jackknife`, the mean is the metric.
    return means - means.mean() + scores.mean()


def _evaluated(metric_fn, targets, predictions, parts) -> dict[str, Float[np.ndarray, "parts"]]:
    """The metric on parts of the examples; without values that some part does not have."""
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Told once, of all examples.
        for rows in parts:
            try:
                result = metric_fn([targets[i] for i in rows], [predictions[i] for i in rows])
            except Exception:  # Metrics are users' code: any may fail on few examples.
                return {}
            results.append(ablation_intervals.numbers(result))
    names = set.intersection(*(set(result) for result in results))
    arrays = {name: np.array([result[name] for result in results]) for name in names}
    return {name: values for name, values in arrays.items() if np.isfinite(values).all()}
