"""Decoded text in, the value that a metric compares out.

SeqIO calls these for targets and predictions alike, with keywords that they do not need.
"""

import math

INVALID = -1


def to_text(text: str, **unused) -> str:
    """Text as it is, without outer spaces."""
    return text.strip()


def to_int(text: str, **unused) -> int:
    """The label, or -1 for text that is no whole number.

    >>> to_int(" 1"), to_int("yes")
    (1, -1)
    """
    try:
        return int(text)
    except ValueError:
        return INVALID


def to_float(text: str, **unused) -> float:
    """The score, or -1.0 for text that is no finite number.

    >>> to_float("3.8"), to_float("3.8.8"), to_float("nan")
    (3.8, -1.0, -1.0)
    """
    try:
        value = float(text)
    except ValueError:
        return float(INVALID)
    return value if math.isfinite(value) else float(INVALID)
