"""A model on the devices: parameters, sharded, and its compiled verbs."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from hyperdecoders_jax import types
from hyperdecoders_jax.decoding import decode, decoded
from hyperdecoders_jax.decoding.decode import DecodingConfig, Generation
from hyperdecoders_jax.decoding.decoded import Decoded
from hyperdecoders_jax.decoding.sampling import SamplingConfig
from hyperdecoders_jax.model import Model, share_programs
from hyperdecoders_jax.training.partitioning import Partitioner
from hyperdecoders_jax.training.trainable import TrainableConfig
from hyperdecoders_jax.types import Batch, Params
from hyperdecoders_jax.weights import names
from hyperdecoders_jax.weights.trained_model import TrainedModel

# (this process's rows of a batch, the task's name if all rows are of one) -> texts
PredictFn = Callable[..., Decoded]


class Verbs:
    """The compiled `predict` and `score` of a model, given parameters; `max_len` counts EOS."""

    def __init__(
        self,
        model: Model,
        partitioner: Partitioner,
        max_len: int,
        generation: Generation | None = None,
    ):
        self.model = model
        self.partitioner = partitioner
        self.max_len = max_len
        self.generation = dict(generation or {})
        # Kept here, too: a run with more ways of decoding than `share_programs` keeps would compile
        # them all at each evaluation.
        self._programs = functools.cache(self._program_of)
        self.score = _score_program(model, partitioner.batch_sharding)

    def decoding_of(self, task_name: str | None) -> tuple[DecodingConfig, int]:
        """How a task's texts are decoded, and their most tokens."""
        return decode.for_task(self.model.decoding, self.max_len, self.generation, task_name)

    def predict(self, task_name: str | None) -> Callable[..., Decoded]:
        """The compiled `predict` for a task."""
        return self._programs(*self.decoding_of(task_name))

    def _program_of(self, decoding: DecodingConfig, max_len: int) -> Callable[..., Decoded]:
        model = dataclasses.replace(self.model, decoding=decoding)
        return _predict_program(model, max_len, self.partitioner.batch_sharding)


# One program for each way of decoding: tasks that are decoded alike share it, and parameters come
# as arguments, so that an evaluation after more steps compiles nothing.
@share_programs
def _predict_program(
    model: Model, max_len: int, sharding: jax.sharding.Sharding
) -> Callable[..., Decoded]:
    def predict(params, batch, sample_rng):
        return model.predict(params, batch, sample_rng, max_len=max_len)

    return jax.jit(predict, out_shardings=sharding)


@share_programs
def _score_program(model: Model, sharding: jax.sharding.Sharding) -> Callable[..., jax.Array]:
    return jax.jit(model.score, out_shardings=sharding)


@dataclasses.dataclass(frozen=True)
class Placed:
    """A trained model whose parameters are on the devices."""

    verbs: Verbs
    params: Params
    step: int = 0  # Of the checkpoint.
    task_names: tuple[str, ...] | None = None  # In the order that numbers tasks.
    seed: int = 0  # Of sampling.

    @property
    def model(self) -> Model:
        """The model, with as many tasks as it was trained on."""
        return self.verbs.model

    @property
    def partitioner(self) -> Partitioner:
        """What placed the parameters."""
        return self.verbs.partitioner

    def predict_fn(self) -> PredictFn:
        """A predict function; the n-th batch that each such function gets has the same key."""
        calls, key = itertools.count(), jax.random.key(self.seed)

        def predict(batch: Batch, task_name: str | None = None) -> Decoded:
            sample_rng = jax.random.fold_in(key, next(calls))
            batch = self.partitioner.put_batch(batch)
            compiled = self.verbs.predict(task_name)
            return self.partitioner.take_rows(compiled(self.params, batch, sample_rng))

        return predict

    def score(self, batch: Batch) -> Any:
        """Log-likelihood of each target token, for this process's rows of a batch."""
        batch = self.partitioner.put_batch(batch)
        return self.partitioner.take_rows(self.verbs.score(self.params, batch))


def place(trained: TrainedModel, verbs: Verbs, frozen_dtype: str, trainable: TrainableConfig):
    """Shards parameters over devices, one at a time; untrained ones are of `frozen_dtype`."""
    axes, shapes = verbs.model.param_axes(), verbs.model.param_shapes()
    shardings = names.flatten(verbs.partitioner.param_shardings(shapes, axes))
    placed = {}
    for path, array in trained.arrays.items():
        is_trained = trainable.is_trainable(tuple(path.split("/")))
        value = array.cast(jnp.dtype("float32" if is_trained else frozen_dtype)).read()
        placed |= verbs.partitioner.put_params({path: value}, {path: shardings[path]})
    return names.unflatten(placed)


def check_decoding(model: Model, max_len: int, generation: Generation | None = None) -> None:
    """Raises ValueError if `min_len` exceeds the targets' length, or a task's entry is invalid."""
    min_len, way = model.decoding.min_len, type(model.decoding).__name__
    if min_len > max_len:
        raise ValueError(
            f"The fewest tokens must fit into the length of targets; got {way}.min_len={min_len} "
            f"and targets of {max_len} tokens. Lower it, or raise that in TASK_FEATURE_LENGTHS."
        )
    if not isinstance(generation, Mapping | None):
        raise TypeError(
            "GENERATION must be None, or a dictionary that gives tasks (most tokens of a text, "
            f"beams); got {generation!r}. Write {{'TASK': (64, 4)}}."
        )
    is_sampled = isinstance(model.decoding, SamplingConfig)
    least, most_beams = max(min_len, 1), 1 if is_sampled else decoded.MAX_BEAMS
    for task, given in (generation or {}).items():
        match given:
            case (int(most), int(beams)) if (
                least <= most <= types.MAX_LEN and 1 <= beams <= most_beams
            ):
                continue
        raise ValueError(
            f"GENERATION must give a task (most tokens of a text, beams), {least} to "
            f"{types.MAX_LEN:,} and 1 to {most_beams:,}; got {given!r} for {task!r} with "
            f"{way}.min_len={min_len}. Correct them{'; sampling has no beams' * is_sampled}."
        )
