"""The model of a `RunConfig`, opened to predict."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.decoding.decode import Generation
from hyperdecoders_jax.evaluation.evaluator import Evaluator
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.trained import describe, placed, start
from hyperdecoders_jax.trained.placed import Placed
from hyperdecoders_jax.training import partitioning
from hyperdecoders_jax.weights import conversion, formats, run_folder, safetensors_files
from hyperdecoders_jax.weights.trained_model import VOCABULARY_KEY, TrainedModel

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig

_OF_RUN = object()


def use_vocabulary(run: RunConfig) -> None:
    """Makes the vocabulary of a run that of its tasks; ValueError if it is not its checkpoint's."""
    path, initial = run.start.vocabulary, run.start.initial_checkpoint_path
    found = vocabulary.load_vocabulary(files.resolve(path))
    vocabulary.set_run_vocabulary(found)
    known, wanted = vocabulary.fingerprints(found), _vocabulary_of(initial)
    if wanted is not None and wanted not in known:
        raise ValueError(
            f"The vocabulary must be the one that the initial checkpoint was trained with; "
            f"{initial} was trained with one of fingerprint {wanted[:12]}, and {path} has "
            f"{known[0][:12]}. Pass the checkpoint's own with --vocabulary=…."
        )


def _vocabulary_of(path: str | None) -> str | None:
    """The fingerprint of an initial checkpoint's own vocabulary; None if it tells none."""
    if path is None or ("://" in path and not path.startswith(files.PACKAGE_SCHEME)):
        return None
    found = epath.Path(files.resolve(path))
    # What cannot be read is told by whoever loads it.
    if found.is_dir():
        with contextlib.suppress(ValueError):
            return vocabulary.fingerprint(vocabulary.load_vocabulary(str(found)))
    if found.suffix == ".safetensors":
        with contextlib.suppress(ValueError, OSError):
            return safetensors_files.metadata(found).get(VOCABULARY_KEY)
    return None


def task_names(run: RunConfig, checkpoint_step: str | int | None) -> tuple[str, ...] | None:
    """The ordered list of tasks that a checkpoint was trained on; None where none is needed."""
    model_dir = run.model_dir
    # Parameters before training have the numbers of the run that is there, too.
    if model_dir is not None and (checkpoint_step is not None or run_folder.is_run(model_dir)):
        return run_folder.read_file(model_dir).description.task_names or None
    return None if run.data.task_names is None else tuple(run.data.task_names)


def make_evaluator(
    run: RunConfig, checkpoint_step: str | int | None, output_dir: str | None = None
) -> Evaluator:
    """An evaluator of a run's mixture, with tasks numbered as a checkpoint numbers them."""
    return Evaluator(
        run.data,
        run.evaluation,
        task_names(run, checkpoint_step),
        output_dir=output_dir,
        shard=partitioning.make_partitioner(run.partitioning).data_shard(),
        accepts_unseen_tasks=run.model.config.accepts_unseen_tasks,
    )


def place(
    run: RunConfig,
    checkpoint_step: str | int | None,
    generation: Generation | object | None = _OF_RUN,
) -> Placed:
    """The model of a run with the parameters of a checkpoint, on the devices.

    `checkpoint_step` is "best", "last" or a step; None: the parameters before training.
    `generation` is of tasks that are decoded otherwise; the run's own where left out. Raises like
    `run_folder.read`, and ValueError if the batch does not divide over the devices.
    """
    if generation is _OF_RUN:
        generation = run.evaluation.generation
    partitioner = partitioning.make_partitioner(run.partitioning)
    partitioner.check_batch_size(run.eval_batch_size)
    names = task_names(run, checkpoint_step)
    model = run.model.for_tasks(names)
    trained = _read(run, model, names, checkpoint_step)
    verbs = placed.Verbs(model, partitioner, run.max_target_len, generation)
    params = placed.place(trained, verbs, run.start.frozen_dtype, run.trainable)
    return Placed(verbs, params, trained.description.step, names, run.start.random_seed)


def _read(run: RunConfig, model, names, checkpoint_step: str | int | None) -> TrainedModel:
    initial, seed = run.start.initial_checkpoint_path, run.start.random_seed
    if checkpoint_step is None or run.model_dir is None:
        path = None if initial is None else formats.to_path(files.resolve(initial))
        if path is not None and run_folder.is_run(path):
            path = os.fspath(path)
            trained = formats.read(path, formats.RUN, step=checkpoint_step or "best")
            conversion.check_config(trained, model.config, path)
            return trained
        start.check_task_order(initial, model, names)
        return start.open_start(model, initial, seed)
    if not run_folder.t5x_steps(run.model_dir):
        describe.check_newest_checkpoint(run.model_dir, model, names)
    trained_from = run_folder.read_file(run.model_dir).initial_checkpoint_path

    def read_start(source: str, config: TransformerConfig) -> TrainedModel:
        # A flag may say where these weights are now; the checkpoint has their fingerprint.
        is_moved = initial is not None and initial != trained_from
        return formats.read(initial if is_moved else source, config=config)

    return run_folder.read(run.model_dir, checkpoint_step, read_start)
