"""SQuAD 1.1: answers to a question in its context, scored over all gold answers.

    squad question: Who ran? context: Ann ran.   ->   Ann

A context that is too long loses its end; `tasks/mrqa.py` cuts it into windows instead. `test` is
the official validation split, and so is `validation`.

Source: allenai/hyperdecoders, `tasks.py`; Rajpurkar et al. 2016 (arXiv:1606.05250).
"""

from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import metrics
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE, join_fields
from hyperdecoders_jax.tasks.registration import add_task


@seqio.map_over_dataset
def render_squad(example: dict[str, Any]) -> dict[str, tf.Tensor]:
    """A question of SQuAD, with all its answers for the metric.

    {"id": "5a", "question": "Who ran?", "context": "Ann ran.",
    "answers": {"text": ["Ann", "Ann ran"], "answer_start": [0, 0]}} ->
    {"inputs": "squad question: Who ran? context: Ann ran.", "targets": "Ann",
    "qid": "5a", "answers": ["Ann", "Ann ran"]}
    """
    answers = example["answers"]["text"]
    return {
        "inputs": join_fields("squad", example, "question", "context"),
        "targets": answers[0],
        "qid": example["id"],
        "answers": answers,
    }


def all_answers(
    text: str,
    example: Mapping[str, Any] | None = None,
    is_target: bool = False,
    **unused,
) -> str | list[str]:
    """All gold answers of the example instead of its target; a prediction as it is.

    >>> all_answers("Ann", example={"answers": [b"Ann", b"Ann ran"]}, is_target=True)
    ['Ann', 'Ann ran']
    >>> all_answers(" ann", example={"answers": [b"Ann"]}, is_target=False)
    ' ann'
    """
    if is_target and example and "answers" in example:
        return [tf.compat.as_text(answer) for answer in example["answers"]]
    return text


add_task(
    "squad_v300",
    source=seqio.TfdsDataSource(
        "squad/v1.1:3.0.0",
        splits={"train": "train", "validation": "validation", "test": "validation"},
    ),
    preprocessors=[render_squad, *TOKENIZE],
    postprocess_fn=all_answers,
    metric_fns=[metrics.squad],
)
