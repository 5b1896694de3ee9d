"""Predictions of a trained model with replaced conditions."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from hyperdecoders_jax.analysis import ablations, conditions
from hyperdecoders_jax.decoding import decode
from hyperdecoders_jax.evaluation import evaluator
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.training import partitioning
from hyperdecoders_jax.types import Batch, Params


@dataclasses.dataclass(frozen=True)
class Subject:
    """A trained model on devices, for an analysis."""

    model: Model  # With as many tasks as it was trained on.
    params: Params
    partitioner: partitioning.Partitioner  # Distributed the parameters.
    step: int
    max_len: int  # Most tokens of a prediction, EOS included.
    # (most tokens, beams) of tasks that are decoded differently.
    generation: decode.Generation = dataclasses.field(default_factory=dict)
    seed: int = 0  # Of sampling and shuffling.


class Predictor:
    """Makes predict functions of a model for given conditions."""

    def __init__(self, subject: Subject, batch_size: int):
        self._subject = subject
        self._batch_size = batch_size
        # Conditions are arguments of one program per way of decoding: ablations share it.
        self._compiled = functools.cache(self._compile)

    def _compile(self, decoding: decode.DecodingConfig, max_len: int) -> Callable[..., Any]:
        model = dataclasses.replace(self._subject.model, decoding=decoding)

        def predict(params, batch, sample_rng, given):
            with conditions.given(given):
                return model.predict(params, batch, sample_rng, max_len=max_len)

        return jax.jit(predict)

    def bind(
        self, given: ablations.Given | None = None, tasks: Sequence[str] = ()
    ) -> evaluator.PredictFn:
        """Predict function for an evaluator that goes through each task once, in order.

        Args:
            given: conditions of the examples of all tasks; None: their own.
            tasks: of each example in `given`.
        """
        subject, size = self._subject, self._batch_size
        tasks = np.array(tasks)
        # Rows of `given` that are still to come: a batch does not say which examples it holds.
        left = {task: np.flatnonzero(tasks == task) for task in np.unique(tasks)}
        calls = itertools.count()

        def predict_fn(batch: Batch, task_name: str) -> Any:
            replaced = {}
            if given is not None:
                rows, left[task_name] = left[task_name][:size], left[task_name][size:]
                # Rows that fill up the last batch get any condition.
                replaced = given.take(np.pad(rows, (0, size - len(rows)), mode="edge"))
            # With the batch, so that conditions are sharded like its examples.
            placed = subject.partitioner.put_batch((batch, replaced))
            sample_rng = jax.random.fold_in(jax.random.key(subject.seed), next(calls))
            predict = self._compiled(
                *decode.for_task(
                    subject.model.decoding, subject.max_len, subject.generation, task_name
                )
            )
            return jax.device_get(predict(subject.params, placed[0], sample_rng, placed[1]))

        return predict_fn
