"""Adapters in PyTorch: their sources and their application.

As `modeling.adapter_sources` and `modeling.adapters`, with parameters of the same names (dots for
slashes), shapes and layouts. A source returns the arrays of all layers by site and name:
`[layers, batch, ...]`, or `[layers, ...]` if all examples share them.
Source: Ivison & Peters 2022 (arXiv:2203.08304), section 2; Mahabadi et al. 2021 (arXiv:2106.04489),
section 2; Hu et al. 2021 (arXiv:2106.09685), section 4.1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hyperdecoders_jax.hub import torch_hypernetworks
from hyperdecoders_jax.hub.torch_hypernetworks import Adapters, Arrays
from hyperdecoders_jax.modeling import adapters, initializers, sites, task_rows
from hyperdecoders_jax.modeling.config import (
    AdapterConfig,
    HyperGridConfig,
    TransformerConfig,
)
from hyperdecoders_jax.modeling.sites import ArraySpec, Site


def of_layer(stack_adapters: Adapters, layer: int) -> Adapters:
    """The adapters of one layer."""
    return _map(lambda array: array[layer], stack_adapters)


def add_parallel(
    y: Float[Tensor, "rows length emb"], adapter: Arrays | None, x: Float[Tensor, "rows length emb"]
) -> Float[Tensor, "rows length emb"]:
    """Adds the adapter parallel to a feed-forward block, which reads `x`, to the output `y`."""
    return _add(y, functools.partial(_bottleneck, functional.relu), adapter, x)


def add_serial(
    y: Float[Tensor, "rows length emb"], adapter: Arrays | None
) -> Float[Tensor, "rows length emb"]:
    """Adds a normed bottleneck adapter after a sub-layer with output `y`."""
    gelu = functools.partial(functional.gelu, approximate="tanh")

    def normed(x, norm_scale, norm_bias, **arrays):
        z = _bottleneck(gelu, x, **arrays)
        z = functional.layer_norm(z, z.shape[-1:], eps=adapters.NORM_EPSILON)
        return z * norm_scale + norm_bias

    return _add(y, normed, adapter, y)


def add_low_rank(
    y: Float[Tensor, "rows length fan_out"],
    adapter: Arrays | None,
    x: Float[Tensor, "rows length fan_in"],
) -> Float[Tensor, "rows length fan_out"]:
    """Adds a LoRA update to `y`, a projection of `x`; here for two beams of one example.

    >>> adapter = {"down_kernel": torch.ones(1, 2, 1), "up_kernel": 3 * torch.ones(1, 1, 2)}
    >>> add_low_rank(torch.zeros(2, 1, 2), adapter, torch.tensor([[[1.0, 2.0]], [[0.0, 1.0]]]))
    tensor([[[9., 9.]],
            [[3., 3.]]])
    """
    return _add(y, lambda x, down_kernel, up_kernel: x @ down_kernel @ up_kernel, adapter, x)


def _bottleneck(activation, x, down_kernel, down_bias, up_kernel, up_bias) -> Tensor:
    return activation(x @ down_kernel + down_bias) @ up_kernel + up_bias


def _add(y: Tensor, function: Callable[..., Tensor], adapter: Arrays | None, x: Tensor) -> Tensor:
    if adapter is None:
        return y
    arrays = {name: array.to(x.dtype) for name, array in adapter.items()}
    if arrays["down_kernel"].ndim == 2:  # Shared by all examples.
        return y + function(x, **arrays)
    # Biases of each example are broadcast over positions: [batch, 1, features].
    arrays = {k: x if k.endswith("kernel") else x.unsqueeze(1) for k, x in arrays.items()}
    return y + fold_beams(lambda x: function(x, **arrays), x, len(arrays["down_kernel"]))


def fold_beams(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "rows length fan_in"], batch: int
) -> Float[Tensor, "rows length fan_out"]:
    """Applies `function` to a batch whose examples have `rows / batch` beams each.

    transformers repeats inputs for beams, in adjacent rows. Here beams use the position axis, so
    that adapters and gates of an example are never repeated.
    """
    y = function(x.reshape(batch, -1, x.shape[-1]))  # [batch, beams * length, fan_out]
    return y.reshape(*x.shape[:-1], -1)


class LearnedArrays(torch_hypernetworks.Learned):
    """The arrays of one site as parameters of each layer, or of each layer and task."""

    def __init__(self, site: Site, num_layers: int, num_tasks: int | None = None):
        super().__init__()
        lead = (num_layers,) if num_tasks is None else (num_layers, num_tasks)
        for name, spec in site.specs.items():
            self.learn(name, *lead, *spec.shape, std=_learned_std(spec, num_tasks))

    def forward(self) -> Arrays:
        return dict(self.named_parameters())


def _learned_std(spec: ArraySpec, num_tasks: int | None) -> float:
    """Standard deviation of the initialiser in `modeling.initializers.LEARNED`."""
    fan_in, fan_out = spec.fan_in, spec.shape[-1]
    # PyTorch's fans of a bank [tasks, fan_in, fan_out], which the original initialised so: it takes
    # the first axis for outputs and the last for a receptive field.
    fans = fan_in + fan_out if num_tasks is None else fan_out * (fan_in + num_tasks)
    stds = {
        "zeros": 0.0,
        "near_zero": initializers.ADAPTER_GAIN * math.sqrt(2 / fans),
        "hyperformer": torch_hypernetworks.HYPERFORMER_STD,
        "linear": torch_hypernetworks.linear_std(fan_in),
    }
    return stds[spec.start]


class Source(torch_hypernetworks.Learned):
    """Base of all sources of one stack's adapters."""

    reads_pooled = False

    def __init__(self, config: TransformerConfig, side: str):
        super().__init__()
        self.config = config
        self.adapter_config: AdapterConfig = getattr(config, f"{side}_adapter")
        self.num_layers: int = getattr(config, f"num_{side}_layers")
        self.side = side

    def _sites(self) -> dict[str, Site]:
        return sites.of_side(self.config, self.side)

    def forward(
        self, pooled: Float[Tensor, "batch emb"] | None, task_ids: Int[Tensor, "batch"] | None
    ) -> Adapters:
        """The adapters of all layers."""
        made = dict(self.make(pooled, task_ids))
        for name, site in self._sites().items():
            if site.up_scale != 1.0:
                up_kernel = site.up_scale * made[name]["up_kernel"]
                made[name] = {**made[name], "up_kernel": up_kernel}
        return made

    def make(self, pooled: Tensor | None, task_ids: Tensor | None) -> Adapters:
        """The arrays of all layers, before `Site.up_scale`."""
        raise NotImplementedError

    def add_learned(self, num_tasks: int | None = None) -> None:
        """Adds learned arrays for every site."""
        for name, site in self._sites().items():
            self.add_module(name, LearnedArrays(site, self.num_layers, num_tasks))

    def learned(self) -> Adapters:
        """The arrays of `add_learned`."""
        return {name: self.get_submodule(name)() for name in self.adapter_config.sites}

    def add_hypernetwork(self, cond_dim: int) -> None:
        """Adds the configured hypernetwork."""
        config = self.adapter_config.hypernetwork
        network = torch_hypernetworks.NETWORKS[type(config)]
        self.hypernetwork = network(config, self._sites(), self.num_layers, cond_dim)


