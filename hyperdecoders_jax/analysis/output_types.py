"""The targets of a task in, what kind of text they are out."""

from __future__ import annotations

from collections.abc import Sequence

# A task has labels if it has at most so many different targets, each ten times on average.
_MOST_LABELS = 20
_LEAST_USES = 10
# Of the targets that must be found in their inputs to be spans.
_SPAN_RATE = 0.9


def infer(inputs: Sequence[str], targets: Sequence[str]) -> str:
    """One of `results.OUTPUT_TYPES`, by what the targets look like.

    >>> infer(["a", "b"] * 10, ["yes", "no"] * 10)
    'class label'
    >>> infer(["one and one", "one and two"], ["2.0", "3"])
    'number'
    >>> infer(["Who? Ann saw Ben", "When? On Monday Ben came"], ["Ann", "On Monday"])
    'span'
    >>> infer(["say hello in French"], ["bonjour"])
    'free text'
    """
    num_different = len(set(targets))
    # "0" and "1" are labels: a number has more values than a yes and a no.
    is_number = num_different > 2 or len(targets) < 2 * _LEAST_USES
    if is_number and targets and all(_is_number(target) for target in targets):
        return "number"
    if num_different <= _MOST_LABELS and len(targets) >= _LEAST_USES * num_different:
        return "class label"
    num_spans = sum(
        target.lower() in text.lower() for text, target in zip(inputs, targets, strict=True)
    )
    return "span" if targets and num_spans >= _SPAN_RATE * len(targets) else "free text"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
