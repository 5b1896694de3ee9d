"""Our data pipeline behind T5X's interface of a data set, with a position in T5X's checkpoints.

T5X's own `utils.get_dataset` starts over when a run is continued, or saves TensorFlow's buffers.
Ours gives both runners the same batches in the same order, and stores its position, a small file
with the run's `Identity`. Source: the interfaces of t5x/train.py and clu/data/dataset_iterator.py.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import seqio
from absl import logging
from clu.data import dataset_iterator
from etils import epath
from t5x import utils

from hyperdecoders_jax import types
from hyperdecoders_jax.data import mixtures, preflight, train_batches, vocabulary
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.trained import describe
from hyperdecoders_jax.training import checkpoints
from hyperdecoders_jax.training import identity as identity_lib
from hyperdecoders_jax.training.identity import Identity
from hyperdecoders_jax.types import Batch
from hyperdecoders_jax.weights import t5x_checkpoint

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig


def get_dataset(
    cfg: utils.DatasetConfig,
    shard_id: int,
    num_shards: int,
    feature_converter_cls: Callable[..., seqio.FeatureConverter],
    *,
    pipeline_config: PipelineConfig,
    model: Model,
    run: RunConfig | None = None,
) -> BatchIterator:
    """Checks and reads the training data, for `train_script.train.get_dataset_fn`.

    Of T5X's `cfg` only `batch_size` and `pack` are read, the rest is `pipeline_config`'s; batches
    have the features of the model's converter, `feature_converter_cls`. What of `run` (rates, steps
    and the like) changes when it is continued is told; None: nothing is. Raises ValueError for data
    that do not fit the model or are not there, or if `batch_size` is not what `examples_per_step`
    asks for, or without `run` where processes share one of the `num_shards` parts of a batch: T5X
    restores the position of the first of them, and the others read it here.
    """
    pipeline_config = dataclasses.replace(pipeline_config, batch_size=cfg.batch_size, pack=cfg.pack)
    report = preflight.preflight(pipeline_config, vocab_size=model.config.vocab_size)
    _check_rows(pipeline_config, num_shards)
    provider = mixtures.get_mixture_or_task(pipeline_config.mixture_or_task_name)
    task_names = mixtures.resolve_task_names(provider, pipeline_config.task_names)
    if run is not None and run.trainer.best is not None:
        run.trainer.best.check_tasks([task.name for task in seqio.get_subtasks(provider)])
    known = vocabulary.fingerprints(provider.output_features["inputs"].vocabulary)
    identity = Identity(
        task_names=task_names,
        model=identity_lib.describe_model(model.for_tasks(task_names).config),
        vocabulary_fingerprint=known[0],
        former_vocabulary_fingerprints=known[1:],
    )
    settings = preflight.order_settings(pipeline_config, report)
    identity_lib.check_agree(checkpoints.gather(settings))
    recipe = None if run is None else describe.recipe(run)
    batches = BatchIterator(pipeline_config, shard_id, num_shards, identity, settings, recipe)
    if num_shards < jax.process_count():
        if run is None:
            raise ValueError(
                "Where processes share rows, all must be told which run they continue; got none. "
                "Bind data.get_dataset.run = @run_config.RunConfig(), as runs/t5x/train.gin does."
            )
        saved = list(t5x_checkpoint.steps(run.model_dir).values())
        if saved:
            batches.restore(_position_file(saved[-1], shard_id, num_shards))
    return batches


def _position_file(checkpoint: epath.Path, shard_id: int, num_shards: int) -> epath.Path:
    name = f"train_ds-{shard_id:03}-of-{num_shards:03}"
    found = list(checkpoint.glob(f"dataset/process_*/{name}"))
    if not found:
        raise ValueError(
            f"A run must be continued with as many parts of a batch as it was begun with; {name} "
            f"is not in {checkpoint}/dataset. Continue it with its MODEL_PARALLEL on its slice."
        )
    return found[0]


def _check_rows(config: PipelineConfig, num_shards: int) -> None:
    """Raises ValueError for a batch size far from what `examples_per_step` asks for."""
    wanted = train_batches.with_examples_per_step(config, num_shards, num_shards).batch_size
    # The nearest size that divides over devices and micro-batches may be this far.
    if abs(config.batch_size - wanted) > max(0.1 * wanted, jax.device_count()):
        raise ValueError(
            "Under T5X BATCH_SIZE must be the rows of a step, since T5X reads it before the data; "
            f"got BATCH_SIZE={config.batch_size}, and EXAMPLES_PER_STEP={config.examples_per_step} "
            f"needs {wanted}. Set BATCH_SIZE={wanted}, or near it so that it divides over devices "
            "and micro-batches."
        )


def read_identity(path: str) -> Identity:
    """Returns what a run's checkpoint, a folder `checkpoint_<step>`, belongs to, else `UNKNOWN`."""
    # Each of several processes has its own folder.
    for folder in ("dataset", "dataset/process_0-of-*"):
        for file in epath.Path(path).glob(f"{folder}/train_ds-???-of-???"):
            return identity_lib.identity_of(json.loads(file.read_text()))
    return identity_lib.UNKNOWN


