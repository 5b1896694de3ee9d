"""Exact match and F1 of a file of answers to a data set of MRQA, as the shared task computes them.

    python -m hyperdecoders_jax.tasks.mrqa_scorer SQuAD.jsonl.gz 4000-predicted_answers.json

The data set is a file of the shared task: a header, then a line for each context. The answers are
those of an evaluation (`hyperdecoders_jax.evaluation.mrqa`): {qid: [[text, score], …]} with every
window's answer, of which the best one counts, or {qid: text}. Questions without an answer in the
file do not count in the means, as in the original; a message says how many they are.

Source: allenai/hyperdecoders, `mrqa_eval/eval.py`.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Mapping, Sequence

from etils import epath

from hyperdecoders_jax.data import best_window
from hyperdecoders_jax.tasks import metrics


def read_answers(path: str) -> dict[str, list[str]]:
    """The gold answers of each question.

    Raises:
        ValueError: a line is not a context with questions.
    """
    content = epath.Path(path).read_bytes()
    if path.endswith(".gz"):
        content = gzip.decompress(content)
    answers = {}
    for number, line in enumerate(content.decode().split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if number > 1 or "header" not in record:
                answers |= {question["qid"]: question["answers"] for question in record["qas"]}
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                "Each line of a data set of MRQA must be a JSON object with 'qas', a list of "
                f"objects with 'qid' and 'answers'; line {number} of {path} is {line[:80]!r} "
                f"({error!r}). Take the file as the shared task gives it."
            ) from error
    return answers


def read_predictions(path: str) -> dict[str, str]:
    """The answer to each question, from either kind of file.

    Raises:
        ValueError: it is neither.
    """
    try:
        predictions = json.loads(epath.Path(path).read_bytes())
        return {
            qid: answer if isinstance(answer, str) else best_window.answer(answer)
            for qid, answer in predictions.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            "A file of answers must hold {qid: text} or {qid: [[text, score], …]} as JSON; "
            f"{path} does not ({error!r}). Take what an evaluation wrote."
        ) from error


def score(answers: Mapping[str, Sequence[str]], predictions: Mapping[str, str]) -> dict[str, float]:
    """SQuAD's metrics over the questions that have a prediction, the best gold answer of each.

    >>> score({"q1": ["Rome", "in Rome"], "q2": ["Bonn"]}, {"q1": "Rome."})
    {'exact_match': 100.0, 'f1': 100.0}

    Raises:
        ValueError: none has one.
    """
    answered = [qid for qid in answers if qid in predictions]
    if not answered:
        raise ValueError(
            f"At least one question must have a prediction; got {len(answers)} questions and "
            f"{len(predictions)} predictions, all of others. Score the data set that was predicted."
        )
    values = metrics.squad(
        [answers[qid] for qid in answered], [predictions[qid] for qid in answered]
    )
    return {"exact_match": values["em"], "f1": values["f1"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints `EM / F1`, then both as JSON."""
    parser = argparse.ArgumentParser(description="Scores answers to a data set of MRQA.")
    parser.add_argument("dataset", help="file of the shared task, .jsonl or .jsonl.gz")
    parser.add_argument("predictions", help="JSON: {qid: text} or {qid: [[text, score], …]}")
    flags = parser.parse_args(arguments)
    answers, predictions = read_answers(flags.dataset), read_predictions(flags.predictions)
    values = score(answers, predictions)
    num_missing = len(answers.keys() - predictions.keys())
    if num_missing:
        print(
            f"{num_missing} of {len(answers)} questions have no prediction and do not count.",
            file=sys.stderr,
        )
    print(f"{values['exact_match']:.2f} / {values['f1']:.2f}")
    print(json.dumps(values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
