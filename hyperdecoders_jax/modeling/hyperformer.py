"""HyperFormer++'s hypernetwork: condition, layer and place become one embedding, read by all heads.

One set of heads writes the adapters of all layers and, among sites of one kind, of all places.
What differs from the published code: each stack has task embeddings of its own, where that code
shares one table of `tasks * 64` numbers between the two.

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
    """Writes the adapters of all layers and places from one joint embedding of each."""

    config: HyperFormerConfig
    sites: Mapping[str, Site]
    num_layers: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, condition: Float[Array, "batch cond"]) -> Written:
        """Writes every array of every site."""
        joint = self._joint_embedding(condition)  # [places, layers, batch, joint]
        places = enumerate(self.sites.items())
        of_kind: dict[str, list[tuple[int, str, Site]]] = {}
        for place, (name, site) in places:
            of_kind.setdefault(site.kind, []).append((place, name, site))
        written: Written = {name: {} for name in self.sites}
        for kind, members in of_kind.items():
            hidden = joint[jnp.array([place for place, _, _ in members])]
            for array, spec in members[0][2].specs.items():
                init = initializers.HYPERFORMER_KERNEL
                if kind != "serial":  # What is not normed must itself start near zero.
                    init = initializers.head_kernel(
                        self.config.joint_dim, spec.fan_in, spec.head_gain
                    )
                head = self._dense(f"{kind}_{array}", math.prod(spec.shape), "hyper_out", init)
                y = head(hidden)
                y = y.reshape(*y.shape[:3], *spec.shape)
                for i, (_, name, _) in enumerate(members):
                    written[name][array] = y[i]
        return written

    def _joint_embedding(
        self, condition: Float[Array, "batch cond"]
    ) -> Float[Array, "places layers batch joint"]:
        config = self.config

        def embedding(name, axis, size):
            return layers.param(
                name,
                initializers.LEARNED_EMBEDDING,
                (size, config.embedding_dim),
                (axis, "hyper_in"),
                self.dtype,
            )

        num_places, num_layers = len(self.sites), self.num_layers
        lead = (num_places, num_layers, condition.shape[0])
        of_layer = embedding("layer_embedding", "layers", num_layers)
        of_place = embedding("place_embedding", "places", num_places)
        parts = (condition, of_layer[:, None], of_place[:, None, None])
        parts = [jnp.broadcast_to(part, (*lead, part.shape[-1])) for part in parts]
        x = jnp.concatenate(parts, axis=-1).astype(self.dtype)
        x = nn.relu(self._dense("joint_0", config.hidden_dim, "hyper_hidden")(x))
        x = self._dense("joint_1", config.joint_dim, "hyper_hidden")(x)
        scale = layers.param(
            "norm_scale", initializers.ONES, x.shape[-1:], ("hyper_hidden",), self.dtype
        )
        bias = layers.param(
            "norm_bias", initializers.ZEROS, x.shape[-1:], ("hyper_hidden",), self.dtype
        )
        return layers.standardize(x, epsilon=1e-6) * scale + bias

    def _dense(
        self,
        name: str,
        features: int,
        axis: str,
        kernel_init: Initializer = initializers.HYPERFORMER_KERNEL,
    ) -> layers.Dense:
        return layers.Dense(
            features,
            ("hyper_in", axis),
            self.dtype,
            kernel_init,
            initializers.ZEROS,
            name=name,
        )
