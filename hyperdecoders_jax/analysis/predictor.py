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
from hyperdecoders_jax.decoding.decode import DecodingConfig
from hyperdecoders_jax.evaluation import evaluator
from hyperdecoders_jax.model import Model, share_programs
from hyperdecoders_jax.trained.placed import Placed
from hyperdecoders_jax.types import Batch


class Predictor:
    """Makes predict functions of a model for given conditions."""

    def __init__(self, model: Placed, batch_size: int):
        self._placed = model
        self._batch_size = batch_size
        # Kept here, too, as in `placed.Verbs`.
        self._programs = functools.cache(self._program_of)

    def bind(
        self, given: ablations.Given | None = None, tasks: Sequence[str] = ()
    ) -> evaluator.PredictFn:
        """Predict function for an evaluator that goes through each task once, in order.

        `given`: conditions of all tasks' examples, whose task `tasks` names; None: their own.
        """
        model, size = self._placed, self._batch_size
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
            placed = model.partitioner.put_batch((batch, replaced))
            sample_rng = jax.random.fold_in(jax.random.key(model.seed), next(calls))
            predict = self._programs(*model.verbs.decoding_of(task_name))
            return jax.device_get(predict(model.params, placed[0], sample_rng, placed[1]))

        return predict_fn

    def _program_of(self, decoding: DecodingConfig, max_len: int) -> Callable[..., Any]:
        return _program(dataclasses.replace(self._placed.model, decoding=decoding), max_len)


# Conditions are arguments of one program per way of decoding: ablations share it.
@share_programs
def _program(model: Model, max_len: int) -> Callable[..., Any]:
    def predict(params, batch, sample_rng, given):
        with conditions.given(given):
            return model.predict(params, batch, sample_rng, max_len=max_len)

    return jax.jit(predict)