class Manual(Source):
    """Learned adapters shared by all examples."""

    def __init__(self, config: TransformerConfig, side: str):
        super().__init__(config, side)
        self.add_learned()

    def make(self, pooled, task_ids):
        return self.learned()


class ManualSpecific(Source):
    """Learned adapters of each task."""

    def __init__(self, config: TransformerConfig, side: str):
        super().__init__(config, side)
        self.add_learned(task_rows.num_tasks(config))

    def make(self, pooled, task_ids):
        # [layers, tasks, ...], but rows of tasks are taken from the first axis.
        tasks_first = _map(lambda array: array.transpose(0, 1), self.learned())
        reader = (task_ids, self.config, self.adapter_config)
        return _map(lambda array: take_tasks(array, *reader).transpose(0, 1), tasks_first)


class Task(Source):
    """Adapters of each task, written by a hypernetwork from a learned task embedding."""

    def __init__(self, config: TransformerConfig, side: str):
        super().__init__(config, side)
        cond_dim = self.adapter_config.task_embedding_dim or config.emb_dim
        self.learn("task_embedding", task_rows.num_tasks(config), cond_dim, std=1.0)
        self.add_hypernetwork(cond_dim)

    def make(self, pooled, task_ids):
        # The network runs once per task of the batch, not per example.
        unique, rows = torch.unique(task_ids, return_inverse=True)
        condition = take_tasks(self.task_embedding, unique, self.config, self.adapter_config)
        return _map(lambda x: x[:, rows].to(condition.dtype), self.hypernetwork(condition))


