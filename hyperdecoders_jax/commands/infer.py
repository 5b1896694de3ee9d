"""`hyperdecoders infer`: predictions as JSON lines, of a configured run or of any folder."""

from __future__ import annotations

import argparse
import collections
import functools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import (
    configured,
    flags,
    input_lines,
    main,
)
from hyperdecoders_jax.data import row_files

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig
    from hyperdecoders_jax.trained.text_model import ScoredText, TextReader

SUMMARY = "predict for a mixture's split, or for texts of a file or of standard input"
EPILOG = flags.EPILOG
TAKES_GIN = True
# Lines that are predicted together where no configuration says how many.
BATCH_SIZE = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_run(parser)
    flags.add_runner(parser)
    text = (
        'predict for these: lines of text or of {"inputs": …}, a .csv or .tsv; - is standard input '
        "(default: a mixture's split)"
    )
    parser.add_argument("--input", metavar="FILE", help=text)
    text = "a column of own files that comes back with each prediction, as id always does"
    flags.add_list(parser, "--keep", text, "COLUMN")
    text = (
        "of --input, in place of a configuration: a training run, adapters or an exported model "
        "(default: the configuration's)"
    )
    parser.add_argument("--checkpoint", metavar="FOLDER", help=text)
    flags.add_trained(parser)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    own_files = [file for flag in flags.OWN_FILE_FLAGS for file in getattr(args, flag)]
    if args.input is not None and own_files:
        raise errors.UsageError(
            f"infer must be told one thing to predict for; got --input={args.input} and "
            f"{', '.join(own_files)}. Leave one of them out."
        )
    if (args.checkpoint, args.step, args.backbone) == (None,) * 3:
        options = {"input_path": args.input, "quoting": args.quoting, "keep": args.keep}
        options = {} if args.runner == "t5x" else options
        return configured.run_with_runner(args, gin_flags, lambda: infer, **options)
    _check_lines(args, gin_flags)
    flags.check_quoting(args.quoting, [args.input])
    flags.import_modules(args.module)
    configured.prepare_devices(args)
    paths = [files.at_home(path) for path in (args.checkpoint, args.backbone)]
    lines = input_lines.open_input(args.input, args.quoting, args.keep)
    return infer_lines(paths[0], lines, args.step, paths[1])


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
    of_lines = ("compilation_cache_dir", "module", "traceback", "quoting", "keep")
    others = [name for name in others if name not in (*own, *of_lines)]
    others += [f"gin.{name}".removeprefix("gin.--") for name, _ in gin_flags]
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
    quoting: str | None = None,
    keep: Sequence[str] = (),
) -> int:
    """Writes the predictions of a checkpoint as JSON lines; returns the exit code.

    `checkpoint_step` is "best", "last" or a step; None: the parameters before training.
    `output_dir` gets TASK-SPLIT-STEP.jsonl; None: infer in the run's model directory. With
    `input_path`, a file or "-", nothing else is read, and predictions are printed; `quoting` is of
    that file. `keep` names columns that come back with predictions.
    """
    import jax

    from hyperdecoders_jax.evaluation import predictions
    from hyperdecoders_jax.trained import opened

    if input_path is not None:
        # Opened before anything is loaded, since loading takes a while.
        lines = input_lines.open_input(input_path, quoting, keep, jax.process_count())
        return _infer_lines_of_run(run, checkpoint_step, lines)
    if output_dir is None and run.model_dir is None:
        raise ValueError(
            "Predictions must be written somewhere; got neither a model directory nor "
            "INFER_OUTPUT_DIR. Name a folder with --model_dir=…, or lines with --input=FILE."
        )
    output_dir = output_dir or f"{run.model_dir}/infer"
    files.check_writable(output_dir)
    kept = _kept_columns(run, keep)
    tasks = opened.make_evaluator(run, checkpoint_step)
    opened.use_vocabulary(run)
    model = opened.place(run, checkpoint_step)
    for task, predicted in tasks.predict(model.predict_fn()):
        if jax.process_index():
            collections.deque(predicted, maxlen=0)  # Takes its part in making them.
            continue
        path = f"{output_dir}/{task}-{run.evaluation.split}-{model.step}.jsonl"
        count = predictions.write(path, predicted, kept.get(task, ()))
        print(f"{count:,} predictions in {path}", file=sys.stderr)
    return 0


