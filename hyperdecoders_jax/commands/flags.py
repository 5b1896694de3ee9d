"""Flags that several commands share, and what they mean to gin."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import processes
from hyperdecoders_jax.installed import train_extra

# Task modules that are imported unless --module names others.
TASKS_PACKAGE = "hyperdecoders_jax.tasks"
# Who runs a command: the package itself, or T5X.
RUNNERS = ("embedded", "t5x")
# What --init sets where an experiment says nothing.
INIT_FILE = "runs/init.gin"
# An experiment's macros are set for these; other commands need not read them all.
TRAIN_FILES = tuple(f"runs/{runner}/train.gin" for runner in RUNNERS)
# What the configuration of a run under T5X binds, and who reads its checkpoints does not need.
T5X_MODULES = ("__main__", "t5x", "hyperdecoders_jax.t5x")

# Macros that hold paths of this machine, or of a bucket.
PATH_MACROS = (
    "MODEL_DIR", "INITIAL_CHECKPOINT_PATH", "CHECKPOINT_PATH", "ADAPTERS_PATH",
    "VOCABULARY", "EVAL_OUTPUT_DIR", "INFER_OUTPUT_DIR",
)  # fmt: skip
# Parameters that these macros bind.
PATH_PARAMETERS = (
    "StartConfig.initial_checkpoint_path", "StartConfig.vocabulary", "RunConfig.model_dir",
)  # fmt: skip
# The vocabulary that is no file.
BYTES = "bytes"
# Of both, what a command writes.
MADE_FOLDERS = ("MODEL_DIR", "EVAL_OUTPUT_DIR", "INFER_OUTPUT_DIR", "RunConfig.model_dir")

# Flags of own data, repeatable, and their macros (TRAIN_FILES, INPUTS_TEMPLATES, METRICS, …), which
# this file reads.
OWN_DATA_FILE = "mixtures/own_data.gin"
OWN_MIXTURE = "own_data"
OWN_FILE_FLAGS = {f"{x}_file": f"{x.upper()}_FILES" for x in ("train", "validation", "test")}
PROCESS_FLAGS = ("coordinator_address", "process_count", "process_index", "multiprocess")
DATA_FLAGS = ("vocabulary", "tfds_data_dir", "data_dir", "seqio_additional_cache_dirs")
OWN_TEXT_FLAGS = {x: f"{x.upper()}S" for x in ("inputs_template", "targets_template", "metric")}

# Stands for the name of a flag --gin_bindings=VALUE among those of --gin.NAME=VALUE.
RAW_BINDING = "--gin_bindings"

EPILOG = """\
gin files are searched in this folder, in --gin_search_paths, and in the package's own gin_configs.

  --gin.NAME=VALUE          sets a macro (TRAIN_STEPS, BATCH_SIZE, MODEL_DIR, …) or a parameter
                            (--gin.LossConfig.z_loss=1e-4, or within a gin scope
                            --gin.decoder/AdapterConfig.norm_input=True);
                            what is no gin literal is a string, no inner quotes are needed
