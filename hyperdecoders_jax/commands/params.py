"""`hyperdecoders params`: trained and frozen parameters and a checkpoint's bytes, from shapes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hyperdecoders_jax.commands import configured, flags, main
from hyperdecoders_jax.data import text_table

if TYPE_CHECKING:
    from hyperdecoders_jax.data.mixtures import MixtureOrTask
    from hyperdecoders_jax.model import Model
    from hyperdecoders_jax.training.optimizer import OptimizerConfig
    from hyperdecoders_jax.training.trainable import TrainableConfig
    from hyperdecoders_jax.types import Params

SUMMARY = "count trained and frozen parameters and a checkpoint's bytes, without making them"
EPILOG = flags.EPILOG
TAKES_GIN = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_run(parser)
    # So that a training command's line counts, too; they do nothing here.
    unused = (*flags.DATA_FLAGS, *flags.PROCESS_FLAGS, *flags.OWN_TEXT_FLAGS)
    for action in parser._actions:
        if action.dest in unused:
            action.help = argparse.SUPPRESS


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; TensorFlow and tasks are imported only if tasks must be counted."""
    # Shapes need no device, and the accelerator may be another process's.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import gin

    from hyperdecoders_jax.config import gin_binding, gin_checks, gin_statements

    given = configured.sources(args, gin_flags).first("runs/embedded/params.gin")
    text = given.read()
    gin_binding.parse(
        text, report, are_macros_checked=False, is_all_bound=False, readers=flags.TRAIN_FILES
    )

    files = configured.Sources(given.gin_files, (), given.search_paths).read()

    def register_tasks():
        flags.start_tensorflow()
        gin_checks.import_modules(gin_statements.skip_modules(files, flags.T5X_MODULES))

    # Those of the package register no adapter source, and cost TensorFlow's import.
    skipped = (*flags.T5X_MODULES, "hyperdecoders_jax")
    gin_checks.import_modules(gin_statements.skip_modules(files, skipped))
    flags.import_modules(args.module)
    return gin.get_configurable(report)(register_tasks=register_tasks)


def report(
    *,
    model: Model,
    trainable: TrainableConfig,
    optimizer: OptimizerConfig,
    task_names: Sequence[str] | None,
    mixture_tasks: Callable[[], Sequence[str]],
    register_tasks: Callable[[], None],
) -> int:
    """Prints the table and the bytes of a checkpoint; returns the exit code.

    `task_names` is the ordered list that numbers tasks, or None. Where the model has parameters for
    each task and neither says how many, `register_tasks` imports what registers tasks, and
    `mixture_tasks` gives those to count.
    """
    from hyperdecoders_jax.training import optimizer as optimizer_lib
    from hyperdecoders_jax.training import trainable as trainable_lib

    if model.config.reads_tasks and model.config.num_tasks is None and task_names is None:
        register_tasks()
        task_names = mixture_tasks()
    shapes = model.for_tasks(task_names).param_shapes()
    trained, frozen = trainable_lib.split(shapes, trainable)
    print(format_counts(trained, frozen))
    sizes = optimizer_lib.checkpoint_bytes(trained, optimizer)
    total, of_params, of_state = (f"{size / 1e6:,.1f} MB" for size in (sum(sizes), *sizes))
    print(
        f"A checkpoint holds {total}: {of_params} of parameters, {of_state} of optimiser state "
        f"({type(optimizer).__name__.removesuffix('Config')})."
    )
    return 0


def mixture_tasks(mixture_or_task_name: MixtureOrTask) -> tuple[str, ...]:
    """The tasks of a mixture; a function of its own, so that gin makes the mixture only for it."""
    from hyperdecoders_jax.data import mixtures

    return mixtures.resolve_task_names(mixture_or_task_name)


def format_counts(trained: Params, frozen: Params) -> str:
    """Lays out, for each top-level key of the parameters, how many are trained and how many not.

    >>> import numpy as np
    >>> part = {"wi": np.zeros((2, 1500))}
    >>> print(format_counts({"decoder_adapters": part}, {"encoder": part, "decoder": part}))
                      trained  frozen
    encoder                 0   3,000
    decoder                 0   3,000
    decoder_adapters    3,000       0
    total               3,000   6,000
    3,000 of 9,000 parameters are trained (33.33%).
    """
    from hyperdecoders_jax.model import BACKBONE_KEYS
    from hyperdecoders_jax.training import trainable as trainable_lib

    keys = trained.keys() | frozen.keys()
    # As the data pass them: T5, then what adapts its encoder, then what adapts its decoder.
    new = sorted(keys - {*BACKBONE_KEYS}, key=lambda key: (key.startswith("decoder"), key))
    order = [key for key in BACKBONE_KEYS if key in keys] + new
    count = trainable_lib.num_parameters
    num_trained, num_frozen = count(trained), count(frozen)
    counts = [(key, count(trained.get(key, {})), count(frozen.get(key, {}))) for key in order]
    counts.append(("total", num_trained, num_frozen))
    rows = [("", "trained", "frozen"), *((key, f"{n:,}", f"{m:,}") for key, n, m in counts)]
    total = num_trained + num_frozen
    return (
        f"{text_table.align(rows)}\n"
        f"{num_trained:,} of {total:,} parameters are trained ({num_trained / total:.2%})."
    )


if __name__ == "__main__":
    main.leave(main.main(["params", *sys.argv[1:]]))
