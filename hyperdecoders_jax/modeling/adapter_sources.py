"""Adapter sources: who makes the adapters of all layers of a stack.

Every source is a module called with a `Condition` that returns `AdapterParams` with leading axis
`layers`, or `[layers, batch]` where each example has its own. Its parameters are the top-level keys
`encoder_adapters` and `decoder_adapters`. A new source is one class and one entry of `SOURCES`.

Source: Ivison & Peters 2022 (arXiv:2203.08304), section 2; allenai/hyperdecoders.
"""

from __future__ import annotations

import flax.struct
from flax import linen as nn
from jaxtyping import Array, Float, Int

from hyperdecoders_jax.modeling import hypernetwork, initializers, layers
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import AdapterParams


@flax.struct.dataclass
class Condition:
    """What a source may know of each example."""

    pooled: Float[Array, "batch emb"] | None
    task_ids: Int[Array, "*batch"] | None


class AdapterSource(nn.Module):
    """Makes the adapters of one stack; the base of all sources.

    Attributes:
      config: the model's.
      side: "encoder" or "decoder".
    """

    config: TransformerConfig
    side: str

    @property
    def adapter_config(self):
        """The adapters' part of the configuration."""
        return getattr(self.config, f"{self.side}_adapter")

    @property
    def num_layers(self) -> int:
        """Layers of the stack."""
        return getattr(self.config, f"num_{self.side}_layers")

    def __call__(self, condition: Condition) -> AdapterParams:
        """Adapters of all layers."""
        raise NotImplementedError


class Manual(AdapterSource):
    """One learned adapter a layer, shared by all examples."""

    @nn.compact
    def __call__(self, condition: Condition) -> AdapterParams:
        """Returns leading axis `[layers]`; `condition` is not read."""
        emb_dim, adapter_dim = self.config.emb_dim, self.adapter_config.bottleneck_dim
        kernel_init = initializers.adapter_kernel(emb_dim, adapter_dim)

        def param(name, init, **axes):
            shape = (self.num_layers, *axes.values())
            return layers.param(name, init, shape, ("layers", *axes), self.config.compute_dtype)

        return AdapterParams(
            down_kernel=param("down_kernel", kernel_init, embed=emb_dim, bottleneck=adapter_dim),
            down_bias=param("down_bias", initializers.ZEROS, bottleneck=adapter_dim),
            up_kernel=param("up_kernel", kernel_init, bottleneck=adapter_dim, embed=emb_dim),
            up_bias=param("up_bias", initializers.ZEROS, embed=emb_dim),
        )


class Generated(AdapterSource):
    """A hypernetwork writes the adapters of each example from its pooled encoder output."""

    @nn.compact
    def __call__(self, condition: Condition) -> AdapterParams:
        """Returns leading axes `[layers, batch]`."""
        config = self.adapter_config
        dtype = self.config.compute_dtype
        pooled = condition.pooled
        if config.hypernetwork.pooled_mlp:
            pooled = hypernetwork.PooledMLP(dtype, name="pooled_mlp")(pooled)
        return hypernetwork.Hypernetwork(
            config.hypernetwork,
            num_layers=self.num_layers,
            emb_dim=self.config.emb_dim,
            adapter_dim=config.bottleneck_dim,
            dtype=dtype,
            name="hypernetwork",
        )(pooled)


SOURCES: dict[str, type[AdapterSource] | None] = {
    "none": None,
    "manual": Manual,
    "generated": Generated,
}


def make(config: TransformerConfig, side: str) -> AdapterSource | None:
    """The source of one stack's adapters, or None for a plain stack."""
    source = SOURCES[getattr(config, f"{side}_adapter").source]
    return None if source is None else source(config, side, name=f"{side}_adapters")
