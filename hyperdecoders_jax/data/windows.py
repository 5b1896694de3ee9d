"""A long text in; windows of its tokens, what each holds, and the best of their answers out.

A context that does not fit beside its question is cut into windows that overlap. Each window is an
example of its own: the model answers from each, or says nothing, and the answer that it finds
likeliest is the question's.

Source: allenai/hyperdecoders, `mrqa_preprocess.py` and `mrqa_eval/eval.py`.
"""

from collections.abc import Iterable


def best_answer(candidates: Iterable[tuple[str, float]]) -> str:
    """The text with the smallest score, of a question's windows; the first of equals.

    >>> best_answer([("", 0.1), ("in Rome", 0.7), ("Rome", 0.5), ("Paris", 0.5)])
    'Rome'
    >>> best_answer([("", 0.1)])
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
