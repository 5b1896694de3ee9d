"""Probes: how well vectors predict labels, tasks and output types of their examples.

Three methods, each compared with shuffled groups:
- "linear probe": ridge regression of standardised vectors on the groups, with the penalty that has
  the least leave-one-out error on training examples.
- "nearest neighbours": vote of the `NUM_NEIGHBOURS` nearest by cosine.
- "silhouette": how much nearer, by cosine, examples are to their own group than to the next one.

All groups have the same weight in the regression, in votes, and in scores, which are means over
groups. Chance is 100 / groups, and about 0 for silhouettes. Examples are held out by folds, those
that reveal each other together; of equal input texts only one, drawn at random, is used.

A vector that predicts the task also predicts its output type. So types are also predicted with
whole tasks held out, which measures what tasks of a type have in common. Chance is below
100 / groups there, because fewer tasks of the held-out task's type are left to learn from: the
score with the types of whole tasks shuffled shows by how much.
Source: Alain & Bengio 2016 (arXiv:1610.01644), linear probes; Rousseeuw 1987, "Silhouettes".
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import sklearn.linear_model
import sklearn.metrics
import sklearn.model_selection
import sklearn.neighbors
import sklearn.pipeline
import sklearn.preprocessing
import threadpoolctl
from jaxtyping import Float, Int

from hyperdecoders_jax.analysis import results
from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk

MIN_GROUP_SIZE = 10
MAX_EXAMPLES = 5_000
MAX_SILHOUETTES = 2_000
MAX_OF_NEW_TASKS = 1_500  # Fewer, because there are as many folds as tasks.
NUM_FOLDS = 5
NUM_NEIGHBOURS = 10
OF_NEW_TASKS = "output type of a new task"

_NUM_RESAMPLES = 1000
_NUM_SHUFFLED = 2_500  # Total of examples over the shuffles of their groups.
_MAX_SHUFFLES = 5
_PENALTIES = 10.0 ** np.arange(-3, 2)  # Per training example, for standardised vectors.
_ROUNDING = 1e-5  # Smaller variation, relative to the vectors' size, is float32 rounding.

_Vectors = Float[np.ndarray, "examples dim"]
_Groups = Int[np.ndarray, "examples"]
_Folds = Sequence[tuple[_Groups, _Groups]]  # Rows to learn from, and rows to predict.
_Score = tuple[float, float, float, float]  # Score, its interval, score of shuffled groups.


def measure(examples: results.Examples, seed: int = 0) -> list[results.Probe]:
    """Probes every vector for labels within each task, for tasks and for output types.

    Labels are the targets of tasks whose output type is "class label". Groups of fewer than
    `MIN_GROUP_SIZE` different inputs are skipped, and groups that are absent from the training part
    of some folds: those of fewer than `NUM_FOLDS` questions, or types of one task where whole tasks
    are held out. Fewer than two groups, or constant vectors, give no row.

    Intervals are bootstrapped over held-out examples within groups, not over training examples.
    Hits are drawn anew with half a hit and half a miss added, so that ten hits of ten are not
    certain, and questions or tasks that were held out together count once; for silhouettes, the
    examples' values are drawn. Vectors may have any scale.
    Raises ValueError if vectors are not one for each example, or not finite.
    Cost: at most `MAX_EXAMPLES` per grouping, `MAX_OF_NEW_TASKS` if tasks are held out one by one,
    and for silhouettes `MAX_SILHOUETTES`, or `MIN_GROUP_SIZE` per group if that is more, drawn at
    random. A fold takes examples x dim^2 operations; memory is a few copies of the used vectors.
    """
    for name, vectors in examples.features.items():
        _check(name, vectors, examples.ids)
    tasks, is_label = np.array(examples.tasks), np.array(examples.output_types) == "class label"
    rows = np.arange(len(examples))
    # Name, task, rows, group of each example, and what is held out together.
    groupings = [
        ("label", task, rows[(tasks == task) & is_label], examples.targets, examples.groups)
        for task in sorted(set(examples.tasks))
    ]
    groupings += [
        ("task", None, rows, examples.tasks, examples.groups),
        ("output type", None, rows, examples.output_types, examples.groups),
        (OF_NEW_TASKS, None, rows, examples.output_types, examples.tasks),
    ]
    # More threads make factorisations of this size slower on a busy machine: 15 s instead of 0.1.
    with threadpoolctl.threadpool_limits(1):
        return [probe for grouping in groupings for probe in _measure(examples, *grouping, seed)]


def _check(name: str, vectors: _Vectors | RowsOnDisk, ids: Sequence[str]) -> None:
    if len(vectors.shape) != 2 or len(vectors) != len(ids):
        raise ValueError(
            f"A feature must be one vector for each of the {len(ids)} examples; {name!r} has the "
            f"shape {vectors.shape}. Pass [examples, dim]."
        )
    is_finite = np.isfinite(np.asarray(vectors)).all(axis=1)
    if not is_finite.all():
        raise ValueError(
            f"Features must be finite; {np.sum(~is_finite)} of {len(ids)} vectors of {name!r} are "
            f"not, first {ids[is_finite.argmin()]!r}. Look for NaN, or compute in float32."
        )


def _measure(
    examples: results.Examples,
    grouping: str,
    task: str | None,
    rows: Int[np.ndarray, "rows"],
    group_of: Sequence[str],
    held_out: Sequence[str],
    seed: int,
) -> Iterator[results.Probe]:
    rng = np.random.default_rng(seed)
    most = MAX_OF_NEW_TASKS if grouping == OF_NEW_TASKS else MAX_EXAMPLES
    rows = _draw_different(rows, examples.inputs, rng)[:most]
    sizes = collections.Counter(group_of[row] for row in rows)
    parts = {(group_of[row], held_out[row]) for row in rows}
    num_parts = collections.Counter(group for group, _ in parts)
    least = 2 if grouping == OF_NEW_TASKS else NUM_FOLDS
    names = sorted(x for x in sizes if sizes[x] >= MIN_GROUP_SIZE and num_parts[x] >= least)
    if len(names) < 2:
        return
    numbers = {name: number for number, name in enumerate(names)}
    rows = np.array([row for row in rows if group_of[row] in numbers])
    groups = np.array([numbers[group_of[row]] for row in rows])
    parts = _Parts([held_out[row] for row in rows], are_of_one_group=grouping == OF_NEW_TASKS)
    few = _draw_of_each(groups, rng)
    for name, vectors in examples.features.items():
        x = _scaled(vectors[rows])
        size = np.linalg.norm(x) / np.sqrt(max(x.size, 1))
        varying = x[:, x.std(axis=0, dtype=np.float64) > _ROUNDING * size]
        if not varying.size:
            continue
        told = functools.partial(results.Probe, name, grouping, task)
        linear = _accuracy(_tell_linearly, varying, groups, parts, seed)
        yield told("linear probe", *linear, num_examples=len(rows))
        votes = _accuracy(_tell_by_votes, x, groups, parts, seed)
        yield told("nearest neighbours", *votes, num_examples=len(rows))
        if grouping != OF_NEW_TASKS:  # Silhouettes hold nothing out.
            silhouette = _silhouette(x[few], groups[few], seed)
            yield told("silhouette", *silhouette, num_examples=len(few))


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Parts of the examples that are held out together: windows of a question, or whole tasks."""

    names: Sequence[str]  # Part of each example.
    # Whether all examples of a part have one group, as those of a task have one output type. Then
    # each part is held out alone, and parts are shuffled, not examples.
    are_of_one_group: bool

    def split(self, groups: _Groups, seed: int) -> _Folds:
        """For each fold, the rows to learn from and those to predict."""
        options = {"n_splits": NUM_FOLDS, "shuffle": True, "random_state": seed}
        if self.are_of_one_group:
            folds = sklearn.model_selection.LeaveOneGroupOut()
        elif len(set(self.names)) == len(self.names):
            return list(sklearn.model_selection.StratifiedKFold(**options).split(groups, groups))
        else:
            folds = sklearn.model_selection.StratifiedGroupKFold(**options)
        # With few and large parts some folds may be empty.
        return [fold for fold in folds.split(groups, groups, self.names) if len(fold[1])]

    def count(self, groups: _Groups) -> Int[np.ndarray, "groups"]:
        """Number of parts of each group."""
        return np.bincount([group for group, _ in set(zip(groups, self.names, strict=True))])

    def shuffled(self, groups: _Groups, rng: np.random.Generator) -> list[_Groups]:
        """Groups shuffled at random, several times."""
        if not self.are_of_one_group:
            return _shuffled(groups, rng)
        _, first, numbers = np.unique(self.names, return_index=True, return_inverse=True)
        return [rng.permutation(groups[first])[numbers] for _ in range(_MAX_SHUFFLES)]


