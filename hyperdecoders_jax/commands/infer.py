"""`hyperdecoders infer`: predictions as JSON lines, of a configured run or of any folder."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import configured, flags, main

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig
    from hyperdecoders_jax.trained.text_model import ScoredText, TextReader

SUMMARY = "predict for a mixture's split, or for texts of a file or of standard input"
EPILOG = flags.EPILOG
TAKES_GIN = True
STANDARD_INPUT = "-"
# Lines of standard input that follow each other faster than this are predicted together.
MOMENT_SECS = 0.05
# Lines that are predicted together where no configuration says how many.
BATCH_SIZE = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_run(parser)
    flags.add_runner(parser)
    text = 'predict for these: lines of text or of {"inputs": …}; - is standard input'
    parser.add_argument("--input", metavar="FILE", help=text)
    text = "of --input, in place of a configuration: a training run, adapters or an exported model"
    parser.add_argument("--checkpoint", metavar="FOLDER", help=text)
    flags.add_trained(parser)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    if (args.checkpoint, args.step, args.backbone) == (None,) * 3:
        options = {} if args.runner == "t5x" else {"input_path": args.input}
        return configured.run_with_runner(args, gin_flags, lambda: infer, **options)
    _check_lines(args, gin_flags)
    flags.import_modules(args.module)
    paths = [files.at_home(path) for path in (args.checkpoint, args.backbone)]
    return infer_lines(paths[0], args.input, args.step, paths[1])


def _check_lines(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> None:
    """Checks the flags of a prediction that needs no configuration; raises UsageError."""
    own = {name: getattr(args, name) for name in ("checkpoint", "input", "step", "backbone")}
    if own["checkpoint"] is None or own["input"] is None:
        raise errors.UsageError(
            "--checkpoint and --input go together, and --step and --backbone with them; got "
            f"{' '.join(f'--{name}={value}' for name, value in own.items() if value)}. Give both, "
            "or the --model_dir of a run, whose configuration says which split is read."
        )
    defaults = vars(main.make_parser().parse_args(["infer"]))
    others = [name for name, value in vars(args).items() if value != defaults[name]]
    others = [name for name in others if name not in (*own, "module", "traceback")]
    others += [f"gin.{name}" for name, _ in gin_flags]
    if others:
        raise errors.UsageError(
            f"A model of --checkpoint is as it was trained; got --{', --'.join(others)}. Leave "
            "that out, or name the run with --model_dir, or the folder with --init."
        )


def infer(
    run: RunConfig,
    checkpoint_step: str | int | None,
    output_dir: str | None,
    input_path: str | None = None,
) -> int:
    """Writes the predictions of a checkpoint as JSON lines; returns the exit code.

    `checkpoint_step` is "best", "last" or a step; None: the parameters before training.
    `output_dir` gets TASK-SPLIT-STEP.jsonl; None: infer in the run's model directory. With
    `input_path`, a file or "-", nothing else is read, and predictions are printed.
    """
    import jax

    from hyperdecoders_jax.evaluation import predictions
    from hyperdecoders_jax.trained import opened

    if input_path is not None:
        return _infer_lines_of_run(run, checkpoint_step, input_path)
    if output_dir is None and run.model_dir is None:
        raise ValueError(
            "Predictions must be written somewhere; got neither a model directory nor "
            "INFER_OUTPUT_DIR. Name a folder with --model_dir=…, or lines with --input=FILE."
        )
    output_dir = output_dir or f"{run.model_dir}/infer"
    files.check_writable(output_dir)
    tasks = opened.make_evaluator(run, checkpoint_step)
    opened.use_vocabulary(run)
    model = opened.place(run, checkpoint_step)
    for task, predicted in tasks.predict(model.predict_fn()).items():
        if jax.process_index():
            continue
        path = f"{output_dir}/{task}-{run.evaluation.split}-{model.step}.jsonl"
        predictions.write(path, predicted)
        print(f"{len(predicted):,} predictions in {path}", file=sys.stderr)
    return 0


def _infer_lines_of_run(run: RunConfig, checkpoint_step: str | int | None, path: str) -> int:
    """Prints predictions for lines; every process of a run predicts all of them."""
    import jax

    from hyperdecoders_jax.data import vocabulary
    from hyperdecoders_jax.trained import opened, text_model

    size = run.eval_batch_size
    # Opened before anything is loaded, since loading takes a while.
    groups = read_groups(path, size, jax.process_count())
    opened.use_vocabulary(run)
    model = opened.place(run, checkpoint_step, generation=None)
    names, max_len = model.task_names or (), run.data.task_feature_lengths["inputs"]
    config = model.model.config
    reader = text_model.TextReader(config, vocabulary.RUN_VOCABULARY, names, max_len)
    predict_fn = model.predict_fn()

    def predict(texts):
        # All groups have the one shape that the devices share.
        rows = [reader.row(text, task) for text, task in texts]
        return reader.texts(rows, predict_fn(reader.batch(rows, size, reader.max_len)))

    _print_predictions(groups, predict, reader, is_printed=jax.process_index() == 0)
    return 0


def infer_lines(
    checkpoint: str, input_path: str, step: str | None = None, backbone: str | None = None
) -> int:
    """Prints the predictions of a trained model for lines as JSON lines; returns the exit code.

    `checkpoint` is any folder that `text_model.load` takes; `input_path` may be "-" for standard
    input; `step` of a run is "best" (the default), "last" or a number; `backbone` of an adapter
    folder is by default where its run had it.
    """
    from hyperdecoders_jax.trained import text_model

    # Opened before anything is loaded, since loading takes a while.
    groups = read_groups(input_path, BATCH_SIZE)
    model = text_model.load(checkpoint, backbone, step)
    predict = functools.partial(model.predict_scored, batch_size=BATCH_SIZE)
    _print_predictions(groups, predict, model.reader)
    return 0


def read_groups(path: str, size: int, process_count: int = 1) -> Iterator[Sequence[dict[str, Any]]]:
    """Reads lines of text, or of JSON with `inputs`, in groups; blank lines are left out.

    A file gives groups of `size`; standard input gives one as soon as no more is ready, so that a
    terminal is answered line by line. Raises ValueError if the file cannot be opened (at once), a
    line is no such JSON (when read), or several processes would share standard input.
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
                f'is {line[:80]!r}. Write {{"inputs": "…"}}, or text that begins with no brace.'
            ) from None
        yield record


def _print_predictions(
    groups: Iterable[Sequence[Mapping[str, Any]]],
    predict: Callable[[Sequence[tuple[str, str | None]]], Sequence[ScoredText]],
    reader: TextReader,
    is_printed: bool = True,
) -> None:
    """Prints records with `prediction` and `log_likelihood`, in one process, and the number cut."""
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
    """The task that a record names; ValueError if it names none and the model needs one."""
    if "task" not in record and not reader.config.accepts_unseen_tasks:
        raise ValueError(
            "Every record must name its task, because this model has parameters for each; got "
            f'{str(record)[:80]}. Add "task", one of {tuple(reader.task_names)}.'
        )
    return record.get("task")


if __name__ == "__main__":
    sys.exit(main.main(["infer", *sys.argv[1:]]))
