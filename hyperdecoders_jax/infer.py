"""Predicts: a training run's checkpoint and a mixture's split or lines of text in; JSON lines out.

`infer` is bound by gin_configs/runs/embedded/infer.gin.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from hyperdecoders_jax import cli

if TYPE_CHECKING:
    from hyperdecoders_jax.preparation import Generation, Trained, TrainedConfig
    from hyperdecoders_jax.types import Batch

STANDARD_INPUT = "-"
# Lines of standard input that follow each other faster than this are predicted together.
MOMENT_SECS = 0.05


def infer(
    *,
    trained: TrainedConfig,
    mixture_or_task_name: str,
    task_feature_lengths: Mapping[str, int],
    split: str,
    batch_size: int,
    eval_batch_size: int | None,
    num_examples: int | None,
    generation: Generation | None,
    output_dir: str | None,
    use_cached: bool = False,
    input_path: str | None = None,
    config_text: str = "",
) -> int:
    """Writes the predictions of a checkpoint as JSON lines; returns the exit code.

    Args:
      trained: the run, and which of its checkpoints.
      mixture_or_task_name: what is read; the run's mixture, or any of its tasks.
      task_feature_lengths: tokens of inputs and targets.
      split: "validation", "test", …
      batch_size: examples of one training step.
      eval_batch_size: examples of one step here; None: as many as of a training step.
      num_examples: of each task, from the beginning; None: all.
      generation: of tasks whose texts are decoded otherwise: (most tokens, beams).
      output_dir: gets TASK-SPLIT-STEP.jsonl; None: infer in the run's model directory.
      use_cached: reads text from SeqIO's caches, not from the data.
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
    batch_size = eval_batch_size or batch_size
    if input_path is not None:
        # Opened before anything is loaded, since loading takes a while.
        groups = read_groups(input_path, batch_size, jax.process_count())
        model = preparation.open_trained(trained, lengths["targets"], batch_size)
        # Every process predicts all lines; the first one prints.
        is_first_process = jax.process_index() == 0
        num_read = num_cut = 0
        for group in groups:
            predicted, num_cut_here = predict_group(group, model, lengths["inputs"], batch_size)
            num_read, num_cut = num_read + len(group), num_cut + num_cut_here
            for prediction in predicted if is_first_process else ():
                print(json.dumps(prediction, ensure_ascii=False), flush=True)
        if num_cut and is_first_process:
            print(
                f"{num_cut:,} of {num_read:,} inputs are longer than {lengths['inputs']} tokens "
                "and were cut; TASK_FEATURE_LENGTHS sets the length.",
                file=sys.stderr,
            )
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
        shard=preparation.data_shard(trained),
        accepts_unseen_tasks=trained.model.config.accepts_unseen_tasks,
        use_cached=use_cached,
    )
    model = preparation.open_trained(trained, lengths["targets"], batch_size, generation)
    for task, predicted in tasks.predict(model.predict).items():
        if jax.process_index():
            continue
        path = f"{output_dir}/{task}-{split}-{model.step}.jsonl"
        predictions.write(path, predicted)
        print(f"{len(predicted):,} predictions in {path}", file=sys.stderr)
    return 0


def read_groups(path: str, size: int, process_count: int = 1) -> Iterator[Sequence[dict[str, Any]]]:
    """Reads lines of text, or of JSON with `inputs`, in groups; blank lines are left out.

    A file gives groups of `size`. Standard input gives a group as soon as no more is ready, so that
    a reader at a terminal is answered line by line.

    Raises:
      ValueError: the file cannot be opened (at once), or a line begins like JSON and is none with
        `inputs` (when it is read); or there are several processes, of which one has the input.
    """
    if path == STANDARD_INPUT:
        if process_count > 1:
            raise ValueError(
                f"Every process of a run must read the same lines; got --input={STANDARD_INPUT} in "
                f"{process_count} processes. Name a file that all of them can read."
            )
        return _standard_input_groups(size)
    try:
        file = open(os.path.expanduser(path), encoding="utf-8")  # noqa: SIM115 (closed when read)
    except OSError as error:
        raise ValueError(
            f"--input must be a file that can be read, or - for standard input; {path}: "
            f"{error.strerror}. Correct the path."
        ) from error
    return _file_groups(file, path, size)