class BatchIterator(dataset_iterator.DatasetIterator):
    """This process's rows (part `shard_id` of `num_shards`) of every batch, as T5X's features."""

    def __init__(
        self,
        config: PipelineConfig,
        shard_id: int = 0,
        num_shards: int = 1,
        identity: Identity = identity_lib.UNKNOWN,
        settings: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
    ):
        self._identity, self._settings = identity, settings
        self._recipe = self._begun = recipe  # Of this start, and of the run's first.
        self._batches = train_batches.TrainIterator(config, shard_id, num_shards)
        rows = config.batch_size // num_shards
        lengths = config.packed_lengths if config.pack else config.task_feature_lengths
        inputs, targets = ((rows, lengths[name]) for name in types.FEATURES)
        if config.pack:
            tasks, segments = (rows, config.max_segments), (inputs, inputs, targets, targets)
        else:
            tasks, segments = (rows,), ()
        shapes = Batch(inputs, targets, targets, targets, tasks, *segments)
        self._shapes = {
            name: dataset_iterator.ArraySpec(np.dtype(np.int32), shape)
            for name, shape in shapes.features().items()
        }
        # T5X takes the first batch before its first step, and may save in between, so the position
        # before the last batch is kept too.
        self._positions = [self._batches.position()]

    def __next__(self) -> Mapping[str, np.ndarray]:
        batch = next(self._batches)
        self._positions = [self._positions[-1], self._batches.position()]
        return batch.features()

    @property
    def element_spec(self) -> Mapping[str, dataset_iterator.ArraySpec]:
        return self._shapes

    def save(self, filename: str | epath.Path) -> None:
        """Writes the identity, and the position at a checkpoint's step; ValueError for another."""
        # T5X does not tell the step but by the path, `…/checkpoint_<step>/train_ds-…`.
        step = int(re.findall(r"checkpoint_(\d+)", str(filename))[-1])
        of_step = [position for position in self._positions if position["step"] == step]
        if not of_step:
            raise ValueError(
                f"A checkpoint must be of the step that the data are at; {filename} is of step "
                f"{step}, and {self._positions[-1]['step']} batches were read. Start in a new "
                "MODEL_DIR, without a step of the initial checkpoint."
            )
        run = {"identity": self._identity.to_json(), "settings": self._settings}
        run["recipe"] = self._begun
        epath.Path(filename).write_text(json.dumps({**run, "position": of_step[0]}))

    def restore(self, filename: str | epath.Path) -> None:
        """Continues after the position that `save` wrote; ValueError if it is another run's."""
        run, where = json.loads(epath.Path(filename).read_text()), str(filename)
        identity_lib.check_same(identity_lib.identity_of(run), self._identity, where)
        identity_lib.check_settings(run["settings"], self._settings, where)
        self._begun = run.get("recipe") or self._recipe
        self._check_frozen(where)
        changes = identity_lib.describe_changes(self._begun, self._recipe)
        if changes is not None and jax.process_index() == 0:
            logging.warning("Continuing %s; %s", where, changes)
        self._batches.restore(run["position"])
        self._positions = [self._batches.position()]

    # The name that T5X still uses.
    load = restore

    def _check_frozen(self, where: str) -> None:
        before, now = ((x or {}).get("frozen_dtype") for x in (self._begun, self._recipe))
        if (before, now) == ("bfloat16", "float32"):
            raise ValueError(
                "T5X's checkpoints hold frozen parameters as they were rounded; "
                f"{where} was begun with FROZEN_DTYPE={before!r}, and this run has {now!r}. "
                "Continue it with 'bfloat16', or begin another run."
            )


def eval_dataset(
    mixture_or_task_name: str,
    task_feature_lengths: Mapping[str, int],
    split: str | None,
    batch_size: int,
    eval_batch_size: int | None = None,
    use_cached: bool = False,
) -> utils.DatasetConfig | None:
    """T5X's evaluation data of numbered tasks (`tasks.register_task_ids`); None without a split."""
    if split is None:
        return None
    return utils.DatasetConfig(
        mixture_or_task_name,
        dict(task_feature_lengths),
        split,
        eval_batch_size or batch_size,
        shuffle=False,
        seed=0,
        use_cached=use_cached,
    )
