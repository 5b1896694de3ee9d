"""The command line: arguments in, a command run, an exit code out.

`hyperdecoders train …` and `python -m hyperdecoders_jax.train …` are the same. Flags are T5X's
(`--gin_file`, `--gin.NAME=VALUE`, `--gin_bindings`, `--gin_search_paths`, `--tfds_data_dir`,
`--seqio_additional_cache_dirs`), and two that save quotes: `--model_dir` and `--vocabulary`.
Everything heavy is imported by the command that needs it, so `--help` costs neither jax nor
TensorFlow.

Exit codes: 0 done, also after SIGTERM; 1 doctor found a conflict, or an unexpected error; 2 the
command line, the configuration, the data or the training cannot go on, and the message says why.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import itertools
import os
import pkgutil
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hyperdecoders_jax import errors, files

# Task modules that are imported unless --module names others.
TASKS_PACKAGE = "hyperdecoders_jax.tasks"
# Written into the model directory by train; eval and infer read it when no gin file is given.
SAVED_CONFIG = "config.gin"

# Macros that hold paths of this machine, or of a bucket.
PATH_MACROS = (
    "MODEL_DIR",
    "INITIAL_CHECKPOINT_PATH",
    "CHECKPOINT_PATH",
    "ADAPTERS_PATH",
    "VOCABULARY",
    "EVAL_OUTPUT_DIR",
    "INFER_OUTPUT_DIR",
)

# What --init sets where an experiment says nothing.
INIT_FILE = "runs/init.gin"

# Flags of own data, repeatable, and the macros that they set; this file reads these macros.
OWN_DATA_FILE = "mixtures/own_data.gin"
OWN_MIXTURE = "own_data"
OWN_FILE_FLAGS = {
    "train_file": "TRAIN_FILES",
    "validation_file": "VALIDATION_FILES",
    "test_file": "TEST_FILES",
}
OWN_TEXT_FLAGS = {
    "inputs_template": "INPUTS_TEMPLATES",
    "targets_template": "TARGETS_TEMPLATES",
    "metric": "METRICS",
}

RUN_EPILOG = """\
gin files are searched in this folder, in --gin_search_paths, and in the package's own gin_configs.

  --gin.NAME=VALUE          sets a macro (TRAIN_STEPS, BATCH_SIZE, MODEL_DIR, …) or a parameter
                            (--gin.LossConfig.z_loss=1e-4, or within a gin scope
                            --gin.decoder/AdapterConfig.norm_input=True);
                            what is no gin literal is a string, no inner quotes are needed
"""

CONVERT_EPILOG = """\
formats:
  hugging_face     a folder with config.json, safetensors or pytorch_model.bin, or a hub id
  original         a folder of the original Hyperdecoders: config.json and pytorch_model.bin
  t5x, t5x_orbax   a folder with checkpoint_<step> in it, T5X's own layout or Orbax's
  safetensors      parameters in the package's names: FILE.safetensors, or a folder of shards
  run              to read: the model directory of a training run, under T5X, too
  adapters         a folder of what a run trained, for hyperdecoders_jax.load; to write, from a run

Without FORMAT the files of --from tell it.
"""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that a gin configuration binds.

    Attributes:
      function: of `hyperdecoders_jax.<module>`, called with what gin binds.
      run_file: binds it; read first where no given file includes it.
    """

    module: str
    function: str
    run_file: str
    summary: str


COMMANDS = {
    "train": Command(
        "hyperdecoders_jax.commands.train",
        "train",
        "runs/embedded/train.gin",
        "train a model, evaluate it as it learns, keep checkpoints; continue where it stopped",
    ),
    "eval": Command(
        "hyperdecoders_jax.commands.eval",
        "evaluate",
        "runs/embedded/eval.gin",
        "evaluate a checkpoint on every task of a mixture",
    ),
    "infer": Command(
        "hyperdecoders_jax.commands.infer",
        "infer",
        "runs/embedded/infer.gin",
        "predict for a mixture's split, or for texts of a file or of standard input",
    ),
    "analyze": Command(
        "hyperdecoders_jax.commands.analyze",
        "analyze",
        "runs/embedded/analyze.gin",
        "measure and picture what adapts a trained model's examples",
    ),
    "params": Command(
        "hyperdecoders_jax.commands.params",
        "report",
        "runs/embedded/params.gin",
        "count trained and frozen parameters and a checkpoint's bytes, without making them",
    ),
}

