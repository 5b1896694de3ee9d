"""Vectors of examples in; where each lies on a map of two dimensions, and its neighbours, out.

A principal component analysis (PCA) is a shadow of the vectors: distances on it are at most those
between the vectors. t-SNE (van der Maaten & Hinton 2008) keeps neighbours together, and nothing
else: the sizes of clusters and the distances between them mean nothing.
"""

from __future__ import annotations

import numpy as np
import threadpoolctl
from jaxtyping import Float, Int
from sklearn import decomposition, manifold, neighbors, preprocessing

from hyperdecoders_jax.analysis.results import Examples
from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk

PROJECTIONS = ("PCA", "t-SNE")
MIN_EXAMPLES = 3

# t-SNE reads this many principal components, as its authors advise.
NUM_COMPONENTS = 50

# Four features take about three minutes of one core then, 5 ms an example and feature.
MAX_TSNE_EXAMPLES = 10_000


def make(
    examples: Examples, seed: int = 0, max_tsne_examples: int = MAX_TSNE_EXAMPLES
) -> dict[tuple[str, str], Float[np.ndarray, "examples 2"]]:
    """Lays out the examples by each of their features and each of `PROJECTIONS`.

    Of more than `max_tsne_examples` t-SNE shows as many, drawn at random; the others'
    positions on it are NaN.

    Raises:
      ValueError: there are fewer than `MIN_EXAMPLES`, or a vector is not finite.
    """
    if len(examples) < MIN_EXAMPLES:
        raise ValueError(
            f"A map must show at least {MIN_EXAMPLES} examples; got {len(examples)}. Analyse more "
            "of them."
        )
    maps = {}
    for name, features in examples.features.items():
        components = _principal_components(name, features, seed)
        maps[name, "PCA"] = components[:, :2]
        maps[name, "t-SNE"] = _tsne(components, seed, max_tsne_examples)
    return maps


def neighbours(
    features: Float[np.ndarray, "examples dim"] | RowsOnDisk, k: int = 10
) -> Int[np.ndarray, "examples k"]:
    """The `k` other examples whose vectors point most nearly the same way, the nearest first.

    With no more than `k` examples, all others.

    >>> neighbours(np.array([[1.0, 0.0], [0.0, 2.0], [9.0, 1.0]]), k=2)
    array([[2, 1],
           [2, 0],
           [0, 1]], dtype=int32)
    """
    k = min(k, len(features) - 1)
    if k < 1:
        return np.zeros((len(features), 0), np.int32)
    # Of vectors of length one, the nearest by Euclid are the nearest by cosine.
    directions = preprocessing.normalize(np.asarray(features))
    search = neighbors.NearestNeighbors(n_neighbors=k, algorithm="brute").fit(directions)
    return search.kneighbors(return_distance=False).astype(np.int32)


def _principal_components(
    name: str, features: Float[np.ndarray, "examples dim"] | RowsOnDisk, seed: int
) -> Float[np.ndarray, "examples components"]:
    """At most `NUM_COMPONENTS`, at least two: of vectors of one number the second is zero."""
    features = np.asarray(features, np.float32)
    if not np.isfinite(features).all():
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
        raise ValueError(
            f"Vectors of a map must be finite; {len(bad)} of {name!r} are not, first that of "
            f"example {bad[0]}. Look for a run that diverged, or leave these features out."
        )
    model = decomposition.PCA(min(NUM_COMPONENTS, *features.shape), random_state=seed)
    # Vectors that are all the same have no variance to share out.
    with np.errstate(invalid="ignore"):
        components = model.fit_transform(features)
    return np.pad(components, ((0, 0), (0, max(0, 2 - components.shape[1]))))


def _tsne(
    components: Float[np.ndarray, "examples components"], seed: int, max_examples: int
) -> Float[np.ndarray, "examples 2"]:
    """The map of at most `max_examples` rows, drawn at random; NaN for the others."""
    rows = np.arange(len(components))
    if len(rows) > max_examples:
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.choice(rows, max_examples, replace=False))
    model = manifold.TSNE(
        perplexity=min(30.0, (len(rows) - 1) / 3),
        # Starting from the components divides by their spread.
        init="pca" if components[rows, 0].std() > 0 else "random",
        random_state=seed,
    )
    positions = np.full((len(components), 2), np.nan, np.float32)
    # On cores that are busy, each thread of its thousand short steps waits for the slowest.
    with threadpoolctl.threadpool_limits(1):
        positions[rows] = model.fit_transform(components[rows])
    return positions
