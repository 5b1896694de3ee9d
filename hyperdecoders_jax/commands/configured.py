"""Commands that a gin configuration binds: from flags to the call of a function."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import accelerators, compilation_cache, flags

if TYPE_CHECKING:
    from hyperdecoders_jax.config.gin_statements import Text
    from hyperdecoders_jax.config.run_config import RunConfig

# What `train` leaves in its model directory for people, and to train again.
SAVED_CONFIG = "config.gin"


@dataclasses.dataclass(frozen=True)
class Sources:
    """What a configuration is read from."""

    gin_files: Sequence[str]  # In the order in which they bind.
    bindings: Sequence[str] = ()  # `NAME = VALUE`, bound last.
    search_paths: Sequence[str] = ()  # Folders that are searched for gin files.

    def first(self, run_file: str) -> Sources:
        """With a command's own file first (an experiment undoes its defaults), if not included."""
        from hyperdecoders_jax.config import gin_files

        path = os.path.abspath(gin_files.find_file(run_file, self.search_paths))
        text = gin_files.read(self.gin_files, (), self.search_paths)
        if any(os.path.abspath(file.path) == path for file in text.files):
            return self
        return dataclasses.replace(self, gin_files=[run_file, *self.gin_files])

    def read(self) -> Any:
        """The text of files and flags."""
        from hyperdecoders_jax.config import gin_files

        return gin_files.read(self.gin_files, self.bindings, self.search_paths)


def sources(
    args: argparse.Namespace,
    gin_flags: Sequence[tuple[str, str]],
    init: str | None = None,
    bindings: Sequence[str] = (),
) -> Sources:
    """The configuration that the flags of a run (`flags.add_run`, --gin.NAME=VALUE) mean.

    `init` is a model's folder, taken as it is; `bindings` a command's own. UsageError without file.
    """
    args.model_dir = files.at_home(args.model_dir)
    args.vocabulary = files.at_home(args.vocabulary)
    paths = flags.search_paths(args)
    gin_files = [files.at_home(file) for file in args.gin_file]
    start = []
    if init is not None:
        gin_files = [flags.INIT_FILE, *gin_files]
        start = flags.init_bindings(init, args.command)
    gin_files = gin_files or [_saved_config(args)]
    gin_files, own = flags.own_data(args, gin_files, paths)
    return Sources(
        gin_files, [*own, *start, *bindings, *flags.gin_bindings(args, gin_flags)], paths
    )


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


def call(
    args: argparse.Namespace, given: Sources, function: Callable[[], Callable[..., Any]]
) -> Callable[..., Any]:
    """Reads, checks and binds a configuration; returns the bound function.

    `function` imports and returns it, after the checks of the text, for its imports are heavy.
    """
    configured, config_text = bind(args, given, function)
    if args.command == "train" and getattr(args, "runner", None) != "t5x":
        return lambda: configured(config_text=config_text)
    return configured


def run_config(
    args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]
) -> tuple[RunConfig, str]:
    """The run that the flags of `train` mean, and all its bindings as gin text."""
    given = sources(args, gin_flags, init=args.init).first("runs/embedded/train.gin")

    def train():
        from hyperdecoders_jax.commands import train

        return train.train

    _, config_text = bind(args, given, train)
    import gin

    from hyperdecoders_jax.config import run_config

    return gin.get_configurable(run_config.RunConfig)(), config_text


def macro_of(parameter: str) -> str | None:
    """The macro that a parameter of the last configuration is bound to; None if to none."""
    from hyperdecoders_jax.config import gin_private

    return gin_private.macro_of(parameter)


def prepare_devices(args: argparse.Namespace) -> None:
    """Chooses where compiled programs are kept, and warns of accelerators that stay idle."""
    compilation_cache.use(getattr(args, "compilation_cache_dir", None))
    if args.command != "plan":  # Which describes its devices.
        accelerators.warn_if_unused()