class Generated(Source):
    """Adapters of each example, written by a hypernetwork from pooled encoder output."""

    reads_pooled = True

    def __init__(self, config: TransformerConfig, side: str):
        super().__init__(config, side)
        emb_dim = config.emb_dim
        self.pooled_mlp = None
        if self.adapter_config.hypernetwork.pooled_mlp:
            dense = (torch_hypernetworks.linear(emb_dim, emb_dim) for _ in range(2))
            self.pooled_mlp = nn.ModuleDict(zip(("dense_0", "dense_1"), dense, strict=True))
        self.add_hypernetwork(emb_dim)

    def make(self, pooled, task_ids):
        if self.pooled_mlp is not None:
            hidden = functional.relu(self.pooled_mlp["dense_0"](pooled))
            pooled = self.pooled_mlp["dense_1"](hidden)
        return _map(lambda written: written.to(pooled.dtype), self.hypernetwork(pooled))


_SOURCES: dict[str, type[Source] | None] = {
    "none": None,
    "manual": Manual,
    "manual_specific": ManualSpecific,
    "task": Task,
    "generated": Generated,
}


def make(config: TransformerConfig, side: str) -> Source | None:
    """The source of one stack's adapters, or None for a plain stack."""
    source = _source_named(getattr(config, f"{side}_adapter").source)
    return None if source is None else source(config, side)


def _source_named(name: str) -> type[Source] | None:
    if name not in _SOURCES:
        raise ValueError(
            f"A PyTorch model must have adapters of one of {tuple(_SOURCES)}; got the source "
            f"{name!r}, which is registered for JAX alone. Use the Flax class, or "
            "hyperdecoders_jax.load."
        )
    return _SOURCES[name]


def make_first_pass(config: TransformerConfig) -> Source | None:
    """Source for the encoder's first pass, whose states its own source reads; None without it."""
    source = _source_named(config.encoder_adapter.source)
    # The original's first pass has learned adapters of its own, shared by all examples.
    return None if source is None or not source.reads_pooled else Manual(config, "encoder")


def masked_mean(
    states: Float[Tensor, "batch length emb"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch emb"]:
    """Mean of `states` where `mask` is True, in float32; zeros if it is False everywhere.

    >>> masked_mean(torch.tensor([[[2.0], [4.0], [9.0]]]), torch.tensor([[True, True, False]]))
    tensor([[3.]])
    """
    # Masked before the sum: 0 * NaN at padding would be NaN.
    total = states.float().masked_fill(~mask[..., None], 0.0).sum(dim=1)
    return (total / mask.sum(dim=1, keepdim=True).clamp(min=1)).to(states.dtype)


def take_tasks(
    of_tasks: Float[Tensor, "tasks *rest"],
    task_ids: Int[Tensor, "batch"],
    config: TransformerConfig,
    reader: AdapterConfig | HyperGridConfig,
) -> Float[Tensor, "batch *rest"]:
    """Learned arrays of each example's task; the mean over trained tasks for unseen ones."""
    if reader.unseen_tasks == "mean":
        trained = of_tasks[: config.num_trained_tasks or config.num_tasks]
        of_tasks = torch.cat([of_tasks, trained.mean(dim=0, keepdim=True)])
    # UNSEEN_TASK_ID is -1, the last row.
    return of_tasks[task_ids]


def _map(function: Callable[[Tensor], Tensor], stack_adapters: Adapters) -> Adapters:
    return {
        site: {name: function(array) for name, array in arrays.items()}
        for site, arrays in stack_adapters.items()
    }
