"""Predicts: a training run's checkpoint and a mixture's split or lines of text in; JSON lines out.

`infer` is bound by gin_configs/runs/embedded/infer.gin.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperdecoders_jax import cli

if TYPE_CHECKING:
    from hyperdecoders_jax.preparation import Trained, TrainedConfig

STANDARD_INPUT = "-"


def infer(
    *,
    trained: TrainedConfig,
    mixture_or_task_name: str,
    task_feature_lengths: Mapping[str, int],
    split: str,
    batch_size: int,
    num_examples: int | None,
    output_dir: str | None,
    input_path: str | None = None,
    config_text: str = "",
) -> int:
    """Writes the predictions of a checkpoint as JSON lines; returns the exit code.

    Args:
      trained: the run, and which of its checkpoints.
      mixture_or_task_name: what is read; the run's mixture, or any of its tasks.
      task_feature_lengths: tokens of inputs and targets.
      split: "validation", "test", …
      batch_size: examples of one step.
      num_examples: of each task, from the beginning; None: all.
      output_dir: gets TASK-SPLIT-STEP.jsonl; None: infer in the run's model directory.
      input_path: predict for the lines of this file, "-" for standard input, and print; nothing
        else is read or written then.
      config_text: the whole configuration; not needed here.

    Raises:
      ValueError: something in all this does not fit together.
    """
    del config_text
    import jax

    from hyperdecoders_jax import preparation
    from hyperdecoders_jax.evaluation import evaluator, predictions
    from hyperdecoders_jax.training import checkpoint

    lengths = task_feature_lengths
    if input_path is not None:
        lines = read_lines(input_path)
        model = preparation.open_trained(trained, lengths["targets"], batch_size)
        for prediction in predict_lines(lines, model, lengths["inputs"], batch_size):
            print(json.dumps(prediction, ensure_ascii=False), flush=True)
        return 0

    output_dir = output_dir or f"{trained.model_dir}/infer"
    checkpoint.check_writable(output_dir)
    tasks = evaluator.Evaluator(
        mixture_or_task_name,
        preparation.task_names_of(trained),
        lengths,
        split=split,
        batch_size=batch_size,
        num_examples=num_examples,
    )
    model = preparation.open_trained(trained, lengths["targets"], batch_size)
    for task, predicted in tasks.predict(model.predict).items():
        if jax.process_index():
            continue
        path = f"{output_dir}/{task}-{split}-{model.step}.jsonl"
        predictions.write(path, predicted)
        print(f"{len(predicted):,} predictions in {path}", file=sys.stderr)
    return 0


def read_lines(path: str) -> Iterator[dict[str, Any]]:
    """Reads lines of text, or of JSON with `inputs`; blank lines are left out.

    Raises:
      ValueError: the file does not exist, or a line begins like JSON and is none with `inputs`.
    """
    if path == STANDARD_INPUT:
        yield from map_lines(sys.stdin, "standard input")
        return
    try:
        file = open(path, encoding="utf-8")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise ValueError(
            f"--input must be a file that can be read, or - for standard input; {path}: "
            f"{error.strerror}. Correct the path."
        ) from error
    with file:
        yield from map_lines(file, path)


def map_lines(lines: Iterable[str], name: str) -> Iterator[dict[str, Any]]:
    """What each line asks for.

    >>> list(map_lines(["a text", '{"inputs": "b", "id": 3}', ""], "example"))
    [{'inputs': 'a text'}, {'inputs': 'b', 'id': 3}]
    """
    for number, line in enumerate(lines, 1):
        line = line.strip("\n")
        if not line.strip():
            continue
        if not line.lstrip().startswith("{"):
            yield {"inputs": line}
            continue
        try:
            record = json.loads(line)
            record["inputs"] + ""
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f'A line of JSON must be an object with "inputs", a text; line {number} of {name} '
                f'is {line[:80]!r}. Write {{"inputs": "…"}}, or plain text that does not begin '
                f"with a brace."
            ) from None
        yield record


def predict_lines(
    records: Iterable[Mapping[str, Any]], model: Trained, max_input_len: int, batch_size: int
) -> Iterator[dict[str, Any]]:
    """Each record with `prediction` and `log_likelihood`; `task` in it names its task."""
    from hyperdecoders_jax.data import vocabulary

    for group in _groups(records, batch_size):
        batch = _make_batch(group, model, max_input_len, batch_size)
        decoded = model.predict(batch)
        for row, record in enumerate(group):
            tokens = [int(token) for token in decoded.tokens[row, 0]]
            yield {
                **record,
                "prediction": vocabulary.RUN_VOCABULARY.decode(tokens),
                "log_likelihood": float(decoded.log_likelihoods[row, 0]),
            }


def _groups(records: Iterable[Any], size: int) -> Iterator[Sequence[Any]]:
    records = iter(records)
    while group := list(itertools.islice(records, size)):
        yield group


def _make_batch(
    group: Sequence[Mapping[str, Any]], model: Trained, max_input_len: int, batch_size: int
) -> Any:
    import numpy as np

    from hyperdecoders_jax import types
    from hyperdecoders_jax.data import feature_converter, mixtures, vocabulary

    inputs = np.zeros((batch_size, max_input_len), np.int32)
    # A row without a real token may divide by nothing; those that fill up hold an EOS.
    inputs[:, 0] = types.EOS_ID
    task_ids = np.zeros(batch_size, np.int32)
    for row, record in enumerate(group):
        tokens = vocabulary.RUN_VOCABULARY.encode(record["inputs"])[: max_input_len - 1]
        inputs[row, : len(tokens) + 1] = [*tokens, types.EOS_ID]
        if "task" in record and model.task_names is not None:
            task_ids[row] = mixtures.task_number(record["task"], model.task_names)
    targets = np.zeros((batch_size, 1), np.int32)
    return feature_converter.task_batch(inputs, targets, task_ids)


if __name__ == "__main__":
    sys.exit(cli.main(["infer", *sys.argv[1:]]))
