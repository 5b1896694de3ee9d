"""Examples and their vectors in; how well a vector tells labels, tasks and output types, out.

Three methods, each beside the same with shuffled groups:

- "linear probe": ridge regression of standardised vectors on the groups, its penalty by the error
  of training examples left out one at a time.
- "nearest neighbours": the vote of the `NUM_NEIGHBOURS` nearest by cosine.
- "silhouette": how much nearer, by cosine, examples are to their own group than to the next one.

Every group counts the same, however large it is: in the regression, in votes, and in scores, which
are means over groups. Chance is 100 / groups, and about 0 for silhouettes.

Nothing is told that was trained on: examples are held out by folds, those that know too much of
each other together, and of copies of an input text only one, drawn at random, is used.

A vector that tells tasks also tells output types, as a task has one. So they are told once more
with whole tasks held out: then only what tasks of a type have in common helps. Chance is less than
100 / groups there, because of the type of the task held out fewer are left to learn from; the types
of whole tasks shuffled tell how much.

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
from jaxtyping import Bool, Float, Int

from hyperdecoders_jax.analysis import results
from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk

MIN_GROUP_SIZE = 10
MAX_EXAMPLES = 5_000
MAX_SILHOUETTES = 2_000
# There are as many folds as tasks.
MAX_OF_NEW_TASKS = 1_500
NUM_FOLDS = 5
NUM_NEIGHBOURS = 10
OF_NEW_TASKS = "output type of a new task"

_NUM_RESAMPLES = 1000
# Examples with shuffled groups, over several draws of them.
_NUM_SHUFFLED = 2_500
_MAX_SHUFFLES = 5
# For each training example; vectors are standardised.
_PENALTIES = 10.0 ** np.arange(-3, 2)
# What varies by less, in parts of the vectors' size, is float32's rounding.
_ROUNDING = 1e-5

_Vectors = Float[np.ndarray, "examples dim"]
_Groups = Int[np.ndarray, "examples"]
# The rows to learn from and those to tell.
_Folds = Sequence[tuple[_Groups, _Groups]]
# Score, low and high end of its interval, score with shuffled groups.
_Score = tuple[float, float, float, float]


def measure(examples: results.Examples, seed: int = 0) -> list[results.Probe]:
    """Probes every vector for labels within each task, for tasks and for output types.

    Labels are the targets of tasks whose output type is "class label". Groups of fewer than
    `MIN_GROUP_SIZE` different inputs are left out, and those that some folds would have nothing of
    to learn from: of fewer than `NUM_FOLDS` questions, or types of one task where whole tasks are
    held out. Fewer than two groups, or vectors that do not vary, give no row.

    Intervals are bootstrapped over the examples held out, within groups: hits are drawn anew, with
    half a hit and half a miss more in each group, so that ten hits of ten are not taken for
    certain, and as many as there are questions, or tasks, that were held out as one; of
    silhouettes, the examples' values. What other training examples would change is not
    in them.

    Args:
      examples: with vectors of any scale.
      seed: of folds, shuffled groups and resamples.

    Raises:
      ValueError: vectors are not one for each example, or not finite.

    Cost: uses at most `MAX_EXAMPLES` of a grouping, `MAX_OF_NEW_TASKS` where tasks are held out one
      by one, and for silhouettes `MAX_SILHOUETTES`, or `MIN_GROUP_SIZE` of each group where that is
      more, drawn at random. A fold takes examples x
      dim^2 operations; memory is that of some copies of the vectors that are used.
    """
    for name, vectors in examples.features.items():
        _check(name, vectors, examples.ids)
    tasks, output_types = np.array(examples.tasks), np.array(examples.output_types)
    rows = np.arange(len(examples))
    # Name, task, rows, their groups, and what is held out together.
    groupings = [
        (
            *("label", task, rows[(tasks == task) & (output_types == "class label")]),
            *(examples.targets, examples.groups),
        )
        for task in sorted(set(examples.tasks))
    ]
    groupings += [
        ("task", None, rows, examples.tasks, examples.groups),
        ("output type", None, rows, examples.output_types, examples.groups),
        (OF_NEW_TASKS, None, rows, examples.output_types, examples.tasks),
    ]
    # On a machine that others use, more threads make factorisations of this size slower: 0.1 s
    # became 15 s.
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
            f"not, the first that of {ids[is_finite.argmin()]!r}. Look for NaN in the checkpoint, "
            "or compute in float32."
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
    num_parts = collections.Counter(
        group for group, _ in {(group_of[row], held_out[row]) for row in rows}
    )
    least = 2 if grouping == OF_NEW_TASKS else NUM_FOLDS
    names = sorted(
        name for name in sizes if sizes[name] >= MIN_GROUP_SIZE and num_parts[name] >= least
    )
    if len(names) < 2:
        return
    numbers = {name: number for number, name in enumerate(names)}
    rows = np.array([row for row in rows if group_of[row] in numbers])
    groups = np.array([numbers[group_of[row]] for row in rows])
    parts = _Parts([held_out[row] for row in rows], are_of_one_group=grouping == OF_NEW_TASKS)
    few = _draw_of_each(groups, rng)

    for name, vectors in examples.features.items():
        x = _scaled(vectors[rows])
        varying = x[:, _is_varying(x)]
        if not varying.size:
            continue
        told = functools.partial(results.Probe, name, grouping, task)
        linear = _accuracy(_tell_linearly, varying, groups, parts, seed)
        yield told("linear probe", *linear, num_examples=len(rows))
        votes = _accuracy(_tell_by_votes, x, groups, parts, seed)
        yield told("nearest neighbours", *votes, num_examples=len(rows))
        if grouping != OF_NEW_TASKS:  # A silhouette holds nothing out.
            silhouette = _silhouette(x[few], groups[few], seed)
            yield told("silhouette", *silhouette, num_examples=len(few))


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What is held out together: the windows of a question, or a whole task.

    Attributes:
      names: of each example's.
      are_of_one_group: whether all examples of a part are of one group, as those of a task are of
        one output type. Each part is held out alone then, and shuffled as a whole.
    """

    names: Sequence[str]
    are_of_one_group: bool

    def split(self, groups: _Groups, seed: int) -> _Folds:
        """For each fold, the rows to learn from and those to tell."""
        options = {"n_splits": NUM_FOLDS, "shuffle": True, "random_state": seed}
        if self.are_of_one_group:
            folds = sklearn.model_selection.LeaveOneGroupOut()
        elif len(set(self.names)) == len(self.names):
            return list(sklearn.model_selection.StratifiedKFold(**options).split(groups, groups))
        else:
            folds = sklearn.model_selection.StratifiedGroupKFold(**options)
        # Of few and large parts, a fold may get none.
        return [fold for fold in folds.split(groups, groups, self.names) if len(fold[1])]

    def count(self, groups: _Groups) -> Int[np.ndarray, "groups"]:
        """How many parts each group has."""
        return np.bincount([group for group, _ in set(zip(groups, self.names, strict=True))])

    def shuffled(self, groups: _Groups, rng: np.random.Generator) -> list[_Groups]:
        """Draws of groups that say nothing."""
        if not self.are_of_one_group:
            return _shuffled(groups, rng)
        _, first, numbers = np.unique(self.names, return_index=True, return_inverse=True)
        return [rng.permutation(groups[first])[numbers] for _ in range(_MAX_SHUFFLES)]


