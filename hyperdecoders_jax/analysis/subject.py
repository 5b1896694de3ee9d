"""A trained model and conditions in; predictions for examples that are adapted by them, out."""

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
    """A trained model that is studied.

    Attributes:
      model: with as many tasks as it was trained on.
      params: all of them, on the devices.
      partitioner: that placed them.
      step: of the checkpoint.
      max_len: most tokens of a prediction, EOS included.
      generation: of tasks whose texts are decoded otherwise: (most tokens, beams).
      seed: of sampling and shuffling.
    """

    model: Model
    params: Params
    partitioner: partitioning.Partitioner
    step: int
    max_len: int
    generation: decode.Generation = dataclasses.field(default_factory=dict)
    seed: int = 0


class Predictor:
    """Predict functions of a model, each for other conditions.

    Conditions are arguments of one program for each way of decoding: nothing is compiled again for
    the next ablation.
    """

    def __init__(self, subject: Subject, batch_size: int):
        self._subject = subject
        self._batch_size = batch_size
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
        """A function for the batches of an evaluator, each task's from its first example on.

        Args:
          given: to the examples of all tasks; None: they have their own conditions.
          tasks: of each example that is given one.
        """
        subject, size = self._subject, self._batch_size
        # Examples of each task that no batch had yet.
        tasks = np.array(tasks)
        left = {task: np.flatnonzero(tasks == task) for task in np.unique(tasks)}
        calls = itertools.count()

        def predict_fn(batch: Batch, task_name: str) -> Any:
            replaced = {}
            if given is not None:
                rows, left[task_name] = left[task_name][:size], left[task_name][size:]
                # For rows that fill a batch up any condition does.
                replaced = given.take(np.pad(rows, (0, size - len(rows)), mode="edge"))
            placed = subject.partitioner.put_batch((batch, replaced))
            sample_rng = jax.random.fold_in(jax.random.key(subject.seed), next(calls))
            predict = self._compiled(
                *decode.for_task(
                    subject.model.decoding, subject.max_len, subject.generation, task_name
                )
            )
            return jax.device_get(predict(subject.params, placed[0], sample_rng, placed[1]))

        return predict_fn
