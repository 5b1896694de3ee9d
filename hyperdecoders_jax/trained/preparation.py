"""A configuration in; a vocabulary, parameters and a way to predict out, or an error.

What train, eval and infer share before they do anything of their own. Checks come before loading,
loading before compiling; nothing here writes a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.data import mixtures, preflight
from hyperdecoders_jax.data import vocabulary as vocabulary_lib
from hyperdecoders_jax.decoding import decode
from hyperdecoders_jax.decoding.decode import DecodingConfig, Generation
from hyperdecoders_jax.decoding.decoded import Decoded
from hyperdecoders_jax.model import BACKBONE_KEYS, Model
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.training import checkpoints as checkpoints_lib
from hyperdecoders_jax.training import identity as identity_lib
from hyperdecoders_jax.training import partitioning, run_directory
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.types import Batch, Params
from hyperdecoders_jax.weights import (
    backbone,
    conversion,
    exported_folder,
    fingerprints,
    names,
    safetensors_files,
    t5x_checkpoint,
)

RANDOM_WEIGHTS = "random weights"

# (batch, the task's name if all rows are of one) -> texts
PredictFn = Callable[..., Decoded]


@dataclasses.dataclass(frozen=True)
class Start:
    """Parameters before the first step.

    Attributes:
      trainable: float32.
      frozen: float32; whoever puts it on devices may cast it.
      frozen_source: where the frozen parameters came from, in words.
      frozen_fingerprint: of their values.
    """

    trainable: Params
    frozen: Params
    frozen_source: str
    frozen_fingerprint: str


def use_vocabulary(path: str, initial_checkpoint_path: str | None) -> str:
    """Makes `path` the vocabulary of this run and returns its fingerprint.

    Raises:
      ValueError: it cannot be read, or the initial checkpoint says that it belongs to another.
    """
    vocabulary = vocabulary_lib.load_vocabulary(files.resolve(path))
    vocabulary_lib.set_run_vocabulary(vocabulary)
    fingerprint = vocabulary_lib.fingerprint(vocabulary)
    wanted = _vocabulary_of(initial_checkpoint_path)
    if wanted is not None and wanted != fingerprint:
        raise ValueError(
            f"The vocabulary must be the one that the initial checkpoint was trained with; "
            f"{initial_checkpoint_path} was trained with one of fingerprint {wanted[:12]}, and "
            f"{path} has {fingerprint[:12]}. Pass the checkpoint's own with --vocabulary=…."
        )
    return fingerprint


def _vocabulary_of(initial_checkpoint_path: str | None) -> str | None:
    """The fingerprint of an initial checkpoint's own vocabulary, if it holds one or says so."""
    path = initial_checkpoint_path
    if path is None or ("://" in path and not path.startswith(files.PACKAGE_SCHEME)):
        return None
    place = epath.Path(files.resolve(path))
    # What cannot be read is told by whoever loads it.
    if place.is_dir():
        with contextlib.suppress(ValueError):
            return vocabulary_lib.fingerprint(vocabulary_lib.load_vocabulary(str(place)))
    if place.suffix == ".safetensors":
        with contextlib.suppress(ValueError, OSError):
            return safetensors_files.metadata(place).get(conversion.VOCABULARY_KEY)
    return None


def load_start(
    model: Model,
    trainable_config: trainable_lib.TrainableConfig,
    initial_checkpoint_path: str | None,
    seed: int,
) -> Start:
    """Loads or draws every parameter; logs which of the two.

    Args:
      model: whose parameters are wanted.
      trainable_config: splits them.
      initial_checkpoint_path: T5's own parameters, and perhaps others, in any format; None draws
        all.
      seed: of what is drawn.

    Raises:
      FileNotFoundError: nothing is at that path.
      ValueError: what is there is damaged or does not fit the model, or nothing is trainable.
    """
    params_rng = jax.random.key(seed)
    # Before anything is read or drawn: the answer needs shapes alone.
    trainable_lib.split(model.param_shapes(), trainable_config)
    if initial_checkpoint_path is None:
        params = dict(model.init(params_rng))
        source = f"{RANDOM_WEIGHTS} of seed {seed}"
        logging.info(
            "Drew all %d parameters from seed %d.", trainable_lib.num_parameters(params), seed
        )
    else:
        loaded = backbone.load(initial_checkpoint_path, model.config)
        new = {key: x for key, x in draw_new(model, params_rng).items() if key not in loaded.params}
        params = {**loaded.params, **new}
        source = str(initial_checkpoint_path)
        logging.info(
            "Loaded %d parameters from %s: %s",
            trainable_lib.num_parameters(loaded.params),
            source,
            trainable_lib.list_paths(loaded.params),
        )
        logging.info("Left of it: %s", loaded.left or "nothing")
        logging.info(
            "Drew %d new ones: %s", trainable_lib.num_parameters(new), trainable_lib.list_paths(new)
        )
    trainable, frozen = trainable_lib.split(params, trainable_config)
    return Start(trainable, frozen, source, fingerprints.fingerprint(frozen))


