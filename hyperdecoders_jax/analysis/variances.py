"""Variance of generated parameters by layer: shares between tasks, between and within labels.

Batches are streamed: of each group of examples (a label of a task) only its size, its mean and its
sum of squared distances from the mean are kept. By the law of total variance, the variance of all
examples is that of tasks' means, plus that of labels' means within tasks, plus that within labels.

Means of few examples vary even if groups do not differ. This noise, known from the variance within
groups, is subtracted from the variance of the means; for groups of one size the shares are omega
squared.

Source: Hays 1963, "Statistics for psychologists" (omega squared); Chan, Golub & LeVeque 1983,
"Algorithms for computing the sample variance" (merging of groups).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float

from hyperdecoders_jax.analysis import results

MAX_BYTES = 2 * 10**9

# Smaller variation, relative to the vectors' size, is float32 rounding.
_ROUNDING = 1e-5


@dataclasses.dataclass
class _Group:
    """Examples of one label of one task."""

    size: int
    mean: Float[np.ndarray, "layers dim"]
    squares: Float[np.ndarray, "layers"]

    def merge(self, other: _Group) -> _Group:
        size = self.size + other.size
        apart = other.mean - self.mean
        between = self.size * other.size / size * np.sum(apart**2, axis=-1)
        mean = self.mean + other.size / size * apart
        return _Group(size, mean, self.squares + other.squares + between)


class Variances:
    """Streaming sums of generated parameters, and the shares of their variance.

    >>> variances = Variances()
    >>> written = np.array([[[1.0], [3.0], [7.0], [9.0]]])  # [layers, batch, dim]
    >>> variances.update("decoder", written, ["rte"] * 4, ["no", "no", "yes", "yes"])
    >>> [share] = variances.shares()
    >>> round(share.between_labels, 2), round(share.within_labels, 2)
    (0.81, 0.19)

    Cost: layers x dim x 8 bytes for each group, at most `MAX_BYTES`, whatever the number of
    examples. Project vectors of millions first: sums of random signs keep squared distances.
    """

    def __init__(self):
        # side → (task, label) → group
        self._groups: dict[str, dict[tuple[str, str], _Group]] = {}

    def update(
        self,
        side: str,
        parameters: Float[np.ndarray, "layers batch dim"],
        tasks: Sequence[str],
        labels: Sequence[str],
    ) -> None:
        """Adds a batch.

        Args:
            side: key of what generated them.
            parameters: of each example, flat.
            tasks: of each example.
            labels: of each example within its task; all equal if targets are no labels.

        Raises:
            ValueError: shapes do not match, values are not finite, or groups need too much memory.
        """
        parameters = np.asarray(parameters)
        if parameters.ndim != 3 or not parameters.shape[1] == len(tasks) == len(labels):
            raise ValueError(
                "Parameters must be [layers, batch, dim], with a task and a label for each of the "
                f"batch; got the shape {parameters.shape}, {len(tasks)} tasks and {len(labels)} "
                "labels."
            )
        if not np.isfinite(parameters).all():
            raise ValueError(
                f"Parameters must be finite; a batch of {side!r} with tasks {sorted(set(tasks))} "
                "is not. Look for NaN in the checkpoint, or compute in float32."
            )
        groups = self._groups.setdefault(side, {})
        names = list(zip(tasks, labels, strict=True))
        self._check_fits(side, parameters.shape[::2], {*groups, *names})
        for name in dict.fromkeys(names):
            rows = [other == name for other in names]
            found = parameters[:, rows].astype(np.float64)
            mean = found.mean(axis=1)
            squares = np.sum((found - mean[:, None]) ** 2, axis=(1, 2))
            group = _Group(found.shape[1], mean, squares)
            groups[name] = groups[name].merge(group) if name in groups else group

    def _check_fits(
        self, side: str, shape: tuple[int, int], names: Collection[tuple[str, str]]
    ) -> None:
        for group in self._groups[side].values():
            if group.mean.shape != shape:
                raise ValueError(
                    "All batches of a side must have the same [layers, dim]; "
                    f"{side!r} began with {group.mean.shape} and got {shape}. Use a name for "
                    "each kind of parameters."
                )
        num_bytes = len(names) * math.prod(shape) * 8
        if num_bytes > MAX_BYTES:
            raise ValueError(
                f"The means of all labels of all tasks must fit in {MAX_BYTES:,} bytes; those of "
                f"{side!r} take {num_bytes:,}: {len(names)} labels with [layers, dim] of "
                f"{shape}. Give one label to all examples of a task whose targets are no "
                "labels, or project the parameters."
            )

    def shares(self) -> list[results.Variance]:
        """Shares of every layer of every side, which add up to 1 for each layer.

        All three are 0 if all examples get the same. A side has no row if no label has two
        examples, because the variance within labels is unknown. Groups are weighted by size, and
        shares that the subtracted noise makes negative are 0.
        """
        return [
            results.Variance(side, layer, *(float(share) for share in shares))
            for side, groups in self._groups.items()
            if any(group.size > 1 for group in groups.values())
            for layer, shares in enumerate(_shares(groups))
        ]


def _shares(groups: dict[tuple[str, str], _Group]) -> Float[np.ndarray, "layers 3"]:
    """Between tasks, between labels within tasks, within labels."""
    tasks = [
        [group for (task, _), group in groups.items() if task == name]
        for name in dict.fromkeys(task for task, _ in groups)
    ]
    whole_tasks = [_merge(of_task) for of_task in tasks]
    everything = _merge(whole_tasks)
    # For groups of one example, the pooled variance of the others.
    freedom = everything.size - len(groups)
    common = sum(group.squares for group in groups.values()) / freedom

    def variance(group):
        return group.squares / (group.size - 1) if group.size > 1 else common

    between_tasks = sum(_distance(whole, everything) for whole in whole_tasks)
    between_labels = np.zeros_like(between_tasks)
    within_labels = np.zeros_like(between_tasks)
    for of_task, whole in zip(tasks, whole_tasks, strict=True):
        for group in of_task:
            noise = variance(group)
            # The mean's variance is noise / size, and the group's own mean is part of its task's.
            between_labels += _distance(group, whole) - noise * (1 - group.size / whole.size)
            between_tasks -= noise * (group.size / whole.size - group.size / everything.size)
            within_labels += noise * group.size
    parts = np.stack([between_tasks, between_labels, within_labels], axis=-1)
    parts = np.maximum(parts, 0)
    total = parts.sum(axis=-1, keepdims=True)
    size = np.sum(everything.mean**2, axis=-1, keepdims=True) * everything.size
    is_known = total > _ROUNDING**2 * size
    return np.where(is_known, parts / np.where(is_known, total, 1), 0)


def _merge(groups: Sequence[_Group]) -> _Group:
    whole, *others = groups
    for group in others:
        whole = whole.merge(group)
    return whole


def _distance(group: _Group, whole: _Group) -> Float[np.ndarray, "layers"]:
    return group.size * np.sum((group.mean - whole.mean) ** 2, axis=-1)
