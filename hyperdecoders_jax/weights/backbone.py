"""The weights that a run starts from: a path or hub id in, the parameters that they give out.

Every format of `conversion` does. T5's own parameters must be there, all of them; parameters that
adapt it may be, as whole parts of the tree (a run can start from the original's trained state).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from absl import logging
from etils import epath

from hyperdecoders_jax import files, model
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Params
from hyperdecoders_jax.weights import arrays as arrays_lib
from hyperdecoders_jax.weights import conversion, names, safetensors_files


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What weights gave.

    Attributes:
      params: numpy arrays of float32.
      left: names in the files of what was left, and why.
    """

    params: Params
    left: Mapping[str, str]


def open(path: str, config: TransformerConfig) -> conversion.Weights:
    """Opens weights of a model; see `load`, which reads them."""
    weights = conversion.read(files.resolve(str(path)), config=config)
    conversion.check_config(weights, config, str(path))
    conversion.check_arrays(weights, config, str(path))
    if weights.task_names and config.reads_tasks:
        logging.warning(
            "%s has parameters for each of these tasks, in this order, which must be the run's: %s",
            path,
            ", ".join(weights.task_names),
        )
    return weights


def load(path: str, config: TransformerConfig) -> Loaded:
    """Reads the parameters that weights have of a model.

    Args:
      path: of weights in any format, local or remote, of a file of the package (`package://…`), or
        a hub id.
      config: what they must fit.

    Raises:
      FileNotFoundError: nothing is there, or a part of it is missing.
      ValueError: they are damaged, or of another model.
    """
    weights = open(path, config)
    flat = {
        name: array.read().astype(np.float32, copy=False) for name, array in weights.arrays.items()
    }
    return Loaded(names.unflatten(flat), weights.left)


def save(path: str | epath.Path, params: Params, metadata: Mapping[str, str]) -> None:
    """Writes T5's own parameters of `params` as safetensors, in our names and their types.

    Args:
      path: of the `.safetensors` file.
      params: of a model; new parameters in it are left out.
      metadata: strings that the file should carry, such as where the weights come from.
    """
    flat = names.flatten({key: params[key] for key in model.BACKBONE_KEYS})
    safetensors_files.write_file(path, arrays_lib.in_memory(flat), metadata)
