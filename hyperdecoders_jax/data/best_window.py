"""The answers of a question's windows in, the question's answer out.

Source: allenai/hyperdecoders, `mrqa_eval/eval.py`.
"""

from collections.abc import Iterable


def answer(candidates: Iterable[tuple[str, float]]) -> str:
    """The text with the smallest score, of a question's windows; the first of equals.

    >>> answer([("", 0.1), ("in Rome", 0.7), ("Rome", 0.5), ("Paris", 0.5)])
    'Rome'
    >>> answer([("", 0.1)])
    ''

    A window that gives exactly the empty text has no answer and does not compete.

    Args:
        candidates: each window's text, as generated, and its score: the lower, the likelier.
    """
    return min(
        ((text, score) for text, score in candidates if text),
        key=lambda candidate: candidate[1],
        default=("", 0.0),
    )[0]
