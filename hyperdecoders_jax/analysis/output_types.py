"""Output type of a task, inferred from its targets: label, number, span or free text."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

# Labels: at most so many different targets, each used so often on average.
_MOST_LABELS = 20
_LEAST_USES = 5
_SPAN_RATE = 0.9  # Spans: the share of targets that must be found in their inputs.


def infer(inputs: Sequence[str], targets: Sequence[str]) -> str:
    """One of `results.OUTPUT_TYPES`, inferred from the texts.

    >>> infer(["a", "b"] * 5, ["yes", "no"] * 5)
    'class label'
    >>> infer(["one and one", "one and two"], ["2.0", "3"])
    'number'
    >>> infer(["Who? Ann saw Ben", "When? On Monday Ben came"], ["Ann", "On Monday"])
    'span'
    >>> infer(["say hello in French"], ["bonjour"])
    'free text'

    A few whole numbers that are used often are labels (classes, stars):
    >>> infer(["good", "fair", "bad"] * 10, ["3", "2", "-1"] * 10)
    'class label'
    >>> infer(["good", "fair", "bad"] * 10, ["3.0", "2.5", "1.0"] * 10)
    'number'

    Empty targets (windows without an answer) are ignored:
    >>> infer(["Who? Ann saw Ben"] + ["Who? It rained"] * 19, ["Ann"] + [""] * 19)
    'span'
    """
    pairs = [pair for pair in zip(inputs, targets, strict=True) if pair[1]]
    targets = [target for _, target in pairs]
    if not targets:
        return "free text"
    num_different = len(set(targets))
    is_label = num_different <= _MOST_LABELS and len(targets) >= _LEAST_USES * num_different
    with contextlib.suppress(ValueError):  # Not all are numbers.
        numbers = [float(target) for target in targets]
        are_whole = all(number.is_integer() for number in numbers)
        return "class label" if is_label and are_whole else "number"
    if is_label:
        return "class label"
    num_spans = sum(target.lower() in text.lower() for text, target in pairs)
    return "span" if num_spans >= _SPAN_RATE * len(targets) else "free text"
