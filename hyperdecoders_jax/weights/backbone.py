"""Weights that a run starts from, in any format, checked against the model that it trains."""

from __future__ import annotations

from collections.abc import Mapping

from absl import logging
from etils import epath

from hyperdecoders_jax import model
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Params
from hyperdecoders_jax.weights import arrays as arrays_lib
from hyperdecoders_jax.weights import check_params, conversion, formats, names, safetensors_files
from hyperdecoders_jax.weights.trained_model import TrainedModel


def open(path: str, config: TransformerConfig) -> TrainedModel:
    """Opens the weights that a run of `config` starts from, unread; as `formats.read`.

    They must have all of T5; of what adapts it, whole parts, such as the original's trained state.
    """
    weights = formats.read(str(path), config=config)
    conversion.check_config(weights, config, str(path))
    check_params.check_params(weights.arrays, config, str(path), is_start=True)
    if weights.description.task_names and config.reads_tasks:
        logging.warning(
            "%s has parameters for each of these tasks, in this order, which must be the run's: %s",
            path,
            ", ".join(weights.description.task_names),
        )
    return weights


def save(path: str | epath.Path, params: Params, metadata: Mapping[str, str]) -> None:
    """Writes T5's own parameters to a `.safetensors` file, in our names and their types."""
    flat = names.flatten({key: params[key] for key in model.BACKBONE_KEYS})
    safetensors_files.write_file(path, arrays_lib.in_memory(flat), metadata)