# Who runs a command: the package itself, or T5X.
RUNNERS = ("embedded", "t5x")
T5X_LAUNCHER = "hyperdecoders_jax.t5x.launch"
# An experiment's macros are set for these; other commands need not read them all.
TRAIN_FILES = tuple(f"runs/{runner}/train.gin" for runner in RUNNERS)
# What the configuration of a run under T5X binds, and who reads its checkpoints does not need.
T5X_MODULES = ("__main__", "t5x", "hyperdecoders_jax.t5x")


def make_parser() -> argparse.ArgumentParser:
    """All commands and flags but `--gin.NAME=VALUE`, whose names are open."""
    parser = argparse.ArgumentParser(
        prog="hyperdecoders",
        description="Instance-specific adaptation of T5 for many tasks at once.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        run = commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=RUN_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_run_arguments(run)
        if name == "analyze":
            _add_analyze_arguments(run)
        elif name != "params":
            run.add_argument(
                "--runner",
                choices=RUNNERS,
                default=RUNNERS[0],
                help="t5x: T5X runs it, with the same gin files (default: the package's own)",
            )
            run.add_argument(
                "--init",
                metavar="FOLDER",
                help="an exported folder, or any T5 with its tokenizer's files: its parameters, "
                "and all that no gin file says of the model, its vocabulary, tasks and lengths",
            )
        if name == "infer":
            run.add_argument(
                "--input",
                metavar="FILE",
                help='predict for these: lines of text or of {"inputs": …}; - is standard input',
            )
            run.add_argument(
                "--checkpoint",
                metavar="FOLDER",
                help="of --input, in place of a configuration: the folder of a training run, of "
                "its adapters, or of an exported model",
            )
            run.add_argument(
                "--step", help="of a run in --checkpoint: best (the default), last or a number"
            )
            run.add_argument(
                "--backbone",
                metavar="PATH",
                help="of adapters in --checkpoint: the T5 that they adapt, if it was moved",
            )
    tasks = commands.add_parser(
        "tasks",
        help="list tasks and mixtures; show examples of one; prepare or cache its data",
        description="Lists the registered tasks and mixtures, shows three examples of one, or "
        "brings its data here: nothing else downloads any.",
    )
    tasks.add_argument("name", nargs="?", help="a task or mixture, of which examples are shown")
    tasks.add_argument(
        "--prepare", metavar="NAME", help="download and write all that a task or mixture reads"
    )
    tasks.add_argument(
        "--cache", metavar="NAME", help="write the text of a task or mixture as SeqIO's cache"
    )
    tasks.add_argument("--cache_dir", metavar="FOLDER", help="where --cache writes")
    tasks.add_argument(
        "--split", help="where examples are taken from (default: the first there is)"
    )
    tasks.add_argument(
        "--module",
        action="append",
        default=[],
        help=f"a module that registers tasks; repeatable (default: all of {TASKS_PACKAGE})",
    )
    _add_data_arguments(tasks)
    _add_convert_arguments(
        commands.add_parser(
            "convert",
            help="convert weights between formats",
            description="Converts weights; says what became of every array, or writes nothing.",
            epilog=CONVERT_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    _add_export_arguments(
        commands.add_parser(
            "export",
            help="write a trained model as a folder of Hugging Face, ready to publish",
            description="Writes config.json, weights, the files of a tokenizer, "
            "generation_config.json and a model card. A model that nothing adapts is a plain T5; "
            "others need the classes of hyperdecoders_jax.interop.",
        )
    )
    commands.add_parser(
        "gin-path",
        help="print the folder of the package's gin files",
        description="Prints the folder of the package's gin files, for T5X: "
        "python -m t5x.train --gin_search_paths=$(hyperdecoders gin-path) …",
    )
    commands.add_parser(
        "doctor",
        help="print versions, devices, free memory and disk, known conflicts",
        description="Prints the state of the installation; exits with 1 if a conflict is found.",
    )
    return parser


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gin_file", action="append", default=[], metavar="FILE", help="a gin file; repeatable"
    )
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        metavar="'NAME = VALUE'",
        help="one gin binding, bound after all files; repeatable",
    )
    parser.add_argument(
        "--gin_search_paths",
        action="append",
        default=[],
        metavar="FOLDERS",
        help="folders that are searched for gin files, separated by commas; repeatable",
    )
    parser.add_argument("--model_dir", metavar="FOLDER", help="the same as --gin.MODEL_DIR=…")
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        help="a module that registers tasks or adapter sources, imported first; repeatable",
    )
    _add_own_data_arguments(parser)
    for name, text in (
        ("coordinator_address", "HOST:PORT of process 0, for a run of several processes"),
        ("process_count", "how many processes run"),
        ("process_index", "which of them this is, from 0"),
    ):
        kind = str if name == "coordinator_address" else int
        parser.add_argument(f"--{name}", type=kind, metavar=name.split("_")[1].upper(), help=text)
    parser.add_argument(
        "--multiprocess",
        action="store_true",
        help="join the other processes as the cluster tells (TPU pods, Slurm)",
    )
    _add_data_arguments(parser)


