"""Postprocessed targets and predictions in, metrics in [0, 100] out, named as in T5.

The scores are scikit-learn's and scipy's; what is here is how invalid predictions count, which
follows the original Hyperdecoders.
"""

import collections
import re
import string
import warnings
from collections.abc import Sequence

import numpy as np
import scipy.stats
import sklearn.metrics


def accuracy(targets: Sequence, predictions: Sequence) -> dict[str, float]:
    """Share of predictions that equal their target.

    >>> accuracy(["walked", "ran"], ["walked", "runned"])
    {'accuracy': 50.0}
    """
    _check_lengths(targets, predictions)
    hits = [target == prediction for target, prediction in zip(targets, predictions, strict=True)]
    return {"accuracy": 100.0 * float(np.mean(hits))}


def f1_score_with_invalid(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
    """F1 of label 1; a prediction other than 0 and 1 counts as the wrong one of the two.

    >>> f1_score_with_invalid([1, 0, 1], [1, -1, 1])
    {'f1': 80.0}
    """
    _check_lengths(targets, predictions)
    targets, predictions = np.asarray(targets), np.asarray(predictions)
    predictions = np.where(np.isin(predictions, (0, 1)), predictions, 1 - targets)
    return {"f1": 100.0 * float(sklearn.metrics.f1_score(targets, predictions, zero_division=0))}


def matthews_corrcoef(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
    """Matthews' correlation; an invalid prediction is a class of its own.

    >>> matthews_corrcoef([0, 1, 0, 1], [0, 1, 0, 1])
    {'matthews_corrcoef': 100.0}
    """
    _check_lengths(targets, predictions)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A single label was found", UserWarning)
        value = sklearn.metrics.matthews_corrcoef(targets, predictions)
    return {"matthews_corrcoef": 100.0 * float(value)}


def pearson_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Pearson's correlation; 0 where there is none, as for equal predictions."""
    return {"pearson_corrcoef": _correlation(scipy.stats.pearsonr, targets, predictions)}


def spearman_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> dict[str, float]:
    """Spearman's rank correlation; 0 where there is none, as for equal predictions."""
    return {"spearman_corrcoef": _correlation(scipy.stats.spearmanr, targets, predictions)}


def squad(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """SQuAD's exact match and token F1 of one answer each, after `normalize_answer`.

    >>> squad(["the lazy dog"], ["dog"])
    {'em': 0.0, 'f1': 66.66...}

    An F1 of two empty answers is 0, their exact match 100, as in the original.
    """
    _check_lengths(targets, predictions)
    matches, scores = [], []
    for target, prediction in zip(targets, predictions, strict=True):
        target, prediction = normalize_answer(target), normalize_answer(prediction)
        matches.append(target == prediction)
        scores.append(_token_f1(target.split(), prediction.split()))
    return {"em": 100.0 * float(np.mean(matches)), "f1": 100.0 * float(np.mean(scores))}


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and articles, with single spaces.

    >>> normalize_answer("The  dog's (a) tail!")
    'dogs tail'

    Source: SQuAD v1.1's evaluation script.
    """
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _token_f1(target: list[str], prediction: list[str]) -> float:
    num_shared = (collections.Counter(target) & collections.Counter(prediction)).total()
    return 2 * num_shared / (len(target) + len(prediction)) if num_shared else 0.0


def _correlation(statistic, targets: Sequence[float], predictions: Sequence[float]) -> float:
    _check_lengths(targets, predictions)
    if len(targets) < 2:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
        value = float(statistic(targets, predictions)[0])
    return 0.0 if np.isnan(value) else 100.0 * value


def _check_lengths(targets: Sequence, predictions: Sequence) -> None:
    if len(targets) != len(predictions) or not len(targets):
        raise ValueError(
            "A metric needs one prediction for each target, and at least one; got "
            f"{len(targets)} targets and {len(predictions)} predictions. Check the split and the "
            "evaluation's batches."
        )