def _kept_columns(run: RunConfig, keep: Sequence[str]) -> dict[str, Iterator[str]]:
    """JSON objects of what comes back with each prediction, for the tasks of own files.

    They are read here, not as predictions are written: the file may be another one by then.

    Raises:
        ValueError: a column of `keep` is missing, or a task has no columns.
    """
    import dataclasses

    from hyperdecoders_jax.data import mixtures
    from hyperdecoders_jax.data.packed_records import PackedRecords
    from hyperdecoders_jax.evaluation import predictions

    own = {field.name for field in dataclasses.fields(predictions.Prediction)}
    if taken := own.intersection(keep):
        raise ValueError(
            f"--keep must name columns that predictions do not have; got {', '.join(taken)}, and "
            f"they have {', '.join(sorted(own))}. Rename that column in the file."
        )
    split, kept = run.evaluation.split, {}
    for task in mixtures.leaf_tasks(run.data.mixture_or_task_name, split, run.data.use_cached):
        has_rows = hasattr(task.source, "rows") and not run.data.use_cached
        if keep and not has_rows:
            raise ValueError(
                f"--keep must go with own files, whose columns it names; task {task.name!r} is "
                "read from others. Name a --test_file=FILE, or leave --keep out."
            )
        if has_rows:
            rows = PackedRecords(_columns(task.source, split, keep))
            kept[task.name] = (row["json"] for row in rows)
    return kept


def _columns(source: Any, split: str, keep: Sequence[str]) -> Iterator[dict[str, str]]:
    (path,) = source.list_shards(split)
    for number, row in source.rows(split):
        columns = input_lines.columns(row, f"line {number} of {path}", keep)
        yield {"json": row_files.to_json(columns)}


def _infer_lines_of_run(
    run: RunConfig, checkpoint_step: str | int | None, lines: input_lines.Input
) -> int:
    """Prints predictions for lines; every process of a run predicts all of them."""
    import jax

    from hyperdecoders_jax.data import vocabulary
    from hyperdecoders_jax.trained import opened, text_model

    size = run.eval_batch_size
    opened.use_vocabulary(run)
    model = opened.place(run, checkpoint_step, generation=None)
    names, max_len = model.task_names or (), run.data.task_feature_lengths["inputs"]
    config = model.model.config
    reader = text_model.TextReader(config, vocabulary.RUN_VOCABULARY, names, max_len)
    predict_fn = model.predict_fn()

    def predict(texts):
        # All groups have the one shape that the devices share.
        rows = reader.rows(texts)
        return reader.texts(rows, predict_fn(reader.batch(rows, size, reader.max_len)))

    groups = lines.groups(size, _task_check(reader))
    _print_predictions(groups, predict, reader, is_printed=jax.process_index() == 0)
    return 0


def infer_lines(
    checkpoint: str,
    lines: input_lines.Input,
    step: str | None = None,
    backbone: str | None = None,
) -> int:
    """Prints the predictions of a trained model for lines as JSON lines; returns the exit code.

    `checkpoint` is any folder that `text_model.load` takes; `step` of a run is "best" (the
    default), "last" or a number; `backbone` of an adapter folder is by default where its run had
    it.
    """
    from hyperdecoders_jax.trained import text_model

    model = text_model.load(checkpoint, backbone, step)
    predict = functools.partial(model.predict_scored, batch_size=BATCH_SIZE)
    groups = lines.groups(BATCH_SIZE, _task_check(model.reader))
    _print_predictions(groups, predict, model.reader)
    return 0


def _print_predictions(
    groups: Iterator[Sequence[Mapping[str, Any]]],
    predict: Callable[[Sequence[tuple[str, str | None]]], Sequence[ScoredText]],
    reader: TextReader,
    is_printed: bool = True,
) -> None:
    """Prints records with `prediction` and `log_likelihood`, in one process, and what to know."""
    num_read = num_cut = num_nan = 0
    for group in groups:
        predicted = predict([(record["inputs"], record.get("task")) for record in group])
        num_read, num_cut = num_read + len(group), num_cut + sum(x.is_cut for x in predicted)
        for record, scored in zip(group, predicted, strict=True) if is_printed else ():
            is_finite = math.isfinite(scored.log_likelihood)
            num_nan += not is_finite
            # JSON has no NaN.
            log_likelihood = scored.log_likelihood if is_finite else None
            made = {input_lines.PREDICTION: scored.text, input_lines.LOG_LIKELIHOOD: log_likelihood}
            print(row_files.to_json({**record, **made}), flush=True)
    if num_cut and is_printed:
        print(
            f"{num_cut:,} of {num_read:,} inputs are longer than {reader.max_len} tokens and were "
            "cut; TASK_FEATURE_LENGTHS of the training sets the length.",
            file=sys.stderr,
        )
    if num_nan:
        print(
            f"{num_nan:,} of {num_read:,} log-likelihoods are no numbers and printed as null; the "
            "model's parameters may hold NaN.",
            file=sys.stderr,
        )


def _task_check(reader: TextReader) -> input_lines.Check | None:
    """Refuses a record without a task of the model, where the model needs one."""
    if reader.config.accepts_unseen_tasks:
        return None
    names = tuple(reader.task_names)

    def check(record: Mapping[str, Any], where: str) -> None:
        task = record.get("task")
        if task not in names:
            raise ValueError(
                "Every record must name its task, because this model has parameters for each; "
                f"{where} has {task!r}.{errors.suggestion(str(task), names)} "
                f'Add "task", one of {names}.'
            )

    return check


if __name__ == "__main__":
    main.leave(main.main(["infer", *sys.argv[1:]]))