def _add_analyze_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        metavar="FOLDER",
        required=True,
        help="the model directory of a training run, under T5X, too; or an exported folder",
    )
    parser.add_argument("--output", metavar="FOLDER", required=True, help="where files are written")
    parser.add_argument(
        "--mixture",
        metavar="NAME",
        help="or task, with the splits it is registered with (default: the run's, with the run's; "
        "a part of it by --gin.mixing.mixture.tasks=TASK, files of your own by own_data)",
    )
    parser.add_argument(
        "--num_examples",
        type=int,
        metavar="N",
        help="of each task, from the beginning (default: the run's EVAL_EXAMPLES)",
    )


def _add_own_data_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "own data",
        "Each --train_file is a task. The others are given for each task in the same order; one\n"
        "template or metric may serve all. eval and infer know those of a run. All are repeatable.",
    )
    file = "a .jsonl, .csv or .tsv, or one of them with .gz; NAME= names the task"
    for flag, name, text in (
        ("train_file", "[NAME=]FILE", file),
        ("validation_file", "[NAME=]FILE", "likewise; without, nothing is evaluated"),
        ("test_file", "[NAME=]FILE", "likewise; for eval and infer, which then read it"),
        ("inputs_template", "TEXT", "what is read of a row: 'mail: {text}' (default: '{inputs}')"),
        ("targets_template", "TEXT", "what is to be answered: '{label}' (default: '{targets}')"),
        ("metric", "NAMES", "of tasks/metrics.py, separated by commas (default: accuracy)"),
    ):
        group.add_argument(f"--{flag}", action="append", default=[], metavar=name, help=text)


def _add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    for flag, name, text in (
        ("--from", "[FORMAT:]PATH", "weights, or a hub id such as google/t5-v1_1-small"),
        ("--to", "FORMAT:PATH", "where nothing is yet"),
    ):
        destination = {"--from": "source", "--to": "target"}[flag]
        parser.add_argument(flag, dest=destination, metavar=name, required=True, help=text)
    parser.add_argument(
        "--vocab_size",
        type=int,
        metavar="N",
        help="rows for tokens (default: as many as there are)",
    )
    parser.add_argument("--dtype", help="float32 or bfloat16 (default: as they are)")
    parser.add_argument(
        "--fold", action="store_true", help="make gates a part of the kernels that they scale"
    )
    parser.add_argument(
        "--task", metavar="NAME", help="whose gates to fold, where each task has its own"
    )
    parser.add_argument("--step", help="of a run: best (the default), last or a number")
    parser.add_argument(
        "--backbone", metavar="PATH", help="of adapters: the T5 that they adapt, if it was moved"
    )
    for flag, name, text in (
        (
            "--gin_file",
            "FILE",
            "the model of the weights, where their files do not tell; repeatable",
        ),
        ("--gin_search_paths", "FOLDERS", "folders that are searched for gin files; repeatable"),
    ):
        parser.add_argument(flag, action="append", default=[], metavar=name, help=text)
    _add_source_module(parser)
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")


