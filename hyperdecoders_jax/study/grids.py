"""Grids of settings, and the choice among them by a validation value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from hyperdecoders_jax import errors
from hyperdecoders_jax.training.trainer import BestCheckpointConfig

Point = tuple[tuple[str, str], ...]  # (macro, value) of each --grid.


def points(grids: Sequence[str]) -> list[Point]:
    """All points of grids MACRO=a,b,c.

    >>> points(["A=1,2", "B=x"])
    [(('A', '1'), ('B', 'x')), (('A', '2'), ('B', 'x'))]
    """
    axes = []
    for grid in grids:
        macro, _, values = grid.partition("=")
        found = [value.strip() for value in values.split(",")]
        if not macro.strip() or not all(found):
            raise errors.UsageError(
                f"--grid must be MACRO=a,b,c; got {grid!r}. Write, for example, "
                "--grid=LEARNING_RATE=1e-3,1e-2."
            )
        axes.append([(macro.strip(), value) for value in found])
    return list(itertools.product(*axes))


def label(point: Point) -> str:
    """The name of a point's folder.

    >>> label((("A", "1"), ("B", "a/b")))
    'A=1,B=a_b'
    """
    return ",".join(f"{macro}={value}" for macro, value in point).replace("/", "_")


def best(values: Mapping[Point, float | None], config: BestCheckpointConfig) -> Point:
    """The point with the best value; the first of equal ones."""
    chosen, of_chosen = None, None
    for point, value in values.items():
        if value is not None and config.is_better(value, of_chosen):
            chosen, of_chosen = point, value
    if chosen is None:
        raise ValueError(
            "A grid must have a point with a finite value; got none of "
            f"{[label(point) for point in values]}. Check BEST_METRIC and --select_on."
        )
    return chosen


def describe(values: Mapping[Point, float | None], chosen: Point, split: str) -> str:
    """What was chosen among what, in a line."""
    shown = ", ".join(f"{label(p)} {v:.2f}" for p, v in values.items() if v is not None)
    return f"{label(chosen)} is chosen on {split} ({shown})"