def check_start(
    initial_checkpoint_path: str | None, model: Model, task_names: Sequence[str] | None
) -> None:
    """Checks that tasks keep the numbers with which an exported model was trained.

    Raises:
      ValueError: the parameters of its tasks would go to others; new tasks come behind them.
    """
    path = files.resolve(initial_checkpoint_path)
    is_exported = path is not None and exported_folder.is_hyperdecoder(path)
    if not (is_exported and model.config.reads_tasks and task_names is not None):
        return
    there = exported_folder.read_description(path)
    theirs, ours = there.task_names, tuple(task_names)
    if there.model.reads_tasks and ours[: len(theirs)] != theirs:
        raise ValueError(
            f"Tasks must keep the numbers that they were trained with; {path} numbers them "
            f"{theirs}, and this run {ours}. Set TASK_NAMES to that list, or leave it to "
            "--init; new tasks are appended to it."
        )


def draw_new(model: Model, params_rng: jax.Array) -> Params:
    """Draws the parameters that T5 does not have; equal to those of `model.init`."""

    def draw(rng):
        return {key: x for key, x in model.init(rng).items() if key not in BACKBONE_KEYS}

    # Compiled as a whole, so that XLA drops the backbone instead of drawing it.
    return jax.jit(draw)(params_rng)


def identity(
    model: Model, start: Start, task_names: Sequence[str], vocabulary_fingerprint: str
) -> identity_lib.Identity:
    """What this run's checkpoints belong to."""
    return identity_lib.Identity(
        task_names=tuple(task_names),
        model=identity_lib.describe_model(model.config),
        frozen_source=start.frozen_source,
        frozen_fingerprint=start.frozen_fingerprint,
        vocabulary_fingerprint=vocabulary_fingerprint,
    )


def check_decoding(model: Model, max_len: int, generation: Generation | None = None) -> None:
    """Checks that a text of the fewest tokens fits into the length of generated texts.

    Raises:
      ValueError: it does not, or a task has no length and number of beams, or one below one.
    """
    min_len, way = model.decoding.min_len, type(model.decoding).__name__
    if min_len > max_len:
        raise ValueError(
            "The fewest tokens of a prediction must fit into the length of targets; got "
            f"{way}.min_len={min_len} and targets of {max_len} tokens. Lower min_len, or raise it "
            "in TASK_FEATURE_LENGTHS."
        )
    for task, given in (generation or {}).items():
        match given:
            case (int(most), int(num_beams)) if most >= max(min_len, 1) and num_beams >= 1:
                continue
        raise ValueError(
            "GENERATION must give a task (most tokens of a text, beams), at least one of each and "
            f"no less than min_len; got {given} for {task!r} with {way}.min_len={min_len}. Correct "
            "them."
        )


class Predictor:
    """The compiled verbs of a model; parameters come with `bind`.

    Args:
      model: whose `predict` and `score` are called.
      partitioner: how batches lie on the devices.
      max_len: most tokens of a prediction, EOS included.
      seed: of sampling; the n-th batch after each `bind` always has the same key.
      generation: of tasks whose texts are decoded otherwise.
    """

    def __init__(
        self,
        model: Model,
        partitioner: partitioning.Partitioner,
        max_len: int,
        seed: int = 0,
        generation: Generation | None = None,
    ):
        self._model = model
        self._partitioner = partitioner
        self._max_len = max_len
        self._seed = seed
        self._generation = dict(generation or {})
        # One program for each way of decoding; tasks that are decoded alike share it.
        self._compiled = functools.cache(self._compile)
        self._score = jax.jit(model.score, out_shardings=partitioner.batch_sharding)

    def _compile(self, decoding: DecodingConfig, max_len: int) -> Callable[..., Decoded]:
        model = dataclasses.replace(self._model, decoding=decoding)

        def predict(params, batch, sample_rng):
            return model.predict(params, batch, sample_rng, max_len=max_len)

        return jax.jit(predict, out_shardings=self._partitioner.batch_sharding)

    def _program(self, task_name: str | None) -> Callable[..., Decoded]:
        decoding, max_len = self._model.decoding, self._max_len
        return self._compiled(*decode.for_task(decoding, max_len, self._generation, task_name))

    def bind(self, params: Params) -> tuple[PredictFn, Callable[[Batch], Any]]:
        """Predict and score functions of these parameters, for this process's rows of a batch."""
        calls = iter(range(1 << 62))
        key = jax.random.key(self._seed)

        def predict_fn(batch: Batch, task_name: str | None = None) -> Decoded:
            sample_rng = jax.random.fold_in(key, next(calls))
            batch = self._partitioner.put_batch(batch)
            predict = self._program(task_name)
            return self._partitioner.take_rows(predict(params, batch, sample_rng))

        def score_fn(batch: Batch):
            batch = self._partitioner.put_batch(batch)
            return self._partitioner.take_rows(self._score(params, batch))

        return predict_fn, score_fn


