"""`hyperdecoders analyze`: what adapts a trained model's examples, measured and pictured.

    hyperdecoders analyze --checkpoint=my_run --output=my_analysis

Writes `examples.parquet` (a row for each example), `results.json`, `tables.txt`, pictures, and
`page.html`, which shows all of it. Of a run's folder only `config.json` is read.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import configured, flags, main

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig

SUMMARY = "measure and picture what adapts a trained model's examples"
EPILOG = flags.EPILOG
TAKES_GIN = True
# The extra `plots`.
PLOTTING = ("matplotlib", "plotly")
# Binds `mixing.mixture`, whose splits are made anew.
_RESPLIT_FILE = "runs/resplit.gin"
_RESPLIT_MIXTURE = "@mixing.mixture()"
# Fields of a run's `data` and the macros that they set.
_MACROS = {
    "batch_size": "BATCH_SIZE",
    "use_cached": "USE_CACHED_TASKS",
    "eval_split": "EVAL_SPLIT",
    "eval_batch_size": "EVAL_BATCH_SIZE",
    "eval_examples": "EVAL_EXAMPLES",
    "generation": "GENERATION",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_run(parser)
    text = "the model directory of a training run, under T5X, too; or an exported folder"
    parser.add_argument("--checkpoint", metavar="FOLDER", required=True, help=text)
    parser.add_argument("--output", metavar="FOLDER", required=True, help="where files are written")
    text = (
        "or task, with the splits it is registered with (default: the run's, with the run's; "
        "a part of it by --gin.mixing.mixture.tasks=TASK, files of your own by own_data)"
    )
    parser.add_argument("--mixture", metavar="NAME", help=text)
    text = "of each task, from the beginning (default: the run's EVAL_EXAMPLES)"
    parser.add_argument("--num_examples", type=int, metavar="N", help=text)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    given = what_is_analysed(args, gin_flags).first("runs/embedded/analyze.gin")
    return configured.call(args, given, lambda: analyze)(output_dir=files.at_home(args.output))


def what_is_analysed(
    args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]
) -> configured.Sources:
    """The configuration of an analysis: model and data; UsageError if either is not to be found."""
    folder = files.at_home(args.checkpoint)
    if args.model_dir is not None:
        raise errors.UsageError(
            f"analyze is told its model by --checkpoint; got --model_dir={args.model_dir}, too. "
            "Leave that out."
        )
    if "://" not in folder and not os.path.isdir(folder):
        raise errors.UsageError(
            "--checkpoint must be the model directory of a training run or an exported folder; got "
            f"{args.checkpoint}, which is no folder. Correct the path."
        )
    of_run, step = os.path.split(files.absolute(folder))
    if os.path.basename(of_run) == "checkpoints":
        raise errors.UsageError(
            "--checkpoint must be the model directory of a training run or an exported folder; got "
            f"{args.checkpoint}, one checkpoint of a run. Pass "
            f"--checkpoint={os.path.dirname(of_run)} --gin.CHECKPOINT_STEP={step}."
        )
    from hyperdecoders_jax.weights import formats, run_folder

    formats.to_path(folder)
    if run_folder.is_run(folder) or run_folder.is_undescribed(folder):
        with run_folder.fields_of_data(folder):
            values = _of_run(args, run_folder.read_file(folder).data)
    else:
        values = {}
        has_own_data = args.validation_file or args.test_file
        if args.mixture in (None, flags.OWN_MIXTURE) and not has_own_data:
            raise errors.UsageError(
                f"An exported folder does not say what to analyse it on; {args.checkpoint} holds "
                f"no {run_folder.CONFIG_FILE} of a run; --mixture and --test_file name no data. "
                "Add --mixture=NAME (hyperdecoders tasks lists them) or --test_file=FILE."
            )
    chosen = {"MIXTURE_OR_TASK_NAME": args.mixture, "EVAL_EXAMPLES": args.num_examples}
    values |= {name: repr(value) for name, value in chosen.items() if value is not None}
    if args.mixture == flags.OWN_MIXTURE:  # Registered when gin asks for its name.
        values["MIXTURE_OR_TASK_NAME"] = f"@{flags.OWN_MIXTURE}.mixture()"
    bindings = [f"{name} = {value}" for name, value in values.items()]
    given = configured.sources(args, gin_flags, folder, bindings)
    if _RESPLIT_MIXTURE in values.values():
        given = dataclasses.replace(given, gin_files=[*given.gin_files, _RESPLIT_FILE])
    return given


def _of_run(args: argparse.Namespace, data: Mapping[str, Any]) -> dict[str, str]:
    """Macros, as gin, that read what a run evaluated; the run's own files become flags."""
    values = {macro: repr(data[field]) for field, macro in _MACROS.items()}
    values["CHECKPOINT_STEP"] = repr("best")  # Of other folders there is one state alone.
    split = "validation" if args.validation_file else "test" if args.test_file else None
    if split is not None:
        values["EVAL_SPLIT"] = repr(split)
    described = {name: source for name, source in data["tasks"].items() if source}
    is_own = any(source["kind"] == flags.OWN_MIXTURE for source in described.values())
    if args.mixture is not None or (split is not None and not is_own):
        return values
    values["MIXTURE_OR_TASK_NAME"] = repr(data["mixture"])
    if is_own:
        values["MIXTURE_OR_TASK_NAME"] = f"@{flags.OWN_MIXTURE}.mixture()"
        _add_own_files(args, described)
    elif described:
        values["MIXTURE_OR_TASK_NAME"] = _RESPLIT_MIXTURE
        values["mixing.mixture.tasks"] = repr(tuple(data["tasks"]))
        splits = next(iter(described.values()))["splits"]
        # Names become gin text, which must not say more than the folder may.
        if not all(map(str.isidentifier, splits)):
            raise ValueError(
                "A run must say by names how its data are split; got "
                f"{list(splits)}. Copy its config.json again."
            )
        values |= {f"SplitConfig.{name}": repr(value) for name, value in splits.items()}
    return values


