"""Examples in, what can colour them out: the group of each, by task, label and more; and looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hyperdecoders_jax.analysis.results import Examples

# Told apart with every common colour blindness, on white and on black: Okabe & Ito 2008 without
# yellow and with grey for black (jfly.uni-koeln.de/color).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#808080")

# Each colour with each of these shapes, by matplotlib's names and plotly's.
SHAPES = {"o": "circle", "D": "diamond", "^": "triangle-up", "s": "square", "X": "x"}

# What `Variance` tells, in the order of its bars.
SHARES = {
    "between_tasks": COLOURS[0],
    "between_labels": COLOURS[4],
    "within_labels": COLOURS[6],
}

# More groups than there are looks: the rare ones share one.
OTHER = "other"
MAX_GROUPS = len(COLOURS) * len(SHAPES) - 1


def of(examples: Examples) -> dict[str, list[str]]:
    """The group of each example, by what the groups are.

    A label is the target where that is a class label; other targets are told apart by their type.
    """
    pairs = zip(examples.targets, examples.output_types, strict=True)
    return {
        "task": list(examples.tasks),
        "label": [target if kind == "class label" else f"({kind})" for target, kind in pairs],
        "output type": list(examples.output_types),
        "correctness": ["correct" if good else "wrong" for good in examples.is_correct],
    }


def frequent(groups: Sequence[str], limit: int = MAX_GROUPS) -> list[str]:
    """The names of the `limit` most frequent groups, sorted; then "other", if there are more.

    >>> frequent(["no", "yes", "maybe", "yes", "no"], limit=2)
    ['no', 'yes', 'other']
    """
    counts = Counter(groups)
    if len(counts) <= limit:
        return sorted(counts)
    names = sorted(counts, key=lambda name: (-counts[name], name))[:limit]
    return [*sorted(names), OTHER]