@dataclasses.dataclass(frozen=True)
class T5XCheckpoints:
    """The checkpoints of a run under T5X: all parameters, and no word on what they belong to.

    Attributes:
      directory: the run's.
    """

    directory: epath.Path

    def steps(self) -> list[int]:
        """Lists their steps, oldest first."""
        return list(t5x_checkpoint.steps(self.directory))

    def newest_step(self) -> int | None:
        """Returns the last of them."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """Returns None: T5X keeps the newest."""
        return None

    def load(self, step: int, model: Model) -> Params:
        """Returns all parameters of a checkpoint, float32.

        Raises:
          ValueError: they are damaged, or not those of the model.
        """
        folder = t5x_checkpoint.steps(self.directory)[step]
        weights = conversion.Weights(model.config, t5x_checkpoint.open(folder))
        conversion.check(weights, str(folder))
        return names.unflatten(
            {
                path: array.read().astype(np.float32, copy=False)
                for path, array in weights.arrays.items()
            }
        )


@functools.lru_cache(maxsize=1)
def _reader(model_dir: str) -> checkpoints_lib.Checkpoints | T5XCheckpoints:
    """The checkpoints of a directory, to read them; one object, which hashes no file twice.

    Raises:
      ValueError: some are T5X's, and some are our own runner's.
    """
    own, theirs = (
        run_directory.RunDirectory(model_dir).checkpoints(),
        T5XCheckpoints(epath.Path(model_dir)),
    )
    if not theirs.steps():
        return own
    if own.steps():
        raise ValueError(
            f"A model directory must hold the run of one runner; {model_dir} has checkpoints of "
            f"T5X, of steps {theirs.steps()}, and of the package's own runner, of steps "
            f"{own.steps()}. Move one run to a directory of its own, with a copy of its config.gin."
        )
    return theirs


def check_newest_checkpoint(
    model_dir: str,
    model: Model,
    task_names: Sequence[str],
    vocabulary_fingerprint: str,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Compares what a model directory holds with this run, before any parameter is loaded.

    Raises:
      ValueError: it holds a run of T5X, one of another model, task list or vocabulary, or one of
        other `preflight.order_settings`.
    """
    checkpoints = _reader(model_dir)
    if isinstance(checkpoints, T5XCheckpoints):
        raise ValueError(
            f"A run must be continued by its own runner; {model_dir} holds checkpoints of T5X, of "
            f"steps {checkpoints.steps()}. Add --runner=t5x, or name another --model_dir."
        )
    step = checkpoints.newest_step()
    if step is None:
        return
    here = identity_lib.Identity(
        task_names=tuple(task_names),
        model=identity_lib.describe_model(model.config),
        vocabulary_fingerprint=vocabulary_fingerprint,
    )
    run, where = checkpoints.read_run(step), str(checkpoints.directory / str(step))
    identity_lib.check_same(identity_lib.identity_of(run), here, where)
    identity_lib.check_settings(run.get("settings"), settings, where)