def _draw_different(
    rows: Int[np.ndarray, "rows"], inputs: Sequence[str], rng: np.random.Generator
) -> list[int]:
    """One row of each text, in random order."""
    by_text: dict[str, int] = {}
    for row in rng.permutation(rows):
        by_text.setdefault(inputs[row], int(row))
    return list(by_text.values())


def _draw_of_each(groups: _Groups, rng: np.random.Generator) -> Int[np.ndarray, "few"]:
    """Equally many examples of each group, as far as it has them."""
    sizes = np.bincount(groups)
    count = max(MAX_SILHOUETTES // len(sizes), MIN_GROUP_SIZE)
    order = rng.permutation(len(groups))
    return np.concatenate([order[groups[order] == group][:count] for group in range(len(sizes))])


def _scaled(vectors: _Vectors) -> _Vectors:
    """In float32, whatever the scale was."""
    vectors = vectors.astype(np.float64)
    return (vectors / (np.abs(vectors).max(initial=0) or 1)).astype(np.float32)


def _is_varying(x: _Vectors) -> Bool[np.ndarray, "dim"]:
    size = np.linalg.norm(x) / np.sqrt(max(x.size, 1))
    return x.std(axis=0, dtype=np.float64) > _ROUNDING * size


def _accuracy(
    tell: Callable[[_Vectors, _Groups, _Folds], _Groups],
    x: _Vectors,
    groups: _Groups,
    parts: _Parts,
    seed: int,
) -> _Score:
    """The mean over groups of the share of examples whose group was told, in [0, 100]."""
    rng = np.random.default_rng(seed)
    rates, *shuffled_rates = (
        _means((tell(x, labels, parts.split(labels, seed)) == labels).astype(float), labels)
        for labels in (groups, *parts.shuffled(groups, rng))
    )
    # Half a hit and half a miss more: the mean of what is drawn moves, the score is not to.
    # A part counts once, as if it were told as a whole.
    sizes = parts.count(groups)
    smoothed = (rates * sizes + 0.5) / (sizes + 1)
    drawn = rng.binomial(sizes, smoothed, (_NUM_RESAMPLES, len(sizes))) / sizes
    moved = drawn.mean(axis=1) + rates.mean() - smoothed.mean()
    low, high = np.clip(np.percentile(moved, [2.5, 97.5]), 0, 1)
    values = (rates.mean(), low, high, np.mean(shuffled_rates))
    return tuple(100 * float(value) for value in values)


def _shuffled(groups: _Groups, rng: np.random.Generator) -> list[_Groups]:
    """Of few examples several draws, because each differs from the next."""
    num_draws = np.clip(_NUM_SHUFFLED // len(groups), 1, _MAX_SHUFFLES)
    return [rng.permutation(groups) for _ in range(num_draws)]


def _tell_linearly(x: _Vectors, groups: _Groups, folds: _Folds) -> _Groups:
    ridge = sklearn.linear_model.RidgeClassifierCV(
        alphas=len(groups) * _PENALTIES, class_weight="balanced"
    )
    probe = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), ridge)
    return sklearn.model_selection.cross_val_predict(probe, x, groups, cv=folds)


def _tell_by_votes(x: _Vectors, groups: _Groups, folds: _Folds) -> _Groups:
    # Where a question has many windows, the other folds may have few.
    num_neighbours = min(NUM_NEIGHBOURS, *(len(learned) for learned, _ in folds))
    # On unit vectors Euclid's order is that of cosines, and the search for it is faster.
    probe = sklearn.pipeline.make_pipeline(
        sklearn.preprocessing.Normalizer(),
        sklearn.neighbors.KNeighborsClassifier(num_neighbours, algorithm="brute"),
    )
    votes = sklearn.model_selection.cross_val_predict(
        probe, x, groups, cv=folds, method="predict_proba"
    )  # [examples, groups]
    return (votes / np.bincount(groups)).argmax(axis=1)


def _silhouette(x: _Vectors, groups: _Groups, seed: int) -> _Score:
    """The mean over groups of the mean of their examples' silhouettes, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    distances = sklearn.metrics.pairwise.cosine_distances(x)

    def silhouettes(labels):
        return sklearn.metrics.silhouette_samples(distances, labels, metric="precomputed")

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
