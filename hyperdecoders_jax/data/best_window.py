"""Choice of a question's answer among its windows' (allenai/hyperdecoders, `mrqa_eval/eval.py`)."""

from collections.abc import Iterable


def answer(candidates: Iterable[tuple[str, float]]) -> str:
    """The text of a question's windows with the lowest score; of equals the first.

    >>> answer([("", 0.1), ("in Rome", 0.7), ("Rome", 0.5), ("Paris", 0.5)])
    'Rome'
    >>> answer([("", 0.1)])
    ''

    A window that gives exactly the empty text has no answer and does not compete.
    """
    texts = [(text, score) for text, score in candidates if text]
    return min(texts, key=lambda candidate: candidate[1], default=("", 0.0))[0]
