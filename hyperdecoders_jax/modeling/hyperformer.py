"""HyperFormer++'s hypernetwork: its heads read a joint embedding of condition, layer and site.

Unlike the published code, where stacks share a table of `tasks * 64` embeddings, each has its own.
Source: Mahabadi et al. 2021 (arXiv:2106.04489), section 2.3; rabeehk/hyperformer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from hyperdecoders_jax.modeling import initializers, layers
from hyperdecoders_jax.modeling.config import HyperFormerConfig
from hyperdecoders_jax.modeling.hypernetwork import Written
from hyperdecoders_jax.modeling.sites import Site


class HyperFormer(nn.Module):
    """Writes the adapters of each layer and site from their joint embedding."""

    config: HyperFormerConfig
    sites: Mapping[str, Site]
    num_layers: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, condition: Float[Array, "batch cond"]) -> Written:
        joint = self._joint_embedding(condition)  # [sites, layers, batch, joint]
        names = list(self.sites)
        written: Written = {name: {} for name in names}
        # Sites of one kind have arrays of the same shapes, so one head writes those of all.
        for kind in dict.fromkeys(site.kind for site in self.sites.values()):
            members = [name for name in names if self.sites[name].kind == kind]
            hidden = joint[jnp.array([names.index(name) for name in members])]
            for array, spec in self.sites[members[0]].specs.items():
                init = initializers.HYPERFORMER_KERNEL
                if kind != "serial":  # Without the norm of serial adapters, start near zero.
                    dims = (self.config.joint_dim, spec.fan_in)
                    init = initializers.head_kernel(*dims, spec.head_gain)
                head = self._dense(f"{kind}_{array}", math.prod(spec.shape), "hyper_out", init)
                y = head(hidden)
                y = y.reshape(*y.shape[:3], *spec.shape)
                for i, name in enumerate(members):
                    written[name][array] = y[i]
        return written

    def _joint_embedding(
        self, condition: Float[Array, "batch cond"]
    ) -> Float[Array, "sites layers batch joint"]:
        config = self.config

        def embedding(name, axis, size):
            init, shape = initializers.LEARNED_EMBEDDING, (size, config.embedding_dim)
            return layers.param(name, init, shape, (axis, "hyper_in"), self.dtype)

        num_sites, num_layers = len(self.sites), self.num_layers
        lead = (num_sites, num_layers, condition.shape[0])
        of_layer = embedding("layer_embedding", "layers", num_layers)
        # Saved parameters call sites places.
        of_site = embedding("place_embedding", "places", num_sites)
        parts = (condition, of_layer[:, None], of_site[:, None, None])
        parts = [jnp.broadcast_to(part, (*lead, part.shape[-1])) for part in parts]
        x = jnp.concatenate(parts, axis=-1).astype(self.dtype)
        x = nn.relu(self._dense("joint_0", config.hidden_dim, "hyper_hidden")(x))
        x = self._dense("joint_1", config.joint_dim, "hyper_hidden")(x)
        # A textbook layer norm, with mean and bias, unlike T5's.
        of_norm = (x.shape[-1:], ("hyper_hidden",), self.dtype)
        scale = layers.param("norm_scale", initializers.ONES, *of_norm)
        bias = layers.param("norm_bias", initializers.ZEROS, *of_norm)
        return layers.standardize(x, epsilon=1e-6) * scale + bias

    def _dense(
        self,
        name: str,
        features: int,
        axis: str,
        kernel_init: Initializer = initializers.HYPERFORMER_KERNEL,
    ) -> layers.Dense:
        axes = ("hyper_in", axis)
        return layers.Dense(features, axes, self.dtype, kernel_init, initializers.ZEROS, name=name)
