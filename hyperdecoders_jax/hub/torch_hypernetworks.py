"""Hypernetworks in PyTorch, from conditions to the adapters of all layers.

As `modeling.hypernetwork` and `modeling.hyperformer`, with parameters of the same names, shapes and
layouts. New parameters are normal, with the standard deviations of the JAX model.
Source: Ivison & Peters 2022 (arXiv:2203.08304), section 2; Mahabadi et al. 2021 (arXiv:2106.04489),
section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hyperdecoders_jax.modeling.config import (
    HyperFormerConfig,
    HypernetworkConfig,
    PerLayerHypernetworkConfig,
)
from hyperdecoders_jax.modeling.sites import ArraySpec, Site

_Config = HypernetworkConfig | PerLayerHypernetworkConfig
# Arrays of one adapter by name; adapters of one or all layers by site.
Arrays = Mapping[str, Tensor]
Adapters = Mapping[str, Arrays]

HYPERFORMER_STD = 1e-2  # Of HyperFormer's own initialiser.


class Learned(nn.Module):
    """A module that knows mean and standard deviation of its parameters' initialisers."""

    def __init__(self):
        super().__init__()
        self.starts: dict[str, tuple[float, float]] = {}

    def learn(self, name: str, *shape: int, std: float, mean: float = 0.0) -> None:
        """Adds a parameter; `reset` initialises it."""
        # Uninitialised: transformers overwrites it from a file, or calls `reset`.
        self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        self.starts[name] = (mean, std)

    def reset(self) -> None:
        """Initialises the parameters of this module."""
        for name, (mean, std) in self.starts.items():
            nn.init.normal_(getattr(self, name), mean, std)


class Dense(Learned):
    """`x @ kernel + bias`; with `num_layers` a kernel and bias of each layer, on axis 0."""

    def __init__(
        self, fan_in: int, fan_out: int, std: float, bias_std: float = 0.0, num_layers: int = 0
    ):
        super().__init__()
        lead = (num_layers,) if num_layers else ()
        self.learn("kernel", *lead, fan_in, fan_out, std=std)
        self.learn("bias", *lead, fan_out, std=bias_std)

    def forward(self, x: Float[Tensor, "*lead fan_in"]) -> Float[Tensor, "*lead fan_out"]:
        # transformers 5.0 loads hypernetworks in float32, whatever the rest: it keeps T5's `wo` so,
        # and takes their name for it.
        x = x.to(self.kernel.dtype)
        return x @ self.kernel + self.bias.unsqueeze(-2)  # Every example has the same bias.


def linear(fan_in: int, fan_out: int, num_layers: int = 0) -> Dense:
    """A dense layer with the initial standard deviation of PyTorch's."""
    std = linear_std(fan_in)
    return Dense(fan_in, fan_out, std, std, num_layers)


def linear_std(fan_in: int) -> float:
    """Standard deviation of PyTorch's uniform initialiser."""
    return 1 / math.sqrt(3 * fan_in)


def _head(hidden_dim: int, spec: ArraySpec, num_layers: int = 0) -> Dense:
    """Dense layer that writes one array, flat; initialised as by `initializers.head_kernel`."""
    std = spec.head_gain / math.sqrt(hidden_dim * spec.fan_in)
    return Dense(hidden_dim, math.prod(spec.shape), std, num_layers=num_layers)


class Heads(nn.ModuleDict):
    """Heads that write the arrays of one site, shared by all layers or one set for each."""

    def __init__(self, site: Site, hidden_dim: int, num_layers: int = 0):
        specs = site.specs.items()
        super().__init__({name: _head(hidden_dim, spec, num_layers) for name, spec in specs})
        self.shapes = {name: spec.shape for name, spec in specs}

    def forward(self, hidden: Float[Tensor, "layers batch hidden"]) -> Arrays:
        return {name: head(hidden).unflatten(-1, self.shapes[name]) for name, head in self.items()}


class Hypernetwork(Learned):
    """One network for all layers, which reads a learned layer embedding, or one for each layer."""

    def __init__(self, config: _Config, sites: Mapping[str, Site], num_layers: int, cond_dim: int):
        super().__init__()
        self.sites = tuple(sites)
        self.is_shared = isinstance(config, HypernetworkConfig)
        if self.is_shared:
            self.learn("layer_embedding", num_layers, config.layer_embedding_dim, std=1.0)
            cond_dim, num_layers = cond_dim + config.layer_embedding_dim, 0
        self.hidden = linear(cond_dim, config.bottleneck_dim, num_layers)
        for name, site in sites.items():
            self.add_module(name, Heads(site, config.bottleneck_dim, num_layers))

    def forward(self, condition: Float[Tensor, "batch cond"]) -> Adapters:
        if self.is_shared:
            condition = _join(condition, self.layer_embedding[:, None])  # [layers, batch, ...]
        hidden = functional.relu(self.hidden(condition))  # [layers, batch, hidden]
        return {name: self.get_submodule(name)(hidden) for name in self.sites}


class HyperFormer(Learned):
    """Joint embedding of condition, layer and site, read by heads for each kind of site."""

    def __init__(
        self, config: HyperFormerConfig, sites: Mapping[str, Site], num_layers: int, cond_dim: int
    ):
        super().__init__()
        self.sites = dict(sites)
        joined_dim = cond_dim + 2 * config.embedding_dim
        self.learn("layer_embedding", num_layers, config.embedding_dim, std=1.0)
        self.learn("place_embedding", len(sites), config.embedding_dim, std=1.0)
        self.joint_0 = Dense(joined_dim, config.hidden_dim, HYPERFORMER_STD)
        self.joint_1 = Dense(config.hidden_dim, config.joint_dim, HYPERFORMER_STD)
        self.learn("norm_scale", config.joint_dim, mean=1.0, std=0.0)
        self.learn("norm_bias", config.joint_dim, std=0.0)
        # Sites of one kind have arrays of the same shapes and share their heads.
        for site in {site.kind: site for site in sites.values()}.values():
            for name, spec in site.specs.items():
                head = _head(config.joint_dim, spec)
                # As in HyperFormer, whose adapters are serial; others start as this package's.
                if site.kind == "serial":
                    head.starts["kernel"] = (0.0, HYPERFORMER_STD)
                self.add_module(f"{site.kind}_{name}", head)

    def forward(self, condition: Float[Tensor, "batch cond"]) -> Adapters:
        x = _join(condition, self.layer_embedding[:, None], self.place_embedding[:, None, None])
        x = self.joint_1(functional.relu(self.joint_0(x)))  # [sites, layers, batch, joint]
        x = functional.layer_norm(x, x.shape[-1:], self.norm_scale, self.norm_bias, eps=1e-6)
        return {
            name: {
                array: self.get_submodule(f"{site.kind}_{array}")(hidden).unflatten(-1, spec.shape)
                for array, spec in site.specs.items()
            }
            for hidden, (name, site) in zip(x, self.sites.items(), strict=True)
        }


def _join(*parts: Tensor) -> Tensor:
    """Concatenates features, after broadcasting the other axes."""
    lead = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*lead, part.shape[-1]) for part in parts], dim=-1)


NETWORKS = {
    HypernetworkConfig: Hypernetwork,
    PerLayerHypernetworkConfig: Hypernetwork,
    HyperFormerConfig: HyperFormer,
}
