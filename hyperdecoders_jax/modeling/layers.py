"""Layers that T5 is made of: parameters with logical axes, dense, norm, embedding.

Names, shapes and logical axes are T5X's, so that its checkpoints load and its partitioning rules
apply. Parameters are float32; `dtype` is the computation's. Source: t5x/examples/t5/layers.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import partitioning
from jax import lax
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from hyperdecoders_jax.modeling import initializers
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import PyTree


def param(
    name: str, init: Initializer, shape: tuple[int, ...], axes: tuple[str, ...], dtype: DTypeLike
) -> Array:
    """A float32 parameter of the calling module, cast to `dtype`; its axes go to `params_axes`."""
    # Cast at each use: the optimizer needs the digits that bfloat16 drops.
    value = partitioning.param_with_axes(name, init, shape, jnp.float32, axes=axes)
    return jnp.asarray(value, dtype)


class Dense(nn.Module):
    """`x @ kernel`; T5 has no biases, `bias_init` is for the new parameters."""

    features: int
    axes: tuple[str, str]
    dtype: DTypeLike
    kernel_init: Initializer = initializers.DENSE_KERNEL
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "*lead fan_in"]) -> Float[Array, "*lead fan_out"]:
        shape = (x.shape[-1], self.features)
        kernel = param("kernel", self.kernel_init, shape, self.axes, self.dtype)
        y = jnp.dot(x.astype(self.dtype), kernel)
        if self.bias_init is not None:
            y += param("bias", self.bias_init, (self.features,), self.axes[1:], self.dtype)
        return y


class RMSNorm(nn.Module):
    """T5's layer norm: a root mean square and a scale, without mean and bias."""

    dtype: DTypeLike
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*lead emb"]) -> Float[Array, "*lead emb"]:
        # In float32: squares of a large bfloat16 residual stream lose most of their digits.
        x = x.astype(jnp.float32)
        mean_square = jnp.mean(lax.square(x), axis=-1, keepdims=True)
        normed = (x * lax.rsqrt(mean_square + self.epsilon)).astype(self.dtype)
        # The scale multiplies after the cast, as T5X does it; before it, results would differ.
        return normed * param("scale", initializers.ONES, x.shape[-1:], ("embed",), self.dtype)


def standardize(x: Float[Array, "*lead emb"], epsilon: float) -> Float[Array, "*lead emb"]:
    """`x` with mean 0 and variance 1 over its features; statistics in float32.

    >>> standardize(jnp.array([1.0, 3.0]), epsilon=0.0)
    Array([-1.,  1.], dtype=float32)
    """
    centred = x.astype(jnp.float32)
    centred -= jnp.mean(centred, axis=-1, keepdims=True)
    variance = jnp.mean(lax.square(centred), axis=-1, keepdims=True)
    return (centred * lax.rsqrt(variance + epsilon)).astype(x.dtype)


class Embed(nn.Module):
    """Token embeddings; `attend` uses the same table for the logits of tied models."""

    vocab_size: int
    emb_dim: int
    dtype: DTypeLike

    def setup(self):
        shape, axes = (self.vocab_size, self.emb_dim), ("vocab", "embed")
        self.embedding = param("embedding", initializers.EMBEDDING, shape, axes, jnp.float32)

    def __call__(self, tokens: Int[Array, "*lead"]) -> Float[Array, "*lead emb"]:
        # A gather: a product with one-hot rows, T5X's other way, costs as much as the logits do.
        return jnp.take(self.embedding, tokens, axis=0).astype(self.dtype)

    def attend(self, states: Float[Array, "*lead emb"]) -> Float[Array, "*lead vocab"]:
        """Logits of a tied model, float32."""
        # T5 v1.0 scales tied states by emb**-0.5: the table starts with a deviation of 1.
        states = states.astype(jnp.float32) / jnp.sqrt(states.shape[-1])
        return jnp.dot(states, self.embedding.astype(jnp.float32).T)


def dropout(config: TransformerConfig) -> nn.Dropout:
    """Dropout of states `[batch, length, features]`, as the configuration draws it."""
    # T5X's mask is one for all positions.
    shared = (-2,) if config.compute.dropout == "broadcast" else ()
    return nn.Dropout(config.dropout_rate, broadcast_dims=shared)


def unstack(tree: PyTree) -> tuple[PyTree, ...]:
    """Splits arrays that are stacked along their first axis, layers, into a tree for each layer."""
    # By `lax.split`, whose gradient is one concatenation; indexing would make a zero-padded
    # cotangent of full size for every layer and add them up.
    leaves, structure = jax.tree.flatten(tree)
    num_layers = leaves[0].shape[0]
    columns = [
        [part.reshape(part.shape[1:]) for part in lax.split(leaf, [1] * num_layers)]
        for leaf in leaves
    ]
    return tuple(structure.unflatten(row) for row in zip(*columns, strict=True))