"""


def add_list(parser: Any, flag: str, text: str, metavar: str | None = None) -> None:
    """A flag that may be given several times."""
    if "default" not in text:
        text = f"{text} (default: none)"
    text = f"{text}; repeatable"
    parser.add_argument(flag, action="append", default=[], metavar=metavar, help=text)


def add_gin(parser: argparse.ArgumentParser) -> None:
    """Gin files, bindings and search paths."""
    add_list(parser, "--gin_file", "a gin file", "FILE")
    text = "one gin binding, bound after all files, in the order of flags"
    add_list(parser, "--gin_bindings", text, "'NAME = VALUE'")
    add_search_paths(parser)


def add_search_paths(parser: argparse.ArgumentParser) -> None:
    """Where gin files are searched."""
    text = "folders that are searched for gin files, separated by commas"
    add_list(parser, "--gin_search_paths", text, "FOLDERS")


def add_run(parser: argparse.ArgumentParser) -> None:
    """All that configures a run."""
    add_gin(parser)
    text = "the run's folder, the same as --gin.MODEL_DIR=… (no default)"
    parser.add_argument("--model_dir", metavar="FOLDER", help=text)
    add_list(parser, "--module", "a module that registers tasks or adapter sources, imported first")
    _add_own_data(parser)
    text = "HOST:PORT of process 0, for a run of several processes (default: one process)"
    parser.add_argument("--coordinator_address", metavar="ADDRESS", help=text)
    text = "how many processes run (default: one)"
    parser.add_argument("--process_count", type=int, metavar="COUNT", help=text)
    text = "which of them this is, from 0 (default: the only one)"
    parser.add_argument("--process_index", type=int, metavar="INDEX", help=text)
    text = "join the other processes as the cluster tells (TPU pods, Slurm)"
    parser.add_argument("--multiprocess", action="store_true", help=text)
    add_compilation_cache(parser)
    add_data(parser)


def add_compilation_cache(parser: argparse.ArgumentParser) -> None:
    """Where compiled programs are kept."""
    text = (
        "where compiled programs are kept for the next start, also gs://…; none: nowhere (default: "
        "$COMPILATION_CACHE_DIR, or ~/.cache/hyperdecoders_jax/compiled)"
    )
    parser.add_argument("--compilation_cache_dir", metavar="FOLDER", help=text)


def add_runner(parser: argparse.ArgumentParser) -> None:
    """Who runs, and a folder to take as it is."""
    text = "t5x: T5X runs it, with the same gin files (default: the package's own)"
    parser.add_argument("--runner", choices=RUNNERS, default=RUNNERS[0], help=text)
    text = (
        "a trained model (exported folder, run, adapter folder), or any T5 with its tokenizer's "
        "files: its parameters, and what no gin file says of model, vocabulary, tasks and lengths "
        "(default: what gin files say)"
    )
    parser.add_argument("--init", metavar="FOLDER", help=text)


def add_trained(parser: argparse.ArgumentParser) -> None:
    """Which step of a run, and where the backbone of adapters is."""
    parser.add_argument("--step", help="of a run: best (the default), last or a number")
    text = "of adapters: the T5 that they adapt, if it was moved (default: where their run had it)"
    parser.add_argument("--backbone", metavar="PATH", help=text)


def add_source_module(parser: argparse.ArgumentParser) -> None:
    """Modules with the adapter source of a model."""
    add_list(parser, "--module", "a module that registers the model's adapter source")


def add_fold(parser: argparse.ArgumentParser, **fold: object) -> None:
    """Whether gates become part of kernels."""
    parser.add_argument("--fold", **fold)
    text = "whose gates to fold, where each task has its own (no default)"
    parser.add_argument("--task", metavar="NAME", help=text)


def check_fold(fold: bool | None, task: str | None) -> None:
    """Raises UsageError unless --task comes with --fold."""
    if task is not None and not fold:
        raise errors.UsageError(
            f"--task must go with --fold, and names the task whose gates are folded; got "
            f"--task={task} alone. Leave it out, or add --fold."
        )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Where data and the vocabulary are."""
    text = "a spiece.model, a Hugging Face T5 folder, a URL, or 'bytes' (default: VOCABULARY's)"
    parser.add_argument("--vocabulary", metavar="PATH", help=text)
    text = "where TensorFlow Datasets keeps its data (default: ~/tensorflow_datasets)"
    parser.add_argument("--tfds_data_dir", metavar="FOLDER", help=text)
    text = (
        "where data are that TFDS does not have, FOLDER/TASK/SPLIT.jsonl (default: "
        "$HYPERDECODERS_DATA_DIR, or ~/hyperdecoders_data)"
    )
    parser.add_argument("--data_dir", metavar="FOLDER", help=text)
    text = "where USE_CACHED_TASKS looks for caches, separated by commas"
    add_list(parser, "--seqio_additional_cache_dirs", text, "FOLDERS")


def _add_own_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "own data",
        "Each --train_file is a task. The others are given for each task in the same order; one\n"
        "template or metric may serve all. eval and infer know those of a run. All are repeatable.",
    )
    file = (
        "a .jsonl, .csv or .tsv, or one of them with .gz; NAME= names the task (default: the "
        "experiment's or the run's data)"
    )
    for flag, name, text in (
        ("train_file", "[NAME=]FILE", file),
        ("validation_file", "[NAME=]FILE", "likewise (default: nothing is evaluated)"),
        ("test_file", "[NAME=]FILE", "likewise, for eval and infer (default: what they read else)"),
        ("inputs_template", "TEXT", "what is read of a row: 'mail: {text}' (default: '{inputs}')"),
        ("targets_template", "TEXT", "what is to be answered: '{label}' (default: '{targets}')"),
        ("metric", "NAMES", "of tasks/metrics.py, separated by commas (default: accuracy)"),
    ):
        group.add_argument(f"--{flag}", action="append", default=[], metavar=name, help=text)
    text = "how quotes of these tables are meant: as in CSV, or as text (default: see docs/data.md)"
    group.add_argument("--quoting", choices=("csv", "none"), help=text)


