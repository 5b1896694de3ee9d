"""Predicts: a trained model and a mixture's split or lines of text in; JSON lines out.

`infer` is bound by gin_configs/runs/embedded/infer.gin; `infer_lines` needs no configuration.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from hyperdecoders_jax.commands import cli

if TYPE_CHECKING:
    from hyperdecoders_jax.decoding.decode import Generation
    from hyperdecoders_jax.trained.preparation import Trained, TrainedConfig
    from hyperdecoders_jax.trained.text_model import ScoredText, TextReader

STANDARD_INPUT = "-"
# Lines of standard input that follow each other faster than this are predicted together.
MOMENT_SECS = 0.05
# Lines that are predicted together where no configuration says how many.
BATCH_SIZE = 128


def infer(
    *,
    trained: TrainedConfig,
    mixture_or_task_name: str | None,
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
      mixture_or_task_name: what is read; the run's mixture, or any of its tasks. None: lines alone.
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

    from hyperdecoders_jax import files
    from hyperdecoders_jax.data import vocabulary
    from hyperdecoders_jax.data.pipeline import PipelineConfig
    from hyperdecoders_jax.evaluation import evaluator, predictions
    from hyperdecoders_jax.evaluation.config import EvaluationConfig
    from hyperdecoders_jax.trained import preparation, text_model

    lengths = task_feature_lengths
    batch_size = eval_batch_size or batch_size
    if input_path is not None:
        # Opened before anything is loaded, since loading takes a while.
        groups = read_groups(input_path, batch_size, jax.process_count())
        model = preparation.open_trained(trained, lengths["targets"], batch_size)
        reader = text_model.TextReader(
            model.config, vocabulary.RUN_VOCABULARY, model.task_names or (), lengths["inputs"]
        )

        def predict(texts):
            return predict_group(texts, model, reader, batch_size)

        _print_predictions(groups, predict, reader, is_printed=jax.process_index() == 0)
        return 0

    if output_dir is None and trained.model_dir is None:
        raise ValueError(
            "Predictions must be written somewhere; got neither a model directory nor "
            "INFER_OUTPUT_DIR. Name a folder with --model_dir=…, or lines with --input=FILE."
        )
    output_dir = output_dir or f"{trained.model_dir}/infer"
    files.check_writable(output_dir)
    tasks = evaluator.Evaluator(
        PipelineConfig(mixture_or_task_name, lengths, use_cached=use_cached),
        EvaluationConfig(split, batch_size, num_examples),
        preparation.task_names_of(trained),
        shard=preparation.data_shard(trained),
        accepts_unseen_tasks=trained.model.config.accepts_unseen_tasks,
    )
    model = preparation.open_trained(trained, lengths["targets"], batch_size, generation)
    for task, predicted in tasks.predict(model.predict).items():
        if jax.process_index():
            continue
        path = f"{output_dir}/{task}-{split}-{model.step}.jsonl"
        predictions.write(path, predicted)
        print(f"{len(predicted):,} predictions in {path}", file=sys.stderr)
    return 0


def infer_lines(
    checkpoint: str, input_path: str, step: str | None = None, backbone: str | None = None
) -> int:
    """Prints the predictions of a trained model for lines as JSON lines; returns the exit code.

    Args:
      checkpoint: any folder that `text_model.load` takes.
      input_path: the file of the lines, "-" for standard input.
      step: of a training run: "best", "last" or a number; None: best.
      backbone: of an adapter folder: where its T5 is; None: where the run had it.

    Raises:
      ValueError: the model or a line is no good.
    """
    from hyperdecoders_jax.trained import text_model

    # Opened before anything is loaded, since loading takes a while.
    groups = read_groups(input_path, BATCH_SIZE)
    model = text_model.load(checkpoint, backbone, step)

    def predict(texts):
        return model.predict_scored(texts, BATCH_SIZE)

    _print_predictions(groups, predict, model.reader)
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
    texts: Sequence[tuple[str, str | None]], model: Trained, reader: TextReader, batch_size: int
) -> list[ScoredText]:
    """Predicts for at most `batch_size` texts, in the one shape that the devices share.

    Args:
      texts: each with the name of its task, or None.
      model: on its devices.
      reader: of its texts.
      batch_size: rows of its batches.
    """
    rows = [reader.row(text, task) for text, task in texts]
    return reader.texts(rows, model.predict(reader.batch(rows, batch_size, reader.max_len)))


def _print_predictions(
    groups: Iterable[Sequence[Mapping[str, Any]]],
    predict: Callable[[Sequence[tuple[str, str | None]]], Sequence[ScoredText]],
    reader: TextReader,
    is_printed: bool = True,
) -> None:
    """Prints each record with `prediction` and `log_likelihood`, and how many inputs were cut.

    Every process of a run predicts all lines; the first one prints.
    """
    num_read = num_cut = 0
    for group in groups:
        predicted = predict([(record["inputs"], task_of(record, reader)) for record in group])
        num_read, num_cut = num_read + len(group), num_cut + sum(x.is_cut for x in predicted)
        for record, scored in zip(group, predicted, strict=True) if is_printed else ():
            made = {"prediction": scored.text, "log_likelihood": scored.log_likelihood}
            print(json.dumps({**record, **made}, ensure_ascii=False), flush=True)
    if num_cut and is_printed:
        print(
            f"{num_cut:,} of {num_read:,} inputs are longer than {reader.max_len} tokens and were "
            "cut; TASK_FEATURE_LENGTHS of the training sets the length.",
            file=sys.stderr,
        )


def task_of(record: Mapping[str, Any], reader: TextReader) -> str | None:
    """The task that a record names.

    Raises:
      ValueError: it names none, and the model has parameters for each.
    """
    if "task" not in record and not reader.config.accepts_unseen_tasks:
        raise ValueError(
            "Every record must name its task, because this model has parameters for each; "
            f'got {str(record)[:80]}. Write {{"inputs": "…", "task": "NAME"}} with one of '
            f"{tuple(reader.task_names)}."
        )
    return record.get("task")


if __name__ == "__main__":
    sys.exit(cli.main(["infer", *sys.argv[1:]]))