def bind(
    args: argparse.Namespace, given: Sources, function: Callable[[], Callable[..., Any]]
) -> tuple[Callable[..., Any], str]:
    """As `call`, for a function that is not called yet, and all bindings as gin text."""
    import gin

    from hyperdecoders_jax.config import gin_binding, gin_files

    is_training, is_t5x = args.command == "train", getattr(args, "runner", None) == "t5x"
    text = _with_absolute_paths(given.read())
    gin_files.check_macros(text, flags.TRAIN_FILES)
    if is_training:
        for macro in gin_files.unread_macros(text, "runs/run.gin" if is_t5x else None):
            print(f"Not read by this runner: {macro}", file=sys.stderr)
    flags.join_processes(args)
    prepare_devices(args)
    flags.start_tensorflow()
    flags.import_modules(args.module)
    bound = function()
    config_text = gin_binding.parse(
        text,
        bound,
        # What a training run was started with may be said again to eval and infer.
        are_macros_checked=is_training,
        readers=flags.TRAIN_FILES,
        skipped_modules=() if is_t5x or is_training else flags.T5X_MODULES,
    )
    flags.set_data_folders(args)
    return gin.get_configurable(bound), config_text


def _with_absolute_paths(text: Text) -> Text:
    """The text with local paths of a run as absolute ones, so that its config.gin holds anywhere.

    UsageError for an empty path, which would mean the current folder.
    """
    bindings = []
    for binding in text.bindings:
        scope, selector, parameter, value, _ = binding.statement
        name = f"{selector.rpartition('.')[2]}.{parameter}" if parameter else selector
        is_path = not scope and name in flags.PATH_MACROS + flags.PATH_PARAMETERS
        if not is_path or not isinstance(value, str) or value == flags.BYTES:
            bindings.append(binding)
            continue
        if not value.strip():
            raise errors.UsageError(
                f"{name} must name a path; {binding.location} sets {value!r}. Write the folder or "
                "file, or . for the folder you are in."
            )
        # What a run writes need not be there yet; what it reads may be a hub id.
        is_made = name in flags.MADE_FOLDERS
        path = files.absolute(value) if is_made else files.absolute_source(value)
        statement = binding.statement._replace(value=path)
        bindings.append(dataclasses.replace(binding, statement=statement))
    return dataclasses.replace(text, bindings=tuple(bindings))


def run_with_runner(
    args: argparse.Namespace,
    gin_flags: Sequence[tuple[str, str]],
    function: Callable[[], Callable[..., Any]],
    **options: Any,
) -> int:
    """Runs train, eval or infer with the runner that --runner names; returns the exit code."""
    is_t5x = args.runner == "t5x"
    if is_t5x:
        _check_t5x(args)
    run_file = f"runs/{args.runner}/{args.command}.gin"
    given = sources(args, gin_flags, init=args.init).first(run_file)
    if not is_t5x:
        return call(args, given, function)(**options)

    def script():
        from hyperdecoders_jax.t5x import launch

        return launch.script(args.command)

    configured = call(args, given, script)
    from hyperdecoders_jax.t5x import launch

    return launch.run(configured)


def _check_t5x(args: argparse.Namespace) -> None:
    """Raises ImportError without T5X, and UsageError if a flag is only for our own runner."""
    from hyperdecoders_jax.installed import t5x_install

    t5x_install.check()
    if getattr(args, "input", None) is not None:
        raise errors.UsageError(
            "T5X predicts for a mixture's split; got --input with --runner=t5x. Leave one of them "
            "out: the package's own runner reads checkpoints of T5X, too."
        )
    if getattr(args, "keep", None):
        raise errors.UsageError(
            "T5X writes predictions of its own form; got --keep with --runner=t5x. Leave one of "
            "them out: the package's own runner reads checkpoints of T5X, too."
        )
    if args.command != "train" and args.init is not None:
        raise errors.UsageError(
            f"T5X evaluates and predicts with its own checkpoints; got --init={args.init} with "
            "--runner=t5x. Leave out the runner, or make a checkpoint: hyperdecoders convert "
            f"--from={args.init} --to=t5x:FOLDER"
        )
