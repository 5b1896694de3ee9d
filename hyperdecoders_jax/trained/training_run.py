"""The training of a run, from a `RunConfig` to what it left on disk.

Checks whatever can be checked before it writes anything, the cheapest first, and continues what the
model directory holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import TYPE_CHECKING

import jax

from hyperdecoders_jax import files
from hyperdecoders_jax.data import mixtures, train_batches
from hyperdecoders_jax.trained import (
    describe,
    metric_writers,
    opened,
    run_evaluation,
    start,
    summary,
)
from hyperdecoders_jax.trained.shared import Shared, order_settings
from hyperdecoders_jax.training import checkpoints, partitioning, run_lock, trainable, trainer
from hyperdecoders_jax.training import identity as identity_lib

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig


def train(
    run: RunConfig,
    config_text: str = "",
    shared: Shared | None = None,
    check: describe.Check | None = None,
) -> trainer.TrainResult:
    """Trains a run, or continues it; `config_text` is stored beside what it made.

    Runs that are given one `shared` read equal data and parameters once. `check` is called before
    anything is written.

    ValueError if something is amiss, or another process writes the run; OSError if it cannot be
    written. Nothing was written before a check that failed.
    """
    partitioner = _check(run)
    with run_lock.held(run.model_dir):
        return _train(run, config_text, partitioner, shared or Shared(), check)


def _train(
    run: RunConfig,
    config_text: str,
    partitioner: partitioning.Partitioner,
    shared: Shared,
    check: describe.Check | None,
) -> trainer.TrainResult:
    # More checks, the cheapest first.
    task_names = mixtures.resolve_task_names(run.data.mixture_or_task_name, run.data.task_names)
    model = run.model.for_tasks(task_names)
    initial = run.start.initial_checkpoint_path
    start.check_task_order(initial, model, task_names)
    trainable.split(model.param_shapes(), run.trainable)
    opened.use_vocabulary(run)
    report = shared.check_data(run, model)
    parts = partitioner.num_data * run.trainer.num_microbatches
    index, count = partitioner.data_shard()
    begun_rows = describe.begun_rows(run.model_dir, run.data.examples_per_step)
    data = train_batches.with_examples_per_step(run.data, parts, count, begun_rows)
    run = dataclasses.replace(run, data=data)
    batches = train_batches.TrainIterator(run.data, index, count)
    evaluate = run_evaluation.make(run, model, batches.task_names, partitioner, shared)
    settings = order_settings(run, report)
    identity_lib.check_agree(checkpoints.gather(settings))
    describe.check_newest_checkpoint(run.model_dir, model, task_names, settings)

    begun = start.open_start(model, initial, run.start.random_seed, shared)
    trained, frozen = trainable.split(begun.params(), run.trainable)
    described = describe.describe(run, model, task_names, trained, frozen)
    if check is not None:
        check(described)
    identity = describe.identity(described, frozen)
    if jax.process_index() == 0:
        told = summary.summarize(run, model, trained, partitioner, report)
        print(told, file=sys.stderr, flush=True)
    writers = metric_writers.MetricWriters(run.metric_writers, run.model_dir)

    def on_accepted():  # Not before: a run must leave another run's files as they are.
        describe.write(run, described, config_text)
        writers.open()

    loop = trainer.Trainer(
        trainer.TrainingRecipe(model, run.optimizer, run.schedule, run.trainer),
        partitioner,
        describe.directory(run, identity, config_text, settings),
        evaluate=evaluate,
        on_accepted=on_accepted,
        writers=[writers.write],
    )
    frozen = trainable.cast_frozen(frozen, run.start.frozen_dtype)
    del begun  # Before the copies on the devices are made: host memory holds one copy.
    with batches, contextlib.closing(writers):
        loop.start(trained, frozen, batches)
        del trained, frozen
        try:
            result = loop.run()
        except files.NotWrittenError as error:
            raise files.NotWrittenError(
                f"{error} Then start the same command again: it continues from its checkpoint."
            ) from error
    return result


def _check(run: RunConfig) -> partitioning.Partitioner:
    """Checks what needs neither data nor weights; returns how devices share the work."""
    if not run.model_dir or run.trainer is None:
        raise ValueError(
            "A run that is trained needs a model_dir and a trainer; got "
            f"model_dir={run.model_dir!r} and trainer={run.trainer!r}. Set RunConfig.model_dir, "
            "and RunConfig.trainer = TrainerConfig(num_train_steps=…)."
        )
    metric_writers.check_names(run.metric_writers)
    files.check_writable(run.model_dir)
    partitioner = partitioning.make_partitioner(run.partitioning)
    if run.data.examples_per_step is None:  # It chooses a batch size that divides.
        partitioner.check_batch_size(run.data.batch_size, run.trainer.num_microbatches)
    partitioner.check_batch_size(run.eval_batch_size)
    return partitioner