def _draw_different(rows: _Groups, inputs: Sequence[str], rng: np.random.Generator) -> list[int]:
    """One row for each different text, in random order."""
    by_text: dict[str, int] = {}
    for row in rng.permutation(rows):
        by_text.setdefault(inputs[row], int(row))
    return list(by_text.values())


def _draw_of_each(groups: _Groups, rng: np.random.Generator) -> Int[np.ndarray, "few"]:
    """Equally many rows of each group, or all that it has."""
    sizes = np.bincount(groups)
    count = max(MAX_SILHOUETTES // len(sizes), MIN_GROUP_SIZE)
    order = rng.permutation(len(groups))  # The first of each group are random ones.
    return np.concatenate([order[groups[order] == group][:count] for group in range(len(sizes))])


def _scaled(vectors: _Vectors) -> _Vectors:
    """float32 vectors of values up to 1: neither squares nor distances can overflow."""
    vectors = vectors.astype(np.float64)
    return (vectors / (np.abs(vectors).max(initial=0) or 1)).astype(np.float32)


def _accuracy(
    tell: Callable[[_Vectors, _Groups, _Folds], _Groups],
    x: _Vectors,
    groups: _Groups,
    parts: _Parts,
    seed: int,
) -> _Score:
    """Mean over groups of the rate of right predictions, in [0, 100]."""
    rng = np.random.default_rng(seed)
    rates, *shuffled_rates = (
        _means((tell(x, labels, parts.split(labels, seed)) == labels).astype(float), labels)
        for labels in (groups, *parts.shuffled(groups, rng))
    )
    # Smoothing by half a hit and half a miss moves the mean of the draws, which is moved back to
    # the score. A part counts once, as if it were one example.
    sizes = parts.count(groups)
    smoothed = (rates * sizes + 0.5) / (sizes + 1)
    drawn = rng.binomial(sizes, smoothed, (_NUM_RESAMPLES, len(sizes))) / sizes
    moved = drawn.mean(axis=1) + rates.mean() - smoothed.mean()
    low, high = np.clip(np.percentile(moved, [2.5, 97.5]), 0, 1)
    values = (rates.mean(), low, high, np.mean(shuffled_rates))
    return tuple(100 * float(value) for value in values)


def _shuffled(groups: _Groups, rng: np.random.Generator) -> list[_Groups]:
    """Shuffled groups; several times for few examples, whose scores vary more."""
    num_draws = np.clip(_NUM_SHUFFLED // len(groups), 1, _MAX_SHUFFLES)
    return [rng.permutation(groups) for _ in range(num_draws)]


def _tell_linearly(x: _Vectors, groups: _Groups, folds: _Folds) -> _Groups:
    # The loss is a sum over examples, so that the penalty must grow with their number.
    penalties = len(groups) * _PENALTIES
    ridge = sklearn.linear_model.RidgeClassifierCV(penalties, class_weight="balanced")
    probe = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), ridge)
    return sklearn.model_selection.cross_val_predict(probe, x, groups, cv=folds)


