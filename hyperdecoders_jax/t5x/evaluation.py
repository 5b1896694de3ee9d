"""T5X's evaluation with lengths and beams of each task, the macro GENERATION.

T5X has one prediction step for all tasks, and tells it no task. But a step is compiled for the
shapes of its features, so that a shape can tell: of a feature `generation`, `[batch, most tokens of
a text, beams]`, whose values nobody reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from jaxtyping import Array
from seqio import metrics as seqio_metrics

from hyperdecoders_jax.decoding import decode
from hyperdecoders_jax.decoding.decode import Generation
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.trained import placed
from hyperdecoders_jax.training.trainer import BestCheckpointConfig

_FEATURE = "generation"


class Evaluator(seqio.Evaluator):
    """SeqIO's, for T5X's `inference_evaluator_cls`.

    Args:
      model: what is evaluated.
      generation: {task: (most tokens of a text, beams)} where `Model.decoding` and the length of
        targets shall not decide; ValueError for an invalid one.
      best: what chooses the best checkpoint; KeyError after an evaluation without its metric.
    """

    def __init__(
        self,
        *args: Any,
        sequence_length: Mapping[str, int],
        model: Model,
        generation: Generation | None = None,
        best: BestCheckpointConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, sequence_length=sequence_length, **kwargs)
        placed.check_decoding(model, sequence_length["targets"], generation)
        self._best = best
        for task in self.eval_tasks:
            if task.name in (generation or {}):
                marked = _mark(self.cached_model_datasets[task.name], generation[task.name])
                self._cached_model_datasets[task.name] = marked

    def evaluate(self, *, compute_metrics: bool, **kwargs: Any):
        """SeqIO's; with `best`, it waits for the metrics, and checks that the metric is there."""
        found, outputs = super().evaluate(compute_metrics=compute_metrics, **kwargs)
        if self._best is not None and compute_metrics:
            rows = {task: _numbers(row) for task, row in found.result().items()}
            if any(rows.values()):
                self._best.value(rows)
        return found, outputs


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    scalars = {
        name: np.asarray(x.value if isinstance(x, seqio_metrics.Scalar) else x)
        for name, x in metrics.items()
        if not isinstance(x, seqio_metrics.MetricValue) or isinstance(x, seqio_metrics.Scalar)
    }
    return {name: float(x) for name, x in scalars.items() if x.ndim == 0 and x.dtype.kind in "iuf"}


def _mark(dataset: tf.data.Dataset, given: tuple[int, int]) -> tf.data.Dataset:
    mark = {_FEATURE: tf.zeros(given, tf.int8)}
    return dataset.map(lambda index, features: (index, {**features, **mark}))


def decoding_of(model: Model, features: Mapping[str, Array]) -> tuple[Model, int]:
    """The model as a batch's task is decoded, and the most tokens of its texts."""
    if _FEATURE not in features:
        return model, features["decoder_input_tokens"].shape[1]
    max_len, num_beams = features[_FEATURE].shape[1:]
    config = decode.with_num_beams(model.decoding, num_beams)
    return dataclasses.replace(model, decoding=config), max_len
