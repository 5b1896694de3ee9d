"""Grids of settings, and the choice among them by a validation value."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from hyperdecoders_jax import errors
from hyperdecoders_jax.training.trainer import BestCheckpointConfig

Point = tuple[tuple[str, str], ...]  # (macro, value) of each --grid.


def of_methods(grids: Sequence[str], names: Sequence[str]) -> dict[str, list[Point]]:
    """The points of each method; a grid METHOD:MACRO=a,b,c is of one method alone.

    >>> of_methods(["A=1,2", "A=x"], ["m"])
    {'m': [(('A', '1'), ('A', 'x')), (('A', '2'), ('A', 'x'))]}
    >>> of_methods(["m:A=1,2", "n:B=3,4"], ["m", "n"])["n"]
    [(('B', '3'),), (('B', '4'),)]
    >>> of_methods(["A=('a', 'b'),('c',)"], ["m"])["m"][0]
    (('A', "('a', 'b')"),)

    UsageError unless all methods have as many points: equal budgets.
    """
    axes: dict[str, list[Point]] = {name: [] for name in names}
    for grid in grids:
        found = re.fullmatch(r"\s*(?:([^=:]+):)?\s*([^=:]+?)\s*=(.*)", grid)
        values = _values(found[3]) if found else []
        if not found or not all(values) or len(set(values)) < len(values):
            raise errors.UsageError(
                f"--grid must be MACRO=a,b,c, or METHOD:MACRO=a,b,c, of values that differ; got "
                f"{grid!r}. Write, for example, --grid=LEARNING_RATE=1e-3,1e-2."
            )
        if found[1] is not None and found[1] not in axes:
            raise errors.UsageError(
                f"A --grid of one method must name one of {list(names)}; got {grid!r}."
                f"{errors.suggestion(found[1], names)} Correct it."
            )
        for name in [found[1]] if found[1] else names:
            axes[name].append([(found[2], value) for value in values])
    points = {name: list(itertools.product(*of_method)) for name, of_method in axes.items()}
    counts = {name: len(of_method) for name, of_method in points.items()}
    if len(set(counts.values())) > 1:
        raise errors.UsageError(
            f"Methods must choose among equally many settings; --grid gives {counts}. Give each "
            "method as many values."
        )
    return points


def _values(text: str) -> list[str]:
    """Values between commas; a comma in brackets belongs to its value.

    >>> _values("1, {'a': (1, 2), 'b': (3, 4)},('c',)")
    ['1', "{'a': (1, 2), 'b': (3, 4)}", "('c',)"]
    """
    values, depth = [""], 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if char == "," and not depth:
            values.append("")
        else:
            values[-1] += char
    return [value.strip() for value in values]


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
