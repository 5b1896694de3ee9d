"""Files with the answers to MRQA's questions, from predictions for their windows.

The windows of a question (`hyperdecoders_jax.data.windows`) share their "qid".
`hyperdecoders_jax.tasks.mrqa_scorer` scores both files. Source: allenai/hyperdecoders,
`t5_trainer.py`; the MRQA 2019 shared task.
"""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.data import best_window

QUESTION = "qid"  # The feature that a question's windows share; the evaluator looks for it.


def write_answers(
    folder: str | os.PathLike[str],
    step: int,
    examples: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    log_likelihoods: Sequence[float],
    num_tokens: Sequence[int],
    batch_num_tokens: Sequence[int],
) -> None:
    """Writes `<step>-predicted_answers.json` and `<step>-answers.json`, each atomically.

    The first is {qid: [[text, score], …]}, a pair for each window in the order of the data; the
    score is the original's, the negative log-likelihood over `batch_num_tokens`, the most tokens of
    a text in its batch, and so depends on the rest of the batch. The second is the shared task's
    {qid: text}: the best window's answer by the negative log-likelihood over its own `num_tokens`.

    All columns have a value for each window in `examples`, or it is a ValueError; texts are not
    stripped, log-likelihoods and counts include EOS.
    """
    columns = (texts, log_likelihoods, num_tokens, batch_num_tokens)
    if any(len(column) != len(examples) for column in columns):
        raise ValueError(
            "Each window must have a text, a log-likelihood and two counts of tokens; got "
            f"{[len(column) for column in columns]} of them for {len(examples)} windows. Pass what "
            "was predicted for these windows, all of it."
        )
    scored, own = {}, {}
    for example, text, log_likelihood, num, batch_num in zip(examples, *columns, strict=True):
        qid = example[QUESTION]
        qid = qid.decode() if isinstance(qid, bytes) else str(qid)
        scored.setdefault(qid, []).append((text, _score(log_likelihood, batch_num)))
        own.setdefault(qid, []).append((text, _score(log_likelihood, num)))
    answers = {qid: best_window.answer(candidates) for qid, candidates in own.items()}
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("predicted_answers", scored), ("answers", answers)):
        path = folder / f"{step}-{name}.json"
        files.write_text(path, json.dumps(content, ensure_ascii=False))


def _score(log_likelihood: float, num_tokens: int) -> float:
    """Negative log-likelihood of a token; the worst number that JSON has where it is not finite."""
    # Padding alone, which a model may generate, counts as no token.
    score = -float(log_likelihood) / max(int(num_tokens), 1)
    return score if math.isfinite(score) else sys.float_info.max
