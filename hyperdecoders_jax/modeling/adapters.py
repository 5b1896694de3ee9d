"""Bottleneck adapters: what they compute, whoever made their parameters.

`AdapterParams` and the states of a feed-forward block's input become what is added to its output:
`relu(x @ down_kernel + down_bias) @ up_kernel + up_bias`. The adapter stands parallel to the
feed-forward, without a residual connection, dropout or norm of its own.

Source: Ivison & Peters 2022 (arXiv:2203.08304), section 2; allenai/hyperdecoders.
"""

from __future__ import annotations

import jax
from jaxtyping import Array, Float

from hyperdecoders_jax.types import AdapterParams


def apply_adapter(
    adapter: AdapterParams, x: Float[Array, "length emb"]
) -> Float[Array, "length emb"]:
    """What one adapter adds to one example's states.

    >>> import jax.numpy as jnp
    >>> eye = jnp.eye(2)
    >>> adapter = AdapterParams(eye, jnp.array([0.0, 1.0]), eye, jnp.array([0.5, 0.0]))
    >>> apply_adapter(adapter, jnp.array([[-1.0, 2.0]]))
    Array([[0.5, 3. ]], dtype=float32)
    """
    hidden = jax.nn.relu(x @ adapter.down_kernel + adapter.down_bias)
    return hidden @ adapter.up_kernel + adapter.up_bias


def apply_adapters(
    adapter: AdapterParams, x: Float[Array, "batch length emb"]
) -> Float[Array, "batch length emb"]:
    """`apply_adapter` for a batch whose examples share the adapter or have one each.

    `length` counts positions, or hypotheses of one example when decoding.
    """
    is_per_example = adapter.down_kernel.ndim == 3
    adapter = jax.tree.map(lambda leaf: leaf.astype(x.dtype), adapter)
    return jax.vmap(apply_adapter, in_axes=(0 if is_per_example else None, 0))(adapter, x)
