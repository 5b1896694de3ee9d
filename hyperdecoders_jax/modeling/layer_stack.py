"""Runs the layers of a stack, one behind the other, as a configuration computes them.

By default the program has a part for each layer. With `scan_layers` it has one layer and a loop, so
that the time to compile it hardly grows with the depth. The tree of parameters is the same: the
layers' arrays, and the constants that each decoder layer has of the inputs, are stacked within the
step, which costs a copy of them. What the backward pass keeps of a layer is stacked, too; that is
much, unless `remat` lets it compute the layer again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import PyTree

States = Float[Array, "batch length emb"]
# Takes a layer, the states that enter it and what else is the layer's own; returns its output.
Call = Callable[[nn.Module, States, PyTree], States]


def run(
    config: TransformerConfig,
    layers: Sequence[nn.Module],
    call: Call,
    x: States,
    of_layers: Sequence[PyTree],
) -> States:
    """`x` after `call(layer, x, own)` for each of the bound `layers` and its own of `of_layers`."""
    # Parameters are created layer by layer, under the layers' names.
    if not config.compute.scan_layers or layers[0].is_initializing():
        call = _keep_less(config, nn.remat, call)
        for layer, own in zip(layers, of_layers, strict=True):
            x = call(layer, x, own)
        return x
    layer, _ = layers[0].unbind()
    rngs = {}
    if layers[0].has_rng("dropout"):
        rngs["dropout"] = jax.random.split(layers[0].make_rng("dropout"), len(layers))
    trees = [(layer.variables, own) for layer, own in zip(layers, of_layers, strict=True)]
    structure = jax.tree.structure(trees[0])

    def step(x, of_layer):
        leaves, rngs = of_layer
        variables, own = structure.unflatten(leaves)
        return nn.apply(lambda layer: call(layer, x, own), layer)(variables, rngs=rngs)

    # Two loops share no expression that would have to be kept apart by a barrier.
    step = _keep_less(config, functools.partial(jax.checkpoint, prevent_cse=False), step)
    # Without their types, whose shapes are those of one layer.
    stacked = [jnp.stack(leaves) for leaves in zip(*map(jax.tree.leaves, trees), strict=True)]
    return lax.scan(lambda x, of_layer: (step(x, of_layer), None), x, (stacked, rngs))[0]


def _keep_less(config: TransformerConfig, remat: Callable, function: Callable) -> Callable:
    """`function` of a layer, of which the backward pass keeps what the configuration says."""
    if config.compute.remat not in ("layer", "dots"):
        return function
    policy = None
    if config.compute.remat == "dots":
        # Attention's products have an axis of examples, and are computed again.
        policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return remat(function, policy=policy)