@dataclasses.dataclass(frozen=True)
class TrainedConfig:
    """A training run, as eval and infer need to know it.

    Attributes:
      model: what was trained.
      model_dir: where; None where there is no run, and a folder's parameters are taken as they are.
      checkpoint_step: "best" (the last, where none was evaluated, and of T5X, which keeps no best
        one), "last", or a step; None for the parameters before training.
      vocabulary: path, folder, URL or "bytes".
      initial_checkpoint_path: what the run started from.
      trainable: which parameters were trained.
      frozen_dtype: of the others, "float32" or "bfloat16".
      partitioning: how devices share the work.
      random_seed: of the run; draws again what it drew.
      task_names: the ordered list that numbered its tasks, for a run of T5X, or one that has no
        checkpoint; those of our own runner hold theirs.
    """

    model: Model
    model_dir: str | None
    checkpoint_step: str | int | None
    vocabulary: str
    initial_checkpoint_path: str | None
    trainable: trainable_lib.TrainableConfig
    frozen_dtype: str
    partitioning: partitioning.PartitioningConfig
    random_seed: int
    task_names: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model, ready to predict.

    Attributes:
      step: of the checkpoint.
      task_names: the ordered list that numbers tasks.
      config: the model's.
      predict: takes this process's rows of a batch.
      score: gives the log-likelihood of each target token.
    """

    step: int
    task_names: tuple[str, ...] | None
    config: TransformerConfig
    predict: PredictFn
    score: Callable[[Batch], Any]


def task_names_of(config: TrainedConfig) -> tuple[str, ...] | None:
    """The ordered list of a run's tasks; None where there is none, or none is needed.

    Raises:
      ValueError: the model tells tasks apart, and a run of T5X does not say in which order.
    """
    checkpoints = None if config.model_dir is None else _reader(config.model_dir)
    step = None if checkpoints is None else checkpoints.newest_step()
    if isinstance(checkpoints, T5XCheckpoints):
        task_names = config.task_names
        if task_names is None and config.model.config.reads_tasks:
            raise ValueError(
                "A model that tells tasks apart needs the list that numbered them; the config.gin "
                f"of {config.model_dir} has TASK_NAMES = None. Write them there in the order of "
                "training: that of their names, if nothing else was set."
            )
    elif step is None:
        task_names = config.task_names
    else:
        task_names = identity_lib.identity_of(checkpoints.read_run(step)).task_names
    return None if task_names is None else tuple(task_names)


def data_shard(config: TrainedConfig) -> tuple[int, int]:
    """The part of each batch that this process predicts; see `Partitioner.data_shard`."""
    return partitioning.make_partitioner(config.partitioning).data_shard()


@dataclasses.dataclass(frozen=True)
class TrainedParams:
    """The parameters of a training run.

    Attributes:
      step: of the checkpoint; None for the parameters before training.
      task_names: the ordered list that numbers tasks.
      trainable: of the checkpoint.
      frozen: float32, as the run started with them; of T5X, those of the checkpoint.
    """

    step: int | None
    task_names: tuple[str, ...] | None
    trainable: Params
    frozen: Params


def load_trained(config: TrainedConfig, placements: Params | None = None) -> TrainedParams:
    """Loads a checkpoint and the frozen part that belongs to it.

    Args:
      config: which.
      placements: shardings of the trainable parameters; without, they go to the first device.

    Raises:
      ValueError: there is no such checkpoint, it is damaged, or it is of another run.
    """
    fingerprint = use_vocabulary(config.vocabulary, config.initial_checkpoint_path)
    step = _find_step(config)
    path, task_names = config.initial_checkpoint_path, task_names_of(config)
    model = config.model.for_tasks(task_names)
    if step is None:
        check_start(path, model, task_names)
        start = load_start(model, config.trainable, path, config.random_seed)
        return TrainedParams(None, task_names, start.trainable, start.frozen)
    checkpoints = _reader(config.model_dir)
    if isinstance(checkpoints, T5XCheckpoints):
        params = checkpoints.load(step, model)
        trainable, frozen = trainable_lib.split(params, config.trainable)
        if placements is not None:
            trainable = jax.tree.map(_place, trainable, dict(placements))
        return TrainedParams(step, task_names, trainable, frozen)
    check_newest_checkpoint(config.model_dir, model, task_names, fingerprint)
    start = load_start(model, config.trainable, path, config.random_seed)
    there = identity_lib.identity_of(checkpoints.read_run(step))
    here = identity(model, start, task_names, fingerprint)
    identity_lib.check_same(there, here, str(checkpoints.directory / str(step)))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), dict(start.trainable))
    if placements is not None:
        # Read to where it shall lie: the devices that saved it need not exist here.
        shapes = jax.tree.map(
            lambda x, sharding: x.update(sharding=sharding), shapes, dict(placements)
        )
    return TrainedParams(step, task_names, checkpoints.load_trainable(shapes, step), start.frozen)


def _place(array: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def open_trained(
    config: TrainedConfig, max_len: int, batch_size: int, generation: Generation | None = None
) -> Trained:
    """Loads a checkpoint as `load_trained` does, and places the model on the devices.

    Args:
      config: which.
      max_len: most tokens of a prediction, EOS included.
      batch_size: examples of one prediction step.
      generation: of tasks whose texts are decoded otherwise.

    Raises:
      ValueError: what `load_trained` raises, or the batch does not divide over the devices.
    """
    check_decoding(config.model, max_len, generation)
    placed = place_trained(config, batch_size)
    model, seed = placed.model, config.random_seed
    predictor = Predictor(model, placed.partitioner, max_len, seed, generation)
    return Trained(placed.step, placed.task_names, model.config, *predictor.bind(placed.params))


@dataclasses.dataclass(frozen=True)
class Placed:
    """A trained model whose parameters lie on the devices.

    Attributes:
      step: of the checkpoint.
      task_names: the ordered list that numbers tasks.
      model: with as many tasks.
      params: all of them.
      partitioner: that placed them.
    """

    step: int
    task_names: tuple[str, ...] | None
    model: Model
    params: Params
    partitioner: partitioning.Partitioner


def place_trained(config: TrainedConfig, batch_size: int) -> Placed:
    """Loads a checkpoint as `load_trained` does, and places its parameters; see `open_trained`."""
    trainable_lib.check_frozen_dtype(config.frozen_dtype)
    partitioner = partitioning.make_partitioner(config.partitioning)
    partitioner.check_batch_size(batch_size)
    model = config.model.for_tasks(task_names_of(config))
    axes = model.param_axes()
    shapes, _ = trainable_lib.split(model.param_shapes(), config.trainable)
    placements = partitioner.param_shardings(shapes, axes)
    loaded = load_trained(config, placements)
    trained = loaded.trainable
    if loaded.step is None:
        trained = partitioner.put_params(trained, placements)
    frozen = trainable_lib.cast_frozen(loaded.frozen, config.frozen_dtype)
    frozen = partitioner.put_params(frozen, partitioner.param_shardings(frozen, axes))
    params = trainable_lib.merge(trained, frozen)
    return Placed(loaded.step or 0, loaded.task_names, model, params, partitioner)


def _find_step(config: TrainedConfig) -> int | None:
    """The step that `checkpoint_step` means; None for the parameters before training."""
    which = config.checkpoint_step
    if which is None:
        return None
    checkpoints = _reader(config.model_dir)
    step = None
    if which == "best":
        step = checkpoints.best_step()
    if which == "last" or (which == "best" and step is None):
        step = checkpoints.newest_step()
    elif which in checkpoints.steps():
        step = which
    if step is None:
        raise ValueError(
            f"CHECKPOINT_STEP must be 'best', 'last', None or the step of a checkpoint; got "
            f"{which!r}, and {checkpoints.directory} holds those of steps {checkpoints.steps()}. "
            f"Train first, or name the --model_dir of another run."
        )
    return step


def describe_run(
    model: Model,
    start: Start,
    partitioner: partitioning.Partitioner,
    report: Mapping[str, preflight.TaskReport],
    generation: Generation | None = None,
) -> str:
    """A few lines on what is about to run: data, ways of decoding, parameters, devices."""
    table = {name: task.mixing for name, task in report.items()}
    lines = [mixtures.format_mixing_table(table)]
    for name, task in report.items():
        if task.num_truncated:
            lines.append(
                f"{name}: {task.num_truncated} of its first {task.num_checked} inputs are longer "
                f"than their length and are cut; the longest has {task.longest_inputs} tokens."
            )
    for name in sorted(report.keys() & (generation or {})):
        max_len, num_beams = generation[name]
        lines.append(f"{name}: texts of at most {max_len} tokens, beams: {num_beams}.")
    trained, total = (
        trainable_lib.num_parameters(start.trainable),
        trainable_lib.num_parameters(model.param_shapes()),
    )
    lines.append(
        f"{trained:,} of {total:,} parameters are trained ({trained / total:.2%}); "
        f"the others are from {start.frozen_source}."
        if trained < total
        else f"All {total:,} parameters are trained, starting from {start.frozen_source}."
    )
    shape = " x ".join(f"{size} {name}" for name, size in partitioner.mesh.shape.items())
    kind = partitioner.mesh.devices.flat[0].device_kind
    lines.append(f"Devices: {shape} ({kind}).")
    return "\n".join(lines)