def _file_groups(file: TextIO, name: str, size: int) -> Iterator[Sequence[dict[str, Any]]]:
    with file:
        records = map_lines(file, name)
        while group := list(itertools.islice(records, size)):
            yield group


def _standard_input_groups(size: int) -> Iterator[Sequence[dict[str, Any]]]:
    num_read = 0
    for lines in ready_lines(sys.stdin.fileno(), size):
        if group := list(map_lines(lines, "standard input", num_read + 1)):
            yield group
        num_read += len(lines)


def ready_lines(file_descriptor: int, size: int) -> Iterator[list[str]]:
    """At most `size` lines at a time: those that are there when no more come for a moment."""
    lines, rest = [], b""
    while True:
        if lines and not select.select([file_descriptor], [], [], MOMENT_SECS)[0]:
            yield lines
            lines = []
        # Waits, if no line has come yet, as long as it takes.
        content = os.read(file_descriptor, 1 << 16)
        *whole, rest = (rest + content).split(b"\n")
        if not content and rest:
            whole = [rest]  # The last line may end without a newline.
        lines += [line.decode() for line in whole]
        while len(lines) >= size:
            yield lines[:size]
            lines = lines[size:]
        if not content:
            break
    if lines:
        yield lines


def map_lines(lines: Iterable[str], name: str, first: int = 1) -> Iterator[dict[str, Any]]:
    """What each line asks for; `first` is the number of the first line.

    >>> list(map_lines(["a text", '{"inputs": "b", "id": 3}', ""], "example"))
    [{'inputs': 'a text'}, {'inputs': 'b', 'id': 3}]
    """
    for number, line in enumerate(lines, first):
        line = line.strip("\r\n")
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


def predict_group(
    group: Sequence[Mapping[str, Any]], model: Trained, max_input_len: int, batch_size: int
) -> tuple[list[dict[str, Any]], int]:
    """Each record with `prediction` and `log_likelihood`, and how many inputs were cut.

    `task` in a record names its task.
    """
    from hyperdecoders_jax.data import vocabulary

    batch, num_cut = _make_batch(group, model, max_input_len, batch_size)
    decoded = model.predict(batch)
    predicted = []
    for row, record in enumerate(group):
        tokens = [int(token) for token in decoded.tokens[row, 0]]
        predicted.append(
            {
                **record,
                "prediction": vocabulary.RUN_VOCABULARY.decode(tokens),
                "log_likelihood": float(decoded.log_likelihoods[row, 0]),
            }
        )
    return predicted, num_cut


def _make_batch(
    group: Sequence[Mapping[str, Any]], model: Trained, max_input_len: int, batch_size: int
) -> tuple[Batch, int]:
    import numpy as np

    from hyperdecoders_jax import types
    from hyperdecoders_jax.data import feature_converter, mixtures, vocabulary

    inputs = np.zeros((batch_size, max_input_len), np.int32)
    # A row without a real token may divide by nothing; those that fill up hold an EOS.
    inputs[:, 0] = types.EOS_ID
    task_ids = np.zeros(batch_size, np.int32)
    num_cut = 0
    for row, record in enumerate(group):
        tokens = vocabulary.RUN_VOCABULARY.encode(record["inputs"])
        num_cut += len(tokens) >= max_input_len
        tokens = tokens[: max_input_len - 1]
        inputs[row, : len(tokens) + 1] = [*tokens, types.EOS_ID]
        accepts_unseen = model.config.accepts_unseen_tasks
        if model.task_names is not None and "task" in record:
            task_ids[row] = mixtures.task_number(record["task"], model.task_names, accepts_unseen)
        elif accepts_unseen:
            task_ids[row] = types.UNSEEN_TASK_ID
        else:
            raise ValueError(
                "Every record must name its task, because this model has parameters for each; "
                f'got {str(record)[:80]}. Write {{"inputs": "…", "task": "NAME"}} with one of '
                f"{model.task_names or 'a training run'}."
            )
    targets = np.zeros((batch_size, 1), np.int32)
    return feature_converter.task_batch(inputs, targets, task_ids), num_cut


if __name__ == "__main__":
    sys.exit(cli.main(["infer", *sys.argv[1:]]))
