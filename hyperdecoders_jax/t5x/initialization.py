"""A run's first parameters under T5X, from weights in any format that our own runner reads.

T5's own parameters must be there, and of the new ones each part of the model (a top-level key)
completely or not at all; anything else is an error that names the arrays. Missing parts are drawn;
both lists are logged. (T5X itself restores only its own checkpoints, fills what they lack with
random numbers, and asks them for step, optimiser and position, which here begin anew.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import PRNGKeyArray
from t5x import partitioning, train_state, utils

from hyperdecoders_jax.weights import backbone, names


class TrainStateInitializer(utils.TrainStateInitializer):
    """T5X's, with parameters of `initial_checkpoint_path`, as for `backbone.open`; None: drawn."""

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
        """Draws what the weights lack; ValueError or FileNotFoundError if these are no good."""
        # Drawn in full first: T5X compiles one program, and what is loaded replaces its results.
        state = super().from_scratch(init_rng)
        if self._path is None:
            return state
        weights = backbone.open(self._path, self._config)
        params = names.flatten(state.params)
        new = sorted(set(params) - set(weights.arrays))
        for name, array in weights.arrays.items():
            # Every host reads the array in full, and gives each of its devices a part.
            value = np.asarray(array, params[name].dtype)
            params[name] = jax.make_array_from_callback(
                value.shape, params[name].sharding, lambda index, value=value: value[index]
            )
        logging.info("Loaded %d parameters from %s.", len(weights.arrays), self._path)
        logging.info("Drew %d new parameters: %s", len(new), ", ".join(new))
        return state.replace_params(flax.core.freeze(names.unflatten(params)))
