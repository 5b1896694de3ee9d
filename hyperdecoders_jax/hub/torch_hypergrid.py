"""HyperGrid's gates in PyTorch, and products with gated kernels.

As `modeling.hypergrid` and `modeling.gated_matmul`, with parameters of the same names and shapes.
Source: Tay et al. 2021 (arXiv:2007.05891); see `modeling/hypergrid.py` for what is published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hyperdecoders_jax.hub import torch_adapters, torch_hypernetworks
from hyperdecoders_jax.modeling import task_rows
from hyperdecoders_jax.modeling.config import GATED_KERNELS, HyperGridConfig, TransformerConfig

# By the scaled kernel: [batch, rows, cols], or [1, rows, cols] for all examples.
Gates = Mapping[str, Float[Tensor, "batch rows cols"]]


def gated_linear(
    dense: nn.Linear, x: Float[Tensor, "rows length fan_in"], gates: Tensor | None
) -> Float[Tensor, "rows length fan_out"]:
    """`dense(x)` with blocks of its kernel scaled by each example's gates.

    >>> dense = nn.Linear(2, 2, bias=False)
    >>> dense.weight.data = torch.tensor([[1.0, 3.0], [2.0, 4.0]])
    >>> gates = torch.tensor([[[1.0, 2.0], [0.5, 0.0]]])
    >>> gated_linear(dense, torch.ones(1, 1, 2), gates).tolist()
    [[[2.5, 4.0]]]

    Gates scale products with blocks of rows, so that no example needs a kernel of its own.
    """
    if gates is None:
        return dense(x)
    fan_out, fan_in = dense.weight.shape
    batch, rows, cols = gates.shape
    # PyTorch keeps [fan_out, fan_in]; gates count rows of our [fan_in, fan_out].
    kernels = dense.weight.t().reshape(rows, fan_in // rows, fan_out)
    # In float32: a plain product accumulates its terms in float32, too.
    scales = gates.float().repeat_interleave(fan_out // cols, dim=2)  # [batch, rows, fan_out]

    def product(x):
        blocks = x.unflatten(-1, (rows, -1)).unbind(dim=2)  # rows x [batch, length, fan_in / rows]
        terms = zip(blocks, kernels, scales.split(1, dim=1), strict=True)
        return sum(block @ kernel * scale for block, kernel, scale in terms).to(x.dtype)

    return torch_adapters.fold_beams(product, x, batch)


class HyperGrid(torch_hypernetworks.Learned):
    """Gates of one stack."""

    def __init__(self, config: TransformerConfig, side: str):
        super().__init__()
        self.config = config
        self.grid: HyperGridConfig = getattr(config, f"{side}_hypergrid")
        self.kernels = GATED_KERNELS[self.grid.kernels]
        num_layers = getattr(config, f"num_{side}_layers")
        for kernel in self.kernels:
            self.add_module(kernel, Factors(self.grid, num_layers, config.emb_dim))
        if self.grid.condition_read == "task_embedding":
            self.learn("task_embedding", task_rows.num_tasks(config), config.emb_dim, std=1.0)

    def forward(
        self,
        layer: int,
        states: Float[Tensor, "batch length emb"],
        mask: Bool[Tensor, "batch length"],
        task_ids: Int[Tensor, "batch"] | None,
    ) -> Gates:
        """The gates of one layer."""
        if self.grid.condition_read == "task_embedding":
            table = self.task_embedding
            condition = torch_adapters.take_tasks(table, task_ids, self.config, self.grid)
        else:
            prefix_lens = {"first_state": 1, "prefix_mean": self.grid.prefix_len}
            prefix_len = prefix_lens.get(self.grid.condition, math.inf)
            # Real tokens are counted, because padding may be on the left.
            is_read = mask & (mask.cumsum(dim=1) <= prefix_len)
            condition = torch_adapters.masked_mean(states, is_read)
        return {kernel: self.get_submodule(kernel)(layer, condition) for kernel in self.kernels}


class Factors(torch_hypernetworks.Learned):
    """Factors of one kernel's gates, for all layers."""

    def __init__(self, config: HyperGridConfig, num_layers: int, emb_dim: int):
        super().__init__()
        self.config = config
        for i, (side, kind) in enumerate(config.factors.items()):
            # With `identity` one factor starts at zero, so that all gates start at one.
            scale = 0.0 if config.gate == "identity" and i == 0 else 1.0
            blocks = getattr(config, side)
            if kind == "local":
                std = scale * emb_dim**-0.5
                self.learn(f"{side}_kernel", num_layers, emb_dim, blocks, std=std)
            else:
                self.learn(f"{side}_vector", num_layers, blocks, std=scale)

    def forward(
        self, layer: int, condition: Float[Tensor, "batch emb"]
    ) -> Float[Tensor, "batch rows cols"]:
        def factor(side):
            kind = self.config.factors.get(side)
            if kind == "local":
                return condition @ getattr(self, f"{side}_kernel")[layer].to(condition.dtype)
            vector = getattr(self, f"{side}_vector", None)
            return condition.new_ones(1, 1) if vector is None else vector[layer, None]

        gates = torch.sigmoid(factor("rows")[:, :, None] * factor("cols")[:, None, :])
        return 2 * gates if self.config.gate == "identity" else gates


def make(config: TransformerConfig, side: str) -> HyperGrid | None:
    """The gates of one stack, or None for a stack without."""
    return None if getattr(config, f"{side}_hypergrid") is None else HyperGrid(config, side)
