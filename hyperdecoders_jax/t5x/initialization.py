"""A run's first parameters under T5X, from weights in any format that our own runner reads.

T5X restores its own checkpoints, each host its part. What is in another format every host reads as
a whole and hands to its devices, array by array; nothing needs to be converted before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
from absl import logging
from jaxtyping import PRNGKeyArray
from t5x import partitioning, train_state, utils

from hyperdecoders_jax.interop import backbone, names
from hyperdecoders_jax.t5x import checkpoints


class TrainStateInitializer(utils.TrainStateInitializer):
    """T5X's, with the parameters that weights of another format have.

    Args:
      optimizer_def, init_fn, input_shapes, partitioner, input_types: T5X's.
      initial_checkpoint_path: as `backbone.load` takes it; None, or a checkpoint of T5X, which
        `checkpoints.initial_checkpoint` restores: nothing is done here.
    """

    def __init__(
        self,
        optimizer_def: Any,
        init_fn: Callable[..., Any],
        input_shapes: Mapping[str, Any],
        partitioner: partitioning.BasePartitioner,
        input_types: Mapping[str, jnp.dtype] | None = None,
        initial_checkpoint_path: str | None = None,
    ):
        super().__init__(optimizer_def, init_fn, input_shapes, partitioner, input_types)
        self._config = init_fn.__self__.model.config
        self._path = initial_checkpoint_path

    def from_scratch(self, init_rng: PRNGKeyArray) -> train_state.TrainState:
        """Draws what the weights do not have.

        Raises:
          ValueError, FileNotFoundError: the weights are not there, damaged, or of another model.
        """
        state = super().from_scratch(init_rng)
        if self._path is None or checkpoints.is_t5x_checkpoint(self._path):
            return state
        loaded = names.flatten(backbone.load(self._path, self._config).params)
        drawn = names.flatten(state.params)
        logging.info("Loaded %d parameters from %s.", len(loaded), self._path)
        logging.info("Drew the others: %s", ", ".join(sorted(set(drawn) - set(loaded))))
        for name, array in loaded.items():
            drawn[name] = jax.make_array_from_callback(
                array.shape, drawn[name].sharding, lambda index, array=array: array[index]
            )
        return state.replace_params(flax.core.freeze(names.unflatten(drawn)))
