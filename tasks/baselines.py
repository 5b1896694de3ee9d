"""Floors: a task's metrics without any T5, which a trained model must beat.

Always giving the most frequent training target, and logistic regression on the words of the inputs
(TF-IDF) where targets are labels.
"""

import collections
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import seqio

from hyperdecoders_jax.data import eval_batches, mixtures

MAJORITY, LINEAR = "majority", "TF-IDF"
# Fewer training examples of a label on average: targets are no labels.
_MIN_EXAMPLES_OF_A_LABEL = 20
_MAX_LABELS = 200
_MAX_TRAINED_ON = 50_000

Example = dict[str, Any]


def floors(task: seqio.Task, split: str) -> dict[str, dict[str, float]]:
    """The metrics of each floor that a task has; none where metrics need more than predictions."""
    train, examples = _examples(task, "train"), _examples(task, split)
    counts = collections.Counter(eval_batches.text_of(task, x, "targets") for x in train)
    majority = min(counts, key=lambda target: (-counts[target], target))
    found = {MAJORITY: _metrics(task, examples, [majority] * len(examples))}
    if 1 < len(counts) <= min(_MAX_LABELS, len(train) / _MIN_EXAMPLES_OF_A_LABEL):
        found[LINEAR] = _metrics(task, examples, _linear_predictions(task, train, examples))
    return {name: metrics for name, metrics in found.items() if metrics}


def majority_baseline(task_name: str, split: str = "validation") -> dict[str, float]:
    """The task's metrics if every prediction is the most frequent target of `train`.

    The first in the alphabet wins a draw. The run's vocabulary must be set, since SeqIO's tasks
    tokenise what they read.
    """
    return floors(seqio.get_mixture_or_task(task_name), split)[MAJORITY]


def _linear_predictions(
    task: seqio.Task, train: Sequence[Example], examples: Sequence[Example]
) -> list[str]:
    """What logistic regression on words and pairs of words makes of the inputs."""
    from sklearn import feature_extraction, linear_model, pipeline

    if len(train) > _MAX_TRAINED_ON:
        rows = np.random.default_rng(0).permutation(len(train))[:_MAX_TRAINED_ON]
        train = [train[row] for row in rows]
    inputs, targets = (
        [eval_batches.text_of(task, x, name) for x in train] for name in ("inputs", "targets")
    )
    # scikit-learn's words have two characters or more, which some inputs have not.
    has_words = any(re.search(r"\w\w", text) for text in inputs)
    words = feature_extraction.text.TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        token_pattern=r"\b\w\w+\b" if has_words else r"\b\w+\b",
    )
    # Made for many sparse rows: on 4,000 with 14 labels 0.2 s of CPU, the default solver 17 s.
    regression = linear_model.LogisticRegression(
        C=10.0, max_iter=1000, solver="sag", random_state=0
    )
    model = pipeline.make_pipeline(words, regression)
    model.fit(inputs, targets)
    return model.predict([eval_batches.text_of(task, x, "inputs") for x in examples]).tolist()


def _metrics(
    task: seqio.Task, examples: Sequence[Example], predictions: Sequence[str]
) -> dict[str, float]:
    postprocess = task.postprocess_fn
    targets = [
        postprocess(eval_batches.text_of(task, x, "targets"), example=x, is_target=True)
        for x in examples
    ]
    pairs = zip(examples, predictions, strict=True)
    answers = [postprocess(text, example=x, is_target=False) for x, text in pairs]
    return {
        name: float(value)
        for metric_fn in task.predict_metric_fns
        for name, value in metric_fn(targets, answers).items()
    }


def _examples(task: seqio.Task, split: str) -> list[Example]:
    mixtures.check_data_are_there(task, split)
    dataset = task.get_dataset(sequence_length=None, split=split, shuffle=False)
    return list(dataset.as_numpy_iterator())