def search_paths(args: argparse.Namespace) -> list[str]:
    """The folders of --gin_search_paths; UsageError if one is not there."""
    folders = [files.at_home(x) for item in args.gin_search_paths for x in item.split(",")]
    for folder in folders:
        if "://" not in folder and not os.path.isdir(folder or "."):
            raise errors.UsageError(
                f"--gin_search_paths must name folders; there is no folder {folder} (seen from "
                f"{os.getcwd()}). Correct it, or leave it out."
            )
    return folders


def gin_bindings(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> list[str]:
    """Bindings of `--gin.NAME=VALUE`, --gin_bindings and the flags with a macro of their own."""
    from hyperdecoders_jax.config import gin_files

    bindings = [
        gin_files.to_binding(name, files.at_home(value) if name in PATH_MACROS else value)
        if name != RAW_BINDING
        else value
        for name, value in gin_flags
    ]
    bindings += args.gin_bindings  # Where no command line was read.
    if getattr(args, "profile", None) is not None:
        bindings.append(f"PROFILE_STEPS = {_steps(args.profile)!r}")
    for flag in ("model_dir", "vocabulary"):
        value = files.at_home(getattr(args, flag, None))
        if value is not None:
            bindings.append(f"{flag.upper()} = {value!r}")
    return bindings


def _steps(text: str) -> tuple[int, int]:
    """A first and a last step; UsageError if it is neither a step nor two.

    >>> _steps("10-15"), _steps("10")
    ((10, 15), (10, 10))
    """
    first, _, last = text.partition("-")
    if not (first.isascii() and first.isdigit()) or (last and not last.isdigit()):
        raise errors.UsageError(
            f"--profile must name steps, counted from 1; got {text!r}. Write --profile=10-15."
        )
    return int(first), int(last or first)


def own_data(
    args: argparse.Namespace, gin_files: Sequence[str], paths: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The gin files, with that of own data where flags need it, and what these flags bind."""
    from hyperdecoders_jax.config import gin_files as gin_files_lib

    own_files = [file for flag in OWN_FILE_FLAGS for file in getattr(args, flag)]
    check_quoting(args.quoting, [*own_files, getattr(args, "input", None) or ""])
    macros = gin_files_lib.read(gin_files, (), paths).macro_values
    is_included = "TRAIN_FILES" in macros
    if own_files and "INPUTS_TEMPLATES" not in macros and getattr(args, "init", None) is not None:
        _add_texts_of_init(args)
    values = {macro: getattr(args, flag) for flag, macro in OWN_TEXT_FLAGS.items()}
    for flag, macro in OWN_FILE_FLAGS.items():
        values[macro] = [own_file(file, args.quoting) for file in getattr(args, flag)]
    bindings = [f"{macro} = {tuple(value)!r}" for macro, value in values.items() if value]
    is_trained_on = bool(args.train_file or (is_included and macros["TRAIN_FILES"][0]))
    if args.command == "train" and own_files and not is_trained_on:
        raise errors.UsageError(
            "train must be given files to train on; got others alone: "
            f"{', '.join(own_files)}. Add --train_file=FILE, or use eval or infer."
        )
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


def _add_texts_of_init(args: argparse.Namespace) -> None:
    """Fills flags of templates and metric for eval and infer with those of the run of --init.

    These are its tasks' whose names the files have (NAME=FILE), or what all its tasks have. Where
    neither tells the template of the inputs, {inputs} is used; that is told.
    """
    from hyperdecoders_jax.data import row_files
    from hyperdecoders_jax.weights import run_folder

    folder, texts = files.at_home(args.init), []
    if args.command != "train" and run_folder.is_run(folder):
        with run_folder.fields_of_data(folder):
            sources = run_folder.read_file(folder).data["tasks"].items()
            texts_of_tasks = {name: own_texts(source) for name, source in sources if source}
        texts = list(texts_of_tasks.values())
        own_files = [file for flag in OWN_FILE_FLAGS for file in getattr(args, flag)]
        given = dict.fromkeys(row_files.split_name(file)[0] for file in own_files)
        if given.keys() <= texts_of_tasks.keys():
            texts = [texts_of_tasks[name] for name in given]
        elif all(x == texts[0] for x in texts):
            texts = texts[:1]
        else:
            texts = []
    for flag in OWN_TEXT_FLAGS:
        if not getattr(args, flag):
            setattr(args, flag, [x[flag] for x in texts if flag in x])
    if not args.inputs_template:
        print(
            "Mind: --init does not tell which template made the inputs of that model; {inputs} is "
            "used. If it was trained with another one, give that as --inputs_template.",
            file=sys.stderr,
        )


def own_texts(source: Mapping[str, Any]) -> dict[str, str]:
    """Of a source that a run describes, the flags of `OWN_TEXT_FLAGS`; none but of own data.

    >>> source = {"kind": "own_data", "inputs": "{a}", "targets": "{b}", "metrics": ["rouge"]}
    >>> own_texts(source)
    {'inputs_template': '{a}', 'targets_template': '{b}', 'metric': 'rouge'}
    """
    if source["kind"] != OWN_MIXTURE:
        return {}
    return {
        "inputs_template": source["inputs"],
        "targets_template": source["targets"],
        "metric": ",".join(source["metrics"]),
    }


def check_quoting(quoting: str | None, paths: Iterable[str]) -> None:
    """Raises UsageError unless --quoting, if it is given, is of a table."""
    from hyperdecoders_jax.data import row_files

    if quoting is not None and not any(map(row_files.is_table, paths)):
        raise errors.UsageError(
            f"--quoting must go with the tables (.csv, .tsv) that it is meant for; got --quoting="
            f"{quoting} without one. Name them with it, or leave it out."
        )


def own_file(file: str, quoting: str | None = None) -> str:
    """An absolute path, which keeps its task's name, and how its quotes are meant.

    >>> own_file("mail=/data/x.tsv", "csv"), own_file("gs://bucket/a=b.csv")
    ('mail=/data/x.tsv?quoting=csv', 'gs://bucket/a=b.csv')
    """
    from hyperdecoders_jax.data import row_files

    name, path = row_files.split_name(file)
    path = row_files.with_quoting(files.absolute(path), quoting or "auto")
    return path if name is None else f"{name}={path}"


def init_bindings(path: str, command: str) -> list[str]:
    """What --init sets: where parameters are, and that eval and infer take them as they are."""
    path = files.at_home(path)
    if os.path.exists(path):  # Else a hub id or a URL.
        path = files.absolute(path)
    bindings = [f"INITIAL_CHECKPOINT_PATH = {path!r}"]
    return bindings if command == "train" else [*bindings, "CHECKPOINT_STEP = None"]


def join_processes(args: argparse.Namespace) -> None:
    """Joins several processes, before any device is used; UsageError if a flag is missing."""
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
    processes.join(**(flags if given else {}))


def start_tensorflow() -> None:
    """Imports TensorFlow quietly, and keeps it off the accelerators: it only reads data.

    Its C++ log writes to the file descriptor before any setting of ours is read, so the descriptor
    is redirected; an import that fails still shows everything. ImportError without `[train]`.
    """
    train_extra.check()
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
    """Tells all readers of data where the flags look; raises UsageError without such a folder."""
    import seqio

    from hyperdecoders_jax.data import offline

    if args.tfds_data_dir is not None:
        folder = files.absolute(args.tfds_data_dir)
        if "://" not in folder and not os.path.isdir(folder):
            raise errors.UsageError(
                f"--tfds_data_dir must be a folder that exists; got {folder}. Name the folder that "
                f"holds data sets as FOLDER/glue/cola/2.0.0."
            )
        seqio.set_tfds_data_dir_override(folder)
    if args.data_dir is not None:
        os.environ[offline.DATA_DIR_VARIABLE] = files.absolute(args.data_dir)
    folders = [item for flag in args.seqio_additional_cache_dirs for item in flag.split(",")]
    seqio.add_global_cache_dirs([files.absolute(folder) for folder in folders])


def import_modules(names: Iterable[str]) -> None:
    """Imports modules for what they register; UsageError, with a suggestion, if there is none."""
    from hyperdecoders_jax.config import gin_checks

    for name in names:
        _check_module_name(name)
        try:
            gin_checks.import_module(name, "--module")
        except ModuleNotFoundError as error:
            raise errors.UsageError(
                f"--module must name a module that can be imported; got {name!r}, and there is no "
                f"{error.name!r}.{errors.suggestion(name, task_modules())} Run in the folder that "
                f"holds it, or add that to PYTHONPATH."
            ) from None


def _check_module_name(name: str) -> None:
    """Raises UsageError unless a module is named as `import` takes it."""
    if all(map(str.isidentifier, name.split("."))) and not name.endswith(".py"):
        return
    folder, file = os.path.split(name)
    stem = file.removesuffix(".py")
    how = f"Write --module={stem}" if stem.isidentifier() else "Write --module=my_tasks"
    where = f"in {folder or 'its folder'}, or add that to PYTHONPATH"
    raise errors.UsageError(
        f"--module must be a module's name as `import` takes it, no path; got {name!r}. {how} and "
        f"run {where}; several modules are several flags."
    )


def task_modules() -> list[str]:
    """Names of the package's own task modules."""
    package = importlib.import_module(TASKS_PACKAGE)
    return [f"{TASKS_PACKAGE}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]
