"""Groups of examples for colouring (by task, label and more), and their colours and shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hyperdecoders_jax.analysis.results import Examples

# For every common colour blindness, on white and on black: Okabe & Ito 2008 without yellow, grey
# for black (jfly.uni-koeln.de/color).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#808080")
# matplotlib's name → plotly's; each is combined with each colour.
SHAPES = {"o": "circle", "D": "diamond", "^": "triangle-up", "s": "square", "X": "x"}
# Shares of a `Variance` in the order of its bars.
SHARES = {"between tasks": COLOURS[0], "between labels": COLOURS[4], "within labels": COLOURS[6]}

OTHER = "other"  # Rare groups share one look, if there are more groups than looks.
MAX_GROUPS = len(COLOURS) * len(SHAPES) - 1


def of(examples: Examples) -> dict[str, list[str]]:
    """The group of each example, for each way of grouping."""
    pairs = zip(examples.targets, examples.output_types, strict=True)
    return {
        "task": list(examples.tasks),
        # The target if that is a class label, else the target's type.
        "label": [target if kind == "class label" else f"({kind})" for target, kind in pairs],
        "output type": list(examples.output_types),
        "correctness": ["correct" if good else "wrong" for good in examples.is_correct],
    }


def frequent(groups: Sequence[str], limit: int = MAX_GROUPS) -> list[str]:
    """Names of the `limit` most frequent groups, sorted; then "other", if there are more.

    >>> frequent(["no", "yes", "maybe", "yes", "no"], limit=2)
    ['no', 'yes', 'other']
    """
    counts = Counter(groups)
    if len(counts) <= limit:
        return sorted(counts)
    names = sorted(counts, key=lambda name: (-counts[name], name))[:limit]
    return [*sorted(names), OTHER]
