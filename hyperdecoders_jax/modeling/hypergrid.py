"""HyperGrid: gates over blocks of the feed-forward kernels.

A kernel W [fan_in, fan_out] is scaled block by block, for each example by gates of its own:

    gates = sigmoid(u vᵀ)          [rows, cols], from a factor u [rows] and a factor v [cols]
    y = x (W * repeat(gates))      each gate over fan_in / rows by fan_out / cols weights

A factor is *local*, a linear map of a condition (`rows_kernel`, `cols_kernel`), or *global*, a
learned vector (`rows_vector`, `cols_vector`); with one side alone the other factor is one.

The body of Tay et al. 2021 (arXiv:2007.05891) was out of reach; its code is not public. What is
known, and what is ours:

- Published (abstract): a hypernetwork that depends on the task and can be decomposed specialises
  regions of feed-forward weights, from a global and a task's local state; one T5 for all tasks.
- Told by others (the survey arXiv:2109.09138, an article): the formula above, repetition to the
  size of W, factors local or global, and that W is `wo`.
- Recollected, not verified: variants L, L2, LG, GL; the state of the first token as condition; both
  stacks; no biases; gates and all weights are fine-tuned; no special start.
- Our choice: the first letter of a variant is the rows'; the other conditions; `identity`; initial
  values; `wi`, with the same gates for both of a v1.1 block; where the decoder's condition is from.

1. The condition is a *contextual* state: 13 of the 16 prefixes of GLUE and SuperGLUE begin with the
   same piece of T5's vocabulary, so the first token's embedding would tell few tasks apart.
2. sigmoid(0) halves a pre-trained W. 2 * sigmoid, the gate `identity`, starts at one.
3. For that, u vᵀ starts at zero by its first factor alone: two zeros would never get a gradient.
4. A decoder begins with the same token for every example. Its gates read the encoder's output, so
   that they are made once for an example and serve every step and every beam.
"""

from __future__ import annotations

from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from hyperdecoders_jax.modeling import initializers, layers, pooling, segments, task_rows
from hyperdecoders_jax.modeling.config import GATED_KERNELS, HyperGridConfig, TransformerConfig
from hyperdecoders_jax.types import GridGates, Segments

# Of one kernel: "rows_kernel" [emb, rows] or "rows_vector" [rows], and the same of cols.
Factors = Mapping[str, Array]


@flax.struct.dataclass
class LayerGrid:
    """The factors of one layer's gates."""

    config: HyperGridConfig = flax.struct.field(pytree_node=False)
    factors: Mapping[str, Factors]  # of each gated kernel, by its name
    task_embedding: Float[Array, "batch emb"] | None  # where that is the condition
    groups: Int[Array, "batch"] | None = None  # tasks, whose examples share their gates

    def gates(
        self,
        states: Float[Array, "batch length emb"],
        mask: Bool[Array, "batch length"],
        row_segments: Segments | None = None,
    ) -> GridGates:
        """The gates of each example, or those of all where no factor is local.

        >>> config = HyperGridConfig(rows=2, cols=1, variant="L", gate="identity")
        >>> grid = LayerGrid(config, {"wo": {"rows_kernel": jnp.array([[0.0, 99.0]])}}, None)
        >>> print(grid.gates(jnp.array([[[1.0], [9.0]]]), jnp.array([[True, True]])).wo)
        [[[1.]
          [2.]]]
        """
        condition = self.condition(states, mask, row_segments)
        gates = {
            kernel: _gates(self.config, factors, condition)
            for kernel, factors in self.factors.items()
        }
        return GridGates(**gates, groups=self.groups)

    def condition(
        self,
        states: Float[Array, "batch length emb"],
        mask: Bool[Array, "batch length"],
        row_segments: Segments | None = None,
    ) -> Float[Array, "examples emb"]:
        """What local factors read; zeros for an example without a real position."""
        if self.task_embedding is not None:
            return self.task_embedding
        # Positions are counted from the left, where texts begin: padding comes last.
        prefix_lens = {"first_state": 1, "prefix_mean": self.config.prefix_len}
        prefix_len = prefix_lens.get(self.config.condition)  # None: all of them
        if row_segments is not None:
            is_read = segments.members(row_segments)
            if prefix_len is not None:
                is_read &= (row_segments.positions < prefix_len)[:, None]
            return pooling.segment_means(states, is_read)
        prefix = slice(prefix_len)
        return pooling.masked_mean(states[:, prefix], mask[:, prefix])


def _gates(
    config: HyperGridConfig, factors: Factors, condition: Float[Array, "batch emb"]
) -> Float[Array, "*batch rows cols"]:
    def factor(side):
        if f"{side}_kernel" in factors:
            return jnp.dot(condition, factors[f"{side}_kernel"])
        return factors.get(f"{side}_vector", jnp.ones(1, condition.dtype))

    gates = jax.nn.sigmoid(factor("rows")[..., :, None] * factor("cols")[..., None, :])
    return 2 * gates if config.gate == "identity" else gates


class HyperGrid(nn.Module):
    """The learned factors of one stack's gates."""

    config: TransformerConfig
    side: str  # "encoder" or "decoder"

    @nn.compact
    def __call__(self, task_ids: Int[Array, "*batch"] | None) -> tuple[LayerGrid, ...]:
        """The factors of each layer; `task_ids` are read for `task_embedding` alone."""
        config, dtype = self.config, self.config.compute_dtype
        grid = getattr(config, f"{self.side}_hypergrid")
        num_layers = getattr(config, f"num_{self.side}_layers")
        factors = {
            kernel: _Factors(grid, num_layers, config.emb_dim, dtype, name=kernel)()
            for kernel in GATED_KERNELS[grid.kernels]
        }
        embedding = groups = None
        if grid.condition_read == "task_embedding":
            init, axes = initializers.LEARNED_EMBEDDING, ("tasks", "hyper_in")
            shape = (task_rows.num_tasks(config), config.emb_dim)
            table = layers.param("task_embedding", init, shape, axes, dtype)
            table = task_rows.with_mean(table, config, grid, axis=0)
            # Examples of a task share their gates, which lets a batch of one task fold them once.
            groups = task_rows.find(task_ids, config, grid)
            embedding = task_rows.take(table, groups, axis=0)
        return tuple(LayerGrid(grid, layer, embedding, groups) for layer in layers.unstack(factors))


class _Factors(nn.Module):
    """The factors of one kernel of all layers."""

    config: HyperGridConfig
    num_layers: int
    emb_dim: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self) -> dict[str, Array]:
        factors = {}
        for i, (side, kind) in enumerate(self.config.factors.items()):
            blocks = getattr(self.config, side)
            if kind == "local":
                name, init = f"{side}_kernel", initializers.GRID_KERNEL
                shape, axes = (self.emb_dim, blocks), ("hyper_in", side)
            else:
                name, init = f"{side}_vector", initializers.LEARNED_EMBEDDING
                shape, axes = (blocks,), (side,)
            # One factor alone, see 3. above.
            if self.config.gate == "identity" and i == 0:
                init = initializers.ZEROS
            shape, axes = (self.num_layers, *shape), ("layers", *axes)
            factors[name] = layers.param(name, init, shape, axes, self.dtype)
        return factors


def make(config: TransformerConfig, side: str) -> HyperGrid | None:
    """The gates of one stack, or None for a stack without."""
    if getattr(config, f"{side}_hypergrid") is None:
        return None
    return HyperGrid(config, side, name=f"{side}_hypergrid")