def _tell_by_votes(x: _Vectors, groups: _Groups, folds: _Folds) -> _Groups:
    # If a question has many windows, other folds may be smaller than the number of neighbours.
    num_neighbours = min(NUM_NEIGHBOURS, *(len(learned) for learned, _ in folds))
    # On unit vectors Euclidean order is the order by cosine, and searched faster.
    search = sklearn.neighbors.KNeighborsClassifier(num_neighbours, algorithm="brute")
    probe = sklearn.pipeline.make_pipeline(sklearn.preprocessing.Normalizer(), search)
    predict = functools.partial(sklearn.model_selection.cross_val_predict, method="predict_proba")
    votes = predict(probe, x, groups, cv=folds)  # [examples, groups]
    return (votes / np.bincount(groups)).argmax(axis=1)  # Large groups get no more votes.


def _silhouette(x: _Vectors, groups: _Groups, seed: int) -> _Score:
    """Mean over groups of their examples' mean silhouette, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    distances = sklearn.metrics.pairwise.cosine_distances(x)
    silhouette_samples = sklearn.metrics.silhouette_samples
    silhouettes = functools.partial(silhouette_samples, distances, metric="precomputed")
    values = silhouettes(groups)
    shuffled = [_means(silhouettes(labels), labels) for labels in _shuffled(groups, rng)]
    drawn = [
        rng.choice(of_group, (_NUM_RESAMPLES, len(of_group))).mean(axis=1)
        for of_group in (values[groups == group] for group in range(groups.max() + 1))
    ]
    low, high = np.percentile(np.mean(drawn, axis=0), [2.5, 97.5])
    scores = (_means(values, groups).mean(), low, high, np.mean(shuffled))
    return tuple(float(score) for score in scores)


def _means(values: Float[np.ndarray, "examples"], groups: _Groups) -> Float[np.ndarray, "groups"]:
    return np.bincount(groups, weights=values) / np.bincount(groups)
