"""Sites: where in a layer adapters go, and which arrays they have; data for JAX and PyTorch alike.

A new site is one entry of `SITES` and the line of a layer that applies it (see `adapters`). A new
`Site.kind` also needs a class in `adapters.pack`, and both need the same in `hub.torch_adapters`.
Every array starts so that step 0 is the plain backbone, or almost.
Source: Ivison & Peters 2022 (arXiv:2203.08304) for `feed_forward`; Hu et al. 2021
(arXiv:2106.09685) for attention projections; Mahabadi et al. 2021 (arXiv:2106.04489) for `after_*`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

from hyperdecoders_jax.modeling import config as config_lib
from hyperdecoders_jax.modeling.config import AdapterConfig, TransformerConfig

# The paper's heads start near zero, so that step 0 is almost the plain backbone.
HYPERNETWORK_GAIN = 1e-3


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """One array of one layer."""

    shape: tuple[int, ...]  # `[fan_in, fan_out]` of a kernel, `[features]` of a bias
    axes: tuple[str, ...]  # logical axis of each dimension
    start: str  # of `initializers.LEARNED`: its start as a parameter
    head_gain: float  # start where a hypernetwork writes it; see `initializers.head_kernel`

    @property
    def fan_in(self) -> int:
        """Fan-in of a kernel; 1 for what is added."""
        return self.shape[0] if len(self.shape) == 2 else 1


@dataclasses.dataclass(frozen=True)
class Site:
    """Where an adapter goes, and its arrays."""

    kind: str  # sites of one kind have arrays of the same shapes
    specs: Mapping[str, ArraySpec]  # the arrays of one layer, by name
    up_scale: float = 1.0  # what `up_kernel` is multiplied by, once for all layers and steps


def _zeros(features: int, axis: str) -> ArraySpec:
    return ArraySpec((features,), (axis,), "zeros", HYPERNETWORK_GAIN)


def _bottleneck_specs(
    config: TransformerConfig, adapter: AdapterConfig, start: str
) -> dict[str, ArraySpec]:
    emb_dim, adapter_dim = config.emb_dim, adapter.bottleneck_dim
    down, up, gain = ("embed", "bottleneck"), ("bottleneck", "embed"), HYPERNETWORK_GAIN
    return {
        "down_kernel": ArraySpec((emb_dim, adapter_dim), down, start, gain),
        "down_bias": _zeros(adapter_dim, "bottleneck"),
        "up_kernel": ArraySpec((adapter_dim, emb_dim), up, start, gain),
        "up_bias": _zeros(emb_dim, "embed"),
    }


def _parallel(config: TransformerConfig, adapter: AdapterConfig) -> Site:
    return Site("parallel", _bottleneck_specs(config, adapter, "near_zero"))


def _serial(config: TransformerConfig, adapter: AdapterConfig) -> Site:
    # Scale and bias of the norm start at zero, so step 0 is the backbone. Its input must not: near
    # zero, the norm's epsilon would leave it no gradient. HyperFormer starts the same way.
    specs = _bottleneck_specs(config, adapter, "hyperformer")
    norm = {name: _zeros(config.emb_dim, "embed") for name in ("norm_scale", "norm_bias")}
    return Site("serial", {**specs, **norm})


def _lora(config: TransformerConfig, adapter: AdapterConfig, projection: str) -> Site:
    emb, joined = (config.emb_dim, "embed"), (config.num_heads * config.head_dim, "joined_kv")
    is_out = projection == "out"
    (fan_in, in_axis), (fan_out, out_axis) = (joined, emb) if is_out else (emb, joined)
    rank = adapter.lora.rank
    specs = {
        "down_kernel": ArraySpec((fan_in, rank), (in_axis, "bottleneck"), "linear", 1.0),
        # The change starts at exactly zero, as in the paper.
        "up_kernel": ArraySpec((rank, fan_out), ("bottleneck", out_axis), "zeros", 0.0),
    }
    return Site("lora_out" if is_out else "lora_in", specs, adapter.lora.alpha / rank)


SITES: dict[str, Callable[[TransformerConfig, AdapterConfig], Site]] = {
    "feed_forward": _parallel,
    **{
        name: functools.partial(_lora, projection=name.rsplit("_", 1)[-1])
        for name in config_lib.LORA_SITES
    },
    "after_self_attention": _serial,
    "after_feed_forward": _serial,
}


def of_side(config: TransformerConfig, side: str) -> dict[str, Site]:
    """The sites of one stack by name, in the order of the configuration."""
    adapter = getattr(config, f"{side}_adapter")
    return {name: SITES[name](config, adapter) for name in adapter.sites}
