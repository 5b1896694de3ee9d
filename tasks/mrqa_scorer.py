"""Exact match and F1 of a file of answers to a data set of MRQA, as the shared task computes them.

    python -m hyperdecoders_jax.tasks.mrqa_scorer SQuAD.jsonl.gz 4000-predicted_answers.json

The data set is a file of the shared task: a header, then a line for each context. The answers are
those of an evaluation (`hyperdecoders_jax.evaluation.mrqa`): {qid: [[text, score], …]} with every
window's answer, of which the best one counts, or {qid: text}. Questions without an answer in the
file do not count in the means, as in the original; a message says how many they are.

Source: allenai/hyperdecoders, `mrqa_eval/eval.py`.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence

from hyperdecoders_jax.data import best_window, row_files, text_files
from hyperdecoders_jax.tasks import metrics

# Answers are one line of JSON, for as many questions as a data set has.
_MAX_ANSWERS_BYTES = 1 << 30


def read_answers(path: str) -> dict[str, list[str]]:
    """The gold answers of each question.

    Of questions with one id the last counts, as in the original; a message says how many differ.

    Raises:
        ValueError: the file cannot be read, or a line is not a context with questions.
    """
    answers, num_replaced = {}, 0
    for number, line in text_files.read_lines(path):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        record = row_files.json_object(line, where)
        if number == 1 and "header" in record:
            continue
        questions = record.get("qas")
        if not isinstance(questions, list) or not all(map(_is_question, questions)):
            raise ValueError(
                "Each line of a data set of MRQA must be a JSON object with 'qas', a list of "
                f"objects with 'qid' and 'answers', some texts; {where} is {line.strip()[:80]!r}. "
                "Take the file as the shared task gives it."
            )
        for question in questions:
            num_replaced += answers.get(question["qid"], question["answers"]) != question["answers"]
            answers[question["qid"]] = question["answers"]
    if num_replaced:
        print(
            f"{num_replaced} questions of {path} have an id of before and other answers, which "
            "count.",
            file=sys.stderr,
        )
    return answers


def _is_question(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("qid"), str):
        return False
    answers = value.get("answers")
    return isinstance(answers, list) and bool(answers) and all(isinstance(x, str) for x in answers)


def read_predictions(path: str) -> dict[str, str]:
    """The answer to each question, from either kind of file.

    Raises:
        ValueError: it cannot be read, or is neither.
    """
    content = "".join(line for _, line in text_files.read_lines(path, _MAX_ANSWERS_BYTES))
    try:
        predictions = json.loads(content, object_pairs_hook=row_files.unique_keys)
        return {qid: _answer(answer) for qid, answer in predictions.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            "A file of answers must hold {qid: text} or {qid: [[text, score], …]} as JSON; "
            f"{path} does not ({error!r:.200}). Take what an evaluation wrote."
        ) from error


def _answer(found: object) -> str:
    if isinstance(found, str):
        return found
    for text, score in found:
        if not isinstance(text, str) or not math.isfinite(score):
            raise ValueError(f"{[text, score]!r:.80} is no text with a score")
    return best_window.answer(found)


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
    """Prints `EM / F1`, then both as JSON; returns the exit code, 2 for files that are wrong."""
    parser = argparse.ArgumentParser(description="Scores answers to a data set of MRQA.")
    parser.add_argument("dataset", help="file of the shared task, .jsonl or .jsonl.gz")
    parser.add_argument("predictions", help="JSON: {qid: text} or {qid: [[text, score], …]}")
    flags = parser.parse_args(arguments)
    try:
        answers, predictions = read_answers(flags.dataset), read_predictions(flags.predictions)
        values = score(answers, predictions)
    except ValueError as error:
        print(f"mrqa_scorer: error: {error}", file=sys.stderr)
        return 2
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
