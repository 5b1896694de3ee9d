"""Two-dimensional maps of examples' vectors, and nearest neighbours.

Distances on a principal component analysis (PCA) are at most those between the vectors. t-SNE (van
der Maaten & Hinton 2008) only keeps neighbours: sizes and distances of clusters mean nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import threadpoolctl
from jaxtyping import Float, Int
from sklearn import decomposition, manifold, neighbors, preprocessing

from hyperdecoders_jax.analysis.results import Examples
from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk

PROJECTIONS = ("PCA", "t-SNE")
MIN_EXAMPLES = 3
NUM_COMPONENTS = 50  # Principal components that t-SNE reads, as its authors advise.
# Four features take about three minutes of one core, 5 ms per example and feature.
MAX_TSNE_EXAMPLES = 10_000


@dataclasses.dataclass(frozen=True)
class Layout:
    """Positions and neighbours of examples, for a page."""

    # By features and projection; NaN for examples that are not on a map.
    positions: Mapping[tuple[str, str], Float[np.ndarray, "examples 2"]]
    neighbours: Int[np.ndarray, "examples k"]  # Rows of the most similar ones, nearest first.
    neighbours_by: str = "condition"  # The features that are compared.


def make(
    examples: Examples, seed: int = 0, max_tsne_examples: int = MAX_TSNE_EXAMPLES
) -> dict[tuple[str, str], Float[np.ndarray, "examples 2"]]:
    """Positions of the examples by each of their features and each of `PROJECTIONS`.

    t-SNE shows at most `max_tsne_examples`, drawn at random; positions of the others are NaN.
    Raises ValueError for fewer than `MIN_EXAMPLES`, or vectors that are not finite.
    """
    if len(examples) < MIN_EXAMPLES:
        got = f"got {len(examples)}. Analyse more of them."
        raise ValueError(f"A map must show at least {MIN_EXAMPLES} examples; {got}")
    maps = {}
    for name, features in examples.features.items():
        components = _principal_components(name, features, seed)
        maps[name, "PCA"] = components[:, :2]
        maps[name, "t-SNE"] = _tsne(components, seed, max_tsne_examples)
    return maps


def neighbours(
    features: Float[np.ndarray, "examples dim"] | RowsOnDisk, k: int = 10
) -> Int[np.ndarray, "examples k"]:
    """The `k` other examples (or all) with the most similar vectors by cosine, nearest first.

    >>> neighbours(np.array([[1.0, 0.0], [0.0, 2.0], [9.0, 1.0]]), k=2)
    array([[2, 1],
           [2, 0],
           [0, 1]], dtype=int32)
    """
    k = min(k, len(features) - 1)  # Not itself: sklearn leaves it out without an argument.
    if k < 1:
        return np.zeros((len(features), 0), np.int32)
    # On unit vectors Euclidean order is the order by cosine.
    directions = preprocessing.normalize(np.asarray(features))
    search = neighbors.NearestNeighbors(n_neighbors=k, algorithm="brute").fit(directions)
    return search.kneighbors(return_distance=False).astype(np.int32)


def _principal_components(
    name: str, features: Float[np.ndarray, "examples dim"] | RowsOnDisk, seed: int
) -> Float[np.ndarray, "examples components"]:
    """The first `NUM_COMPONENTS`; zeros for a missing second one."""
    features = np.asarray(features, np.float32)
    if not np.isfinite(features).all():
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
        raise ValueError(
            f"Vectors of a map must be finite; {len(bad)} of {name!r} are not, first that of "
            f"example {bad[0]}. Look for a run that diverged, or leave these features out."
        )
    model = decomposition.PCA(min(NUM_COMPONENTS, *features.shape), random_state=seed)
    # Equal vectors have no variance: sklearn divides 0 by 0 for its shares.
    with np.errstate(invalid="ignore"):
        components = model.fit_transform(features)
    return np.pad(components, ((0, 0), (0, max(0, 2 - components.shape[1]))))


def _tsne(
    components: Float[np.ndarray, "examples components"], seed: int, max_examples: int
) -> Float[np.ndarray, "examples 2"]:
    """Positions of at most `max_examples` rows, drawn at random; NaN for the others."""
    rows = np.arange(len(components))
    if len(rows) > max_examples:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_examples, replace=False))
    # sklearn requires less than the number of examples; 30 is the usual value.
    perplexity = min(30.0, (len(rows) - 1) / 3)
    # "pca" divides by the spread of the first component.
    init = "pca" if components[rows, 0].std() > 0 else "random"
    model = manifold.TSNE(perplexity=perplexity, init=init, random_state=seed)
    positions = np.full((len(components), 2), np.nan, np.float32)
    # Its thousand short steps are slower in threads: on busy cores each waits for the slowest.
    with threadpoolctl.threadpool_limits(1):
        positions[rows] = model.fit_transform(components[rows])
    return positions