def _add_own_files(args: argparse.Namespace, described: Mapping[str, Mapping[str, Any]]) -> None:
    """Fills the flags of own data that the user did not give with those of a run."""
    given = {name for name in (*flags.OWN_FILE_FLAGS, *flags.OWN_TEXT_FLAGS) if getattr(args, name)}
    for task, source in described.items():
        values = {f"{split}_file": f"{task}={path}" for split, path in source["files"].items()}
        values |= flags.own_texts(source)
        for name, value in values.items():
            if name not in given:
                getattr(args, name).append(value)


def analyze(run: RunConfig, checkpoint_step: str | int | None, output_dir: str) -> int:
    """Analyses a checkpoint, "best", "last" or a step, on every task; returns the exit code."""
    check_plotting()
    if run.evaluation.split is None:
        raise ValueError(
            "An analysis needs a split; got EVAL_SPLIT = None, as in training. Name it with "
            "--gin.EVAL_SPLIT=validation, or files with --validation_file=FILE or --test_file=FILE."
        )
    import jax
    from etils import epath

    from hyperdecoders_jax.analysis import report, study
    from hyperdecoders_jax.trained import opened

    if jax.process_count() > 1:
        raise ValueError(
            f"An analysis must run in one process, which sees all examples; got "
            f"{jax.process_count()}. Start it on one host."
        )
    files.check_writable(output_dir, "folder of an analysis", "--output")
    tasks = opened.make_evaluator(run, checkpoint_step)
    opened.use_vocabulary(run)
    tasks.rehearse()
    model = opened.place(run, checkpoint_step)
    tell = functools.partial(print, file=sys.stderr, flush=True)
    mixture = run.data.mixture_or_task_name
    about = {
        "mixture": getattr(mixture, "name", mixture),
        "split": run.evaluation.split,
        "checkpoint": run.model_dir or run.start.initial_checkpoint_path,
        "examples of each task": run.evaluation.num_examples or "all",
        "seed": run.start.random_seed,
    }
    with files.filling(epath.Path(output_dir)) as folder:
        found = study.run(model, tasks, folder, run.eval_batch_size, tell)
        tell("Drawing …")
        report.write(folder, found, about)
    print(report.text(found, about))
    tell(f"{found.num_examples:,} examples; {output_dir}/page.html shows them.")
    return 0


def check_plotting() -> None:
    """Raises ImportError unless pictures can be made, before anything is loaded."""
    missing = [name for name in PLOTTING if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"An analysis draws with {' and '.join(PLOTTING)}; missing: {', '.join(missing)}. "
            "Install them: pip install 'hyperdecoders_jax[plots]'"
        )


if __name__ == "__main__":
    main.leave(main.main(["analyze", *sys.argv[1:]]))