def _add_source_module(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        help="a module that registers the model's adapter source; repeatable",
    )


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        metavar="FOLDER",
        required=True,
        help="the model directory of a training run, under T5X, too; an adapter folder; or an "
        "exported folder",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        required=True,
        help="where nothing is yet; a README.md and hidden files, as in a clone of the hub's "
        "repository, may be there and stay",
    )
    parser.add_argument(
        "--format",
        dest="formats",
        type=lambda text: list(dict.fromkeys(text.split(","))),
        default=["flax"],
        metavar="NAMES",
        help="of the weights: flax (the default), safetensors for PyTorch, or both with a comma",
    )
    parser.add_argument("--step", help="of a run: best (the default), last or a number")
    parser.add_argument(
        "--backbone", metavar="PATH", help="of adapters: the T5 that they adapt, if it was moved"
    )
    parser.add_argument(
        "--fold",
        action=argparse.BooleanOptionalAction,
        help="make gates a part of the kernels that they scale (default: if they are the same for "
        "all examples and all that adapts the T5)",
    )
    parser.add_argument(
        "--task", metavar="NAME", help="whose gates to fold, where each task has its own"
    )
    parser.add_argument(
        "--dtype", default="float32", help="of the weights: float32 (the default) or bfloat16"
    )
    _add_source_module(parser)
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vocabulary",
        metavar="PATH",
        help="a spiece.model, a Hugging Face T5 folder, a URL, or 'bytes'",
    )
    parser.add_argument(
        "--tfds_data_dir", metavar="FOLDER", help="where TensorFlow Datasets keeps its data"
    )
    parser.add_argument(
        "--data_dir",
        metavar="FOLDER",
        help="where data are that TFDS does not have: FOLDER/TASK/SPLIT.jsonl",
    )
    parser.add_argument(
        "--seqio_additional_cache_dirs",
        action="append",
        default=[],
        metavar="FOLDERS",
        help="where USE_CACHED_TASKS looks for caches, separated by commas; repeatable",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error was raised")


def split_gin_flags(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Separates `--gin.NAME=VALUE` from all other arguments.

    >>> split_gin_flags(["train", "--gin.TRAIN_STEPS=3", "--gin_file=a.gin"])
    (['train', '--gin_file=a.gin'], [('TRAIN_STEPS', '3')])

    Raises:
      UsageError: a flag has no `=VALUE`.
    """
    others, flags = [], []
    for argument in arguments:
        if not argument.startswith("--gin."):
            others.append(argument)
            continue
        name, is_there, value = argument.removeprefix("--gin.").partition("=")
        if not is_there or not name.strip():
            raise errors.UsageError(
                f"A gin flag must be --gin.NAME=VALUE; got {argument!r}. Write the value after "
                f"'=', without a space."
            )
        flags.append((name.strip(), value))
    return others, flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # TensorFlow reads data only; what it says at its start concerns nobody here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Modules in this folder, for --module and for imports of gin files, as under `python -m`. Last,
    # so that they hide nothing.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        others, gin_flags = split_gin_flags(arguments)
    except errors.UsageError as error:
        print(f"hyperdecoders: error: {error}", file=sys.stderr)
        return 2
    args = make_parser().parse_args(others)
    if gin_flags and args.command not in COMMANDS:
        print(
            f"hyperdecoders: error: Gin flags belong to {', '.join(COMMANDS)}; {args.command} got "
            f"--gin.{gin_flags[0][0]}. Leave it out (hyperdecoders {args.command} --help shows "
            "what it takes).",
            file=sys.stderr,
        )
        return 2
    if args.command == "gin-path":
        from hyperdecoders_jax.config import gin_files

        print(gin_files.package_config_folder())
        return 0
    if args.command == "doctor":
        return _call("hyperdecoders_jax.commands.doctor", "report")
    if args.command == "convert":
        return _guarded(lambda: convert(args), is_traceback_shown=args.traceback)
    if args.command == "export":
        return _guarded(lambda: export(args), is_traceback_shown=args.traceback)
    if args.command == "tasks":
        return _guarded(lambda: show_tasks(args), is_traceback_shown=args.traceback)
    return _guarded(lambda: run(args, gin_flags), is_traceback_shown=args.traceback)


def _call(module: str, function: str, *args: Any, **kwargs: Any) -> Any:
    # By name: the entry points import this module, not the other way round.
    return getattr(importlib.import_module(module), function)(*args, **kwargs)


def _guarded(call: Callable[[], int], is_traceback_shown: bool) -> int:
    """Runs `call`; an error that a user can mend is told without the stack above it."""
    try:
        return call()
    except BrokenPipeError:  # The reader of our output, such as `head`, is gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, KeyError, OSError, TypeError, ImportError) as error:
        is_defect = isinstance(error, TypeError | ImportError) and not errors.is_own(error)
        if is_traceback_shown or is_defect:
            raise
        print(f"hyperdecoders: error: {errors.message_of(error)}", file=sys.stderr)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
        print(f"(raised at {place}; --traceback shows the way there)", file=sys.stderr)
        return 2


# ---------------------------------------------------------------- train, eval, infer


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Configures and calls the command of `args`; returns its exit code."""
    if args.command == "infer" and (args.checkpoint, args.step, args.backbone) != (None,) * 3:
        return infer_lines(args, gin_flags)
    import gin

    from hyperdecoders_jax.config import gin_binding
    from hyperdecoders_jax.config.gin_files import check_macros, read, unread_macros

    command = COMMANDS[args.command]
    gin_files, bindings, search_paths = what_is_given(args, gin_flags)
    run_file = command.run_file
    if args.command == "params":
        gin_files = with_run_file(gin_files, run_file, search_paths)
        return count_parameters(args, gin_files, bindings, search_paths)
    is_t5x = getattr(args, "runner", None) == "t5x"
    if is_t5x:
        run_file = f"runs/t5x/{args.command}.gin"
        check_t5x(args)
    gin_files = with_run_file(gin_files, run_file, search_paths)
    # Mistakes that the text alone shows are told before anything heavy is imported.
    text = read(gin_files, bindings, search_paths)
    check_macros(text, TRAIN_FILES)
    if args.command == "train":
        for macro in unread_macros(text):
            print(f"Not read by this runner: {macro}", file=sys.stderr)
    join_processes(args)
    start_tensorflow()
    if is_t5x:
        function = _call(T5X_LAUNCHER, "script", args.command)
    else:
        function = getattr(importlib.import_module(command.module), command.function)
    config_text = gin_binding.parse(
        text,
        function,
        # What a training run was started with may be said again to eval and infer.
        are_macros_checked=args.command == "train",
        readers=TRAIN_FILES,
        skipped_modules=() if is_t5x or args.command == "train" else T5X_MODULES,
    )
    set_data_folders(args)
    import_modules(args.module)
    call = gin.get_configurable(function)
    if is_t5x:
        return _call(T5X_LAUNCHER, "run", call)
    options = {}
    if args.command == "infer":
        options = {"input_path": args.input}
    elif args.command == "analyze":
        options = {"output_dir": files.at_home(args.output)}
    return call(config_text=config_text, **options) or 0


def infer_lines(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Predicts with the model of --checkpoint, which needs no configuration.

    Raises:
      UsageError: a flag is missing, or one that belongs to a configuration is there.
    """
    own = {name: getattr(args, name) for name in ("checkpoint", "input", "step", "backbone")}
    if own["checkpoint"] is None or own["input"] is None:
        raise errors.UsageError(
            "--checkpoint and --input go together, and --step and --backbone with them; got "
            f"{' '.join(f'--{name}={value}' for name, value in own.items() if value)}. Give both, "
            "or the --model_dir of a run, whose configuration says which split is read."
        )
    defaults = vars(make_parser().parse_args(["infer"]))
    others = [name for name, value in vars(args).items() if value != defaults[name]]
    others = [name for name in others if name not in (*own, "module", "traceback")]
    others += [f"gin.{name}" for name, _ in gin_flags]
    if others:
        raise errors.UsageError(
            f"A model of --checkpoint is as it was trained; got --{', --'.join(others)}. Leave "
            "that out, or name the run with --model_dir, or the folder with --init."
        )
    import_modules(args.module)
    return _call(
        "hyperdecoders_jax.commands.infer",
        "infer_lines",
        files.at_home(args.checkpoint),
        args.input,
        args.step,
        files.at_home(args.backbone),
    )


def what_is_given(
    args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]
) -> tuple[list[str], list[str], list[str]]:
    """The gin files, bindings and searched folders that the flags of a run mean."""
    from hyperdecoders_jax.config.gin_files import to_binding

    args.model_dir = files.at_home(args.model_dir)
    args.vocabulary = files.at_home(args.vocabulary)
    search_paths = [
        files.at_home(part) for item in args.gin_search_paths for part in item.split(",")
    ]
    gin_files, start = [files.at_home(file) for file in args.gin_file], []
    if args.command == "analyze":
        start = analyze_bindings(args)
    if getattr(args, "init", None) is not None:
        gin_files = [INIT_FILE, *gin_files]
        start += start_bindings(args)
    gin_files = gin_files or [_saved_config(args)]
    gin_files, bindings = add_own_data(args, gin_files, search_paths)
    bindings += start
    bindings += [
        to_binding(name, files.at_home(value) if name in PATH_MACROS else value)
        for name, value in gin_flags
    ]
    bindings += args.gin_bindings
    if args.model_dir is not None:
        bindings.append(f"MODEL_DIR = {args.model_dir!r}")
    if args.vocabulary is not None:
        bindings.append(f"VOCABULARY = {args.vocabulary!r}")
    return gin_files, bindings, search_paths


def analyze_bindings(args: argparse.Namespace) -> list[str]:
    """What the flags of analyze set; finds out what --checkpoint holds.

    Raises:
      UsageError: it holds nothing, or an exported model without --mixture, or --model_dir is given.
    """
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
    is_run = os.path.exists(os.path.join(folder, SAVED_CONFIG)) or "://" in folder
    of_run, step = os.path.split(files.absolute(folder))
    if not is_run and os.path.basename(of_run) == "checkpoints":
        raise errors.UsageError(
            "--checkpoint must be the model directory of a training run or an exported folder; got "
            f"{args.checkpoint}, one checkpoint of a run. Pass "
            f"--checkpoint={os.path.dirname(of_run)} --gin.CHECKPOINT_STEP={step}."
        )
    has_own_data = args.validation_file or args.test_file
    if not is_run and args.mixture in (None, OWN_MIXTURE) and not has_own_data:
        raise errors.UsageError(
            f"An exported folder does not say what to analyse it on; {args.checkpoint} holds no "
            f"{SAVED_CONFIG} of a training run, and --mixture and --test_file name no data. Add "
            "--mixture=NAME (hyperdecoders tasks lists them), or a file of yours: --test_file=FILE."
        )
    args.model_dir, args.init = (folder, None) if is_run else (None, folder)
    given = {"MIXTURE_OR_TASK_NAME": args.mixture, "EVAL_EXAMPLES": args.num_examples}
    values = {name: repr(value) for name, value in given.items() if value is not None}
    if args.mixture == OWN_MIXTURE:  # Registered when gin asks for its name.
        values["MIXTURE_OR_TASK_NAME"] = f"@{OWN_MIXTURE}.mixture()"
    return [f"{name} = {value}" for name, value in values.items()]


def start_bindings(args: argparse.Namespace) -> list[str]:
    """What --init sets: where parameters are, and that eval and infer take them as they are."""
    path = files.at_home(args.init)
    if os.path.exists(path):  # Else a hub id or a URL.
        path = files.absolute(path)
    bindings = [f"INITIAL_CHECKPOINT_PATH = {path!r}"]
    return bindings if args.command == "train" else [*bindings, "CHECKPOINT_STEP = None"]


def check_t5x(args: argparse.Namespace) -> None:
    """Checks, before anything heavy is imported, that T5X can run a command.

    Raises:
      ImportError: T5X is not installed; says how to do it.
      UsageError: a flag means something for our own runner alone.
    """
    from hyperdecoders_jax import t5x_install

    t5x_install.check()
    if getattr(args, "input", None) is not None:
        raise errors.UsageError(
            "T5X predicts for a mixture's split; got --input with --runner=t5x. Leave one of them "
            "out: the package's own runner reads checkpoints of T5X, too."
        )
    if args.command != "train" and args.init is not None:
        raise errors.UsageError(
            f"T5X evaluates and predicts with its own checkpoints; got --init={args.init} with "
            "--runner=t5x. Leave out the runner, or make a checkpoint: hyperdecoders convert "
            f"--from={args.init} --to=t5x:FOLDER"
        )


def count_parameters(
    args: argparse.Namespace,
    gin_files: Sequence[str],
    bindings: Sequence[str],
    search_paths: Sequence[str],
) -> int:
    """Configures and calls `params`, without what trains and reads data.

    TensorFlow and the modules of tasks are imported only if tasks must be counted.
    """
    # Shapes need no device, and the accelerator may be another process's.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import gin

    from hyperdecoders_jax.config import gin_binding, gin_checks, gin_statements
    from hyperdecoders_jax.config.gin_files import read

    command = COMMANDS["params"]
    function = getattr(importlib.import_module(command.module), command.function)
    gin_binding.parse(
        read(gin_files, bindings, search_paths),
        function,
        are_macros_checked=False,
        is_all_bound=False,
        readers=TRAIN_FILES,
    )

    def register_tasks():
        start_tensorflow()
        text = read(gin_files, (), search_paths)
        gin_checks.import_modules(gin_statements.skip_modules(text, T5X_MODULES))

    # Those of the package register no adapter source, and cost TensorFlow's import.
    skipped = (*T5X_MODULES, "hyperdecoders_jax")
    text = gin_statements.skip_modules(read(gin_files, (), search_paths), skipped)
    gin_checks.import_modules(text)
    import_modules(args.module)
    return gin.get_configurable(function)(register_tasks=register_tasks)


def _saved_config(args: argparse.Namespace) -> str:
    """The configuration that a training run left in its model directory."""
    from hyperdecoders_jax.config import gin_files

    saved = os.path.join(args.model_dir or "", SAVED_CONFIG)
    if args.command == "train" or args.model_dir is None or not gin_files.is_file(saved):
        where = "" if args.model_dir is None else f", and {saved} does not exist"
        raise errors.UsageError(
            f"{args.command} needs a configuration; got no --gin_file{where}. Pass "
            f"--gin_file=experiments/NAME.gin"
            + ("." if args.command == "train" else ", or the --model_dir of a training run.")
        )
    return files.absolute(saved)


def add_own_data(
    args: argparse.Namespace, gin_files: Sequence[str], search_paths: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The gin files, with that of own data where flags need it, and what these flags bind."""
    from hyperdecoders_jax.config.gin_files import read

    values = {macro: getattr(args, flag) for flag, macro in OWN_TEXT_FLAGS.items()}
    for flag, macro in OWN_FILE_FLAGS.items():
        values[macro] = [own_file(file) for file in getattr(args, flag)]
    bindings = [f"{macro} = {tuple(value)!r}" for macro, value in values.items() if value]
    text = read(gin_files, (), search_paths)
    is_included = "TRAIN_FILES" in text.macro_values
    if not bindings and not is_included:
        return list(gin_files), []
    if args.command == "train" and not is_included and not args.validation_file:
        bindings.append("EVAL_SPLIT = None")
    if args.command in ("eval", "analyze") and (args.validation_file or args.test_file):
        bindings.append(f"EVAL_SPLIT = {'validation' if args.validation_file else 'test'!r}")
    if args.command == "infer":
        if args.validation_file or args.test_file:
            bindings.append(f"INFER_SPLIT = {'test' if args.test_file else 'validation'!r}")
        bindings.append("ARE_TARGETS_REQUIRED = False")
    return [*gin_files, *([] if is_included else [OWN_DATA_FILE])], bindings


def own_file(file: str) -> str:
    """A path from any folder, which keeps its name.

    >>> own_file("mail=/data/x.jsonl"), own_file("gs://bucket/a=b.csv")
    ('mail=/data/x.jsonl', 'gs://bucket/a=b.csv')
    """
    name, path = re.fullmatch(r"([\w.]+=)?(.*)", file, re.DOTALL).groups(default="")
    return name + files.absolute(path)


def with_run_file(
    gin_files: Sequence[str], run_file: str, search_paths: Sequence[str]
) -> list[str]:
    """Puts the file that binds a command first, unless one of `gin_files` includes it.

    First, so that its defaults do not undo what an experiment sets.
    """
    from hyperdecoders_jax.config.gin_files import find_file, read

    path = os.path.abspath(find_file(run_file, search_paths))
    text = read(gin_files, (), search_paths)
    is_included = any(os.path.abspath(file.path) == path for file in text.files)
    return list(gin_files) if is_included else [run_file, *gin_files]


def join_processes(args: argparse.Namespace) -> None:
    """Makes this process one of several, if the flags say so; before any device is used.

    Raises:
      UsageError: some of the three flags are given, and not all.
    """
    flags = {
        "coordinator_address": args.coordinator_address,
        "num_processes": args.process_count,
        "process_id": args.process_index,
    }
    given = [name for name, value in flags.items() if value is not None]
    if not given and not args.multiprocess:
        return
    if given and len(given) < len(flags):
        raise errors.UsageError(
            "A run of several processes needs --coordinator_address, --process_count and "
            f"--process_index; got {len(given)} of the three. Give all, or --multiprocess alone "
            "where the cluster tells (TPU pods, Slurm)."
        )
    import jax

    jax.distributed.initialize(**(flags if given else {}))


def start_tensorflow() -> None:
    """Imports TensorFlow without its greetings, and keeps it off the accelerators: it reads data.

    Its C++ log writes to the file descriptor before any setting of ours is read, so that is what
    is kept back; an import that fails still shows everything.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            import tensorflow as tf

            for kind in ("GPU", "TPU"):
                tf.config.set_visible_devices([], kind)
        except BaseException:
            os.dup2(kept, 2)
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def set_data_folders(args: argparse.Namespace) -> None:
    """Says to all that reads data where the flags want it to look.

    Raises:
      UsageError: there is no such folder.
    """
    import seqio

    from hyperdecoders_jax.data import offline

    set_tfds_data_dir(args.tfds_data_dir)
    if args.data_dir is not None:
        os.environ[offline.DATA_DIR_VARIABLE] = files.absolute(args.data_dir)
    folders = [item for flag in args.seqio_additional_cache_dirs for item in flag.split(",")]
    seqio.add_global_cache_dirs([files.absolute(folder) for folder in folders])


def set_tfds_data_dir(folder: str | None) -> None:
    """Makes `folder` the place of all TFDS data; None leaves things as they are.

    Raises:
      UsageError: there is no such folder.
    """
    if folder is None:
        return
    folder = files.absolute(folder)
    if "://" not in folder and not os.path.isdir(folder):
        raise errors.UsageError(
            f"--tfds_data_dir must be a folder that exists; got {folder}. Name the folder that "
            f"holds data sets as FOLDER/glue/cola/2.0.0."
        )
    import seqio

    seqio.set_tfds_data_dir_override(folder)


def import_modules(names: Iterable[str]) -> None:
    """Imports modules for the tasks and adapter sources that they register.

    Raises:
        UsageError: there is no such module; suggests one of the package's own.
    """
    for name in names:
        _import_module(name)


def _import_module(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise errors.UsageError(
            f"--module must name a module that can be imported; got {name!r}, and there is no "
            f"{error.name!r}.{errors.suggestion(name, task_modules())} Run in the folder that "
            f"holds it, or add that to PYTHONPATH."
        ) from None


def task_modules() -> list[str]:
    """Names of the package's own task modules."""
    package = importlib.import_module(TASKS_PACKAGE)
    return [f"{TASKS_PACKAGE}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]


# ---------------------------------------------------------------- convert, export, tasks


def convert(args: argparse.Namespace) -> int:
    """Converts weights as the flags say."""
    options = vars(args).copy()
    for name in ("command", "traceback"):
        del options[name]
    import_modules(options.pop("module"))
    gin_files = [files.at_home(file) for file in options.pop("gin_file")]
    folders = [
        files.at_home(x) for item in options.pop("gin_search_paths") for x in item.split(",")
    ]
    return _call(
        "hyperdecoders_jax.commands.convert",
        "convert",
        **options,
        gin_files=gin_files,
        search_paths=folders,
    )


def export(args: argparse.Namespace) -> int:
    """Exports a trained model as the flags say."""
    import_modules(args.module)
    skipped = ("command", "module", "traceback")
    options = {name: x for name, x in vars(args).items() if name not in skipped}
    for name in ("checkpoint", "output", "backbone"):
        options[name] = files.at_home(options[name])
    return _call("hyperdecoders_jax.commands.export", "export", **options)


def show_tasks(args: argparse.Namespace) -> int:
    """Lists tasks and mixtures, shows examples of one, or prepares or caches its data."""
    if args.cache is not None and args.cache_dir is None:
        raise errors.UsageError(
            f"--cache needs a folder to write to; got --cache={args.cache} alone. Name it with "
            "--cache_dir=FOLDER."
        )
    start_tensorflow()
    from hyperdecoders_jax.commands import task_listing

    if args.prepare is not None and args.tfds_data_dir is not None:
        import tensorflow as tf

        tf.io.gfile.makedirs(files.absolute(args.tfds_data_dir))
    set_data_folders(args)
    import_modules(args.module or task_modules())
    if args.prepare is not None or args.cache is not None:
        return bring_here(args)
    if args.name is None:
        print(task_listing.overview(args.vocabulary))
    else:
        print(task_listing.examples(args.name, args.vocabulary, args.split))
    return 0


def bring_here(args: argparse.Namespace) -> int:
    """Prepares data, writes a cache, or both; prints what became of each; 2 if anything failed."""
    from hyperdecoders_jax.data import cache, mixtures, offline

    outcomes = []
    if args.prepare is not None:
        outcomes.append(offline.prepare(mixtures.leaf_tasks(args.prepare)))
    if args.cache is not None:
        outcomes.append(
            cache.write(mixtures.leaf_tasks(args.cache), files.absolute(args.cache_dir))
        )
    num_failed = 0
    for outcome in itertools.chain(*outcomes):
        print(outcome, flush=True)
        num_failed += outcome.status == offline.FAILED
    if num_failed:
        print(f"hyperdecoders: error: {num_failed} of the above failed.", file=sys.stderr)
    return 2 if num_failed else 0


if __name__ == "__main__":
    sys.exit(main())
