"""Sites: where in a layer adapters go, and which arrays they have.

A new site is one entry of `SITES` and the line of a layer that applies it (see `adapters`). Every
array starts so that step 0 is the plain backbone, or almost.
Source: Ivison & Peters 2022 (arXiv:2203.08304) for `feed_forward`; Hu et al. 2021
(arXiv:2106.09685) for attention projections; Mahabadi et al. 2021 (arXiv:2106.04489) for `after_*`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from jax.nn.initializers import Initializer
from jaxtyping import Array

from hyperdecoders_jax.modeling import config as config_lib
from hyperdecoders_jax.modeling import initializers
from hyperdecoders_jax.modeling.config import AdapterConfig, TransformerConfig
from hyperdecoders_jax.types import AdapterParams, LoraParams, SerialAdapterParams


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """One array of one layer."""

    shape: tuple[int, ...]  # `[fan_in, fan_out]` of a kernel, `[features]` of a bias
    axes: tuple[str, ...]  # logical axis of each dimension
    learned: Callable[[int | None], Initializer]  # start as a parameter, given `num_tasks`
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
    pack: Callable[..., Any]  # makes what the layer applies from arrays of these names


def _zeros(features: int, axis: str, head_gain: float) -> ArraySpec:
    return ArraySpec((features,), (axis,), lambda num_tasks: initializers.ZEROS, head_gain)


def _bottleneck_specs(
    config: TransformerConfig,
    adapter: AdapterConfig,
    learned_kernel: Callable[[int, int, int | None], Initializer],
) -> dict[str, ArraySpec]:
    emb_dim, adapter_dim = config.emb_dim, adapter.bottleneck_dim
    gain = initializers.HYPERNETWORK_GAIN

    def kernel(axes, *shape):
        return ArraySpec(shape, axes, lambda num_tasks: learned_kernel(*shape, num_tasks), gain)

    return {
        "down_kernel": kernel(("embed", "bottleneck"), emb_dim, adapter_dim),
        "down_bias": _zeros(adapter_dim, "bottleneck", gain),
        "up_kernel": kernel(("bottleneck", "embed"), adapter_dim, emb_dim),
        "up_bias": _zeros(emb_dim, "embed", gain),
    }


def _parallel(config: TransformerConfig, adapter: AdapterConfig) -> Site:
    specs = _bottleneck_specs(config, adapter, initializers.adapter_kernel)
    return Site("parallel", specs, AdapterParams)


def _serial(config: TransformerConfig, adapter: AdapterConfig) -> Site:
    # Scale and bias of the norm start at zero, so step 0 is the backbone. Its input must not: near
    # zero, the norm's epsilon would leave it no gradient. HyperFormer starts the same way.
    specs = _bottleneck_specs(config, adapter, lambda *shape: initializers.HYPERFORMER_KERNEL)
    norm = {
        name: _zeros(config.emb_dim, "embed", initializers.HYPERNETWORK_GAIN)
        for name in ("norm_scale", "norm_bias")
    }
    return Site("serial", {**specs, **norm}, SerialAdapterParams)


def _lora(config: TransformerConfig, adapter: AdapterConfig, projection: str) -> Site:
    emb, joined = (config.emb_dim, "embed"), (config.num_heads * config.head_dim, "joined_kv")
    is_out = projection == "out"
    (fan_in, in_axis), (fan_out, out_axis) = (joined, emb) if is_out else (emb, joined)
    rank, scale = adapter.lora.rank, adapter.lora.alpha / adapter.lora.rank
    down_init, up_init = initializers.linear(fan_in), initializers.ZEROS
    specs = {
        "down_kernel": ArraySpec((fan_in, rank), (in_axis, "bottleneck"), lambda _: down_init, 1.0),
        # The change starts at exactly zero, as in the paper.
        "up_kernel": ArraySpec((rank, fan_out), ("bottleneck", out_axis), lambda _: up_init, 0.0),
    }

    # Scaled here, so that the layers need not know of alpha.
    def pack(down_kernel: Array, up_kernel: Array) -> LoraParams:
        return LoraParams(down_kernel, scale * up_kernel)

    return Site("lora_out" if is_out else "lora_in", specs, pack)


SITES: dict[str, Callable[[TransformerConfig, AdapterConfig], Site]] = {
    "feed_forward": _parallel,
    **{
        name: functools.partial(_lora, projection=name.rsplit("_", 1)[-1])
        for name in (*config_lib.SELF_ATTENTION, *config_lib.CROSS_ATTENTION)
    },
    "after_self_attention": _serial,
    "after_feed_forward": _serial,
}


def of_side(config: TransformerConfig, side: str) -> dict[str, Site]:
    """The sites of one stack by name, in the order of the configuration."""
    adapter = getattr(config, f"{side}_adapter")
    return {name: SITES[name](config, adapter) for name in adapter.sites}
