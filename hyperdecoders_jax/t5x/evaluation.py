"""T5X's evaluation with lengths and beams of each task, the macro GENERATION.

T5X has one prediction step for all tasks, and tells it no task. But a step is compiled for the
shapes of its features, so shapes tell it what a task's texts are: targets of as many positions as a
text may have tokens, and a feature `hypotheses` `[batch, beams]`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf
from jaxtyping import Array

from hyperdecoders_jax.decoding import decode
from hyperdecoders_jax.decoding.decode import Generation
from hyperdecoders_jax.model import Model

_HYPOTHESES = "hypotheses"


class Evaluator(seqio.Evaluator):
    """SeqIO's, for `inference_evaluator_cls`; `generation` is {task: (most tokens, beams)}."""

    def __init__(self, *args: Any, generation: Generation | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        datasets = getattr(self, "_cached_model_datasets", {})  # None without tasks.
        for name, (max_len, num_beams) in (generation or {}).items():
            if name in datasets:
                datasets[name] = _as_told(datasets[name], max_len, num_beams)


def _as_told(dataset: tf.data.Dataset, max_len: int, num_beams: int) -> tf.data.Dataset:
    def tell(index, features):
        def resize(name, feature):
            if not name.startswith("decoder_"):
                return feature
            # Targets that are longer are cut: a prediction does not read them.
            few = feature[:max_len]
            few = tf.pad(few, [[0, max_len - tf.shape(few)[0]]])
            return tf.ensure_shape(few, [max_len])

        features = {name: resize(name, feature) for name, feature in features.items()}
        return index, features | {_HYPOTHESES: tf.zeros([num_beams], tf.int32)}

    return dataset.map(tell)


def decoding_of(model: Model, features: Mapping[str, Array]) -> tuple[Model, int]:
    """The model as a batch's task is decoded, and the most tokens of its texts."""
    max_len = features["decoder_input_tokens"].shape[1]
    if _HYPOTHESES not in features:
        return model, max_len
    config = decode.with_num_beams(model.decoding, features[_HYPOTHESES].shape[1])
    return dataclasses.replace(model, decoding=config), max_len
