"""SuperGLUE's own metrics, in [0, 100].

MultiRC and ReCoRD have several examples per question: their targets say which belong together
(`postprocessors.Grouped`), in any order.

Source: google-research/text-to-text-transfer-transformer, `t5/evaluation/metrics.py`; Wang et al.
2019 (arXiv:1905.00537), section 3.2.
"""

from collections.abc import Sequence

import numpy as np

from hyperdecoders_jax.tasks import metrics
from hyperdecoders_jax.tasks.postprocessors import Grouped


def mean_3class_f1(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
    """The mean of the F1 of labels 0, 1 and 2; other predictions are none of them (CB).

    >>> mean_3class_f1([0, 1, 2], [0, 1, -1])
    {'mean_3class_f1': 66.66...}
    """
    import sklearn.metrics

    metrics.check_lengths(targets, predictions)
    value = sklearn.metrics.f1_score(
        targets, predictions, labels=[0, 1, 2], average="macro", zero_division=0
    )
    return {"mean_3class_f1": 100.0 * float(value)}


def multirc(targets: Sequence[Grouped], predictions: Sequence[int]) -> dict[str, float]:
    """F1 over all answers (F1a), and the share of questions whose answers are all right.

    >>> targets = [Grouped((0, 0), 1), Grouped((0, 0), 1), Grouped((0, 1), 0)]
    >>> multirc(targets, [1, 1, 1])
    {'f1': 80.0, 'exact_match': 50.0}
    """
    scores = metrics.f1_score_with_invalid([target.value for target in targets], predictions)
    all_right: dict[tuple[int, int], bool] = {}
    for (group, value), prediction in zip(targets, predictions, strict=True):
        all_right[group] = all_right.get(group, True) and value == prediction
    return {**scores, "exact_match": 100.0 * float(np.mean(list(all_right.values())))}


def record(targets: Sequence[Grouped], predictions: Sequence[str]) -> dict[str, float]:
    """SQuAD's exact match and F1 with the best of a query's answers; each query counts once.

    >>> targets = [Grouped((0, 0), ["Ann", "Ann Lee"])] * 2 + [Grouped((0, 1), ["Bob"])]
    >>> record(targets, ["Ann Lee", "Ann Lee", "Rob"])
    {'em': 50.0, 'f1': 50.0}

    A query's first prediction counts; the others come from the same text.
    """
    metrics.check_lengths(targets, predictions)
    answers, firsts = {}, {}
    for (group, value), prediction in zip(targets, predictions, strict=True):
        answers.setdefault(group, value)
        firsts.setdefault(group, prediction)
    return metrics.squad(list(answers.values()), list(firsts.values()))
