"""Sizes and choices of a model, as frozen dataclasses that check themselves.

A `TransformerConfig` is T5's geometry plus what adapts each stack; gin files under
`gin_configs/models` and `gin_configs/adapters` bind its fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp

from hyperdecoders_jax import nearest

# What the adapters of a stack are made from, and on which sides each can stand today.
SOURCES = ("none", "manual", "generated")
SOURCES_OF_SIDE = {"encoder": ("none", "manual"), "decoder": SOURCES}
ACTIVATIONS = ("relu", "gelu", "silu", "linear")
DTYPES = ("float32", "bfloat16")


def _check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        hint = nearest.hint(str(value), choices) or f" Use one of {', '.join(choices)}."
        raise ValueError(f"{field} must be one of {choices}; got {value!r}.{hint}")


def _check_positive(owner: str, **sizes: int) -> None:
    for field, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"{owner}.{field} must be an integer of at least 1; got {value!r}. "
                f"Set it in the model's or the adapter's gin file."
            )


@dataclasses.dataclass(frozen=True)
class HypernetworkConfig:
    """The network that writes adapters.

    Attributes:
      bottleneck_dim: hidden features between the condition and the heads.
      layer_embedding_dim: features of the learned embedding that tells layers apart.
      pooled_mlp: whether a two-layer MLP reads the pooled states first
        (`process_encoder_output` of the original).

    Source: Ivison & Peters 2022 (arXiv:2203.08304), section 2; defaults of allenai/hyperdecoders.
    """

    bottleneck_dim: int = 128
    layer_embedding_dim: int = 10
    pooled_mlp: bool = True

    def __post_init__(self):
        _check_positive(
            "HypernetworkConfig",
            bottleneck_dim=self.bottleneck_dim,
            layer_embedding_dim=self.layer_embedding_dim,
        )


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """The adapters of one stack.

    Attributes:
      source: who makes them. `none`: nobody, plain T5. `manual`: they are learned, one a layer,
        shared by all examples. `generated`: a hypernetwork writes them for each example.
      bottleneck_dim: hidden features of an adapter.
      norm_input: whether an adapter reads the layer-normed states; by default it reads the
        residual stream as it is, as the paper's main models do.
      hypernetwork: read by `generated` alone.
    """

    source: str = "none"
    bottleneck_dim: int = 64
    norm_input: bool = False
    hypernetwork: HypernetworkConfig = HypernetworkConfig()

    def __post_init__(self):
        _check_choice("AdapterConfig.source", self.source, SOURCES)
        _check_positive("AdapterConfig", bottleneck_dim=self.bottleneck_dim)


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """A T5 model and its adapters.

    Attributes:
      vocab_size: rows of the embedding table; at least the vocabulary's size (T5: 32128 for 32100
        pieces, rounded up to a multiple of 128).
      emb_dim: features of the residual stream (`d_model`).
      num_heads: attention heads of each layer.
      head_dim: features of a head (`d_kv`); `num_heads * head_dim` need not be `emb_dim`.
      mlp_dim: hidden features of a feed-forward block (`d_ff`).
      num_encoder_layers: encoder blocks.
      num_decoder_layers: decoder blocks.
      mlp_activations: `("relu",)` for T5 v1.0, `("gelu", "linear")` for v1.1, mT5 and ByT5.
      logits_via_embedding: whether the embedding table makes the logits too (tied, T5 v1.0).
      dropout_rate: in [0, 1).
      dtype: of activations; parameters are float32 and logits always are.
      relpos_buckets: buckets of relative positions.
      relpos_max_distance: distance in tokens from which on positions share the last bucket.
      encoder_adapter: what adapts the encoder.
      decoder_adapter: what adapts the decoder.

    Source: Raffel et al. 2020 (arXiv:1910.10683); t5x/examples/t5/network.py.
    """

    vocab_size: int
    emb_dim: int
    num_heads: int
    head_dim: int
    mlp_dim: int
    num_encoder_layers: int
    num_decoder_layers: int
    mlp_activations: Sequence[str] = ("gelu", "linear")
    logits_via_embedding: bool = False
    dropout_rate: float = 0.1
    dtype: str = "float32"
    relpos_buckets: int = 32
    relpos_max_distance: int = 128
    encoder_adapter: AdapterConfig = AdapterConfig()
    decoder_adapter: AdapterConfig = AdapterConfig()

    def __post_init__(self):
        _check_positive(
            "TransformerConfig",
            vocab_size=self.vocab_size,
            emb_dim=self.emb_dim,
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            mlp_dim=self.mlp_dim,
            num_encoder_layers=self.num_encoder_layers,
            num_decoder_layers=self.num_decoder_layers,
            relpos_buckets=self.relpos_buckets,
            relpos_max_distance=self.relpos_max_distance,
        )
        # gin gives lists where a user writes brackets; a config is hashable.
        object.__setattr__(self, "mlp_activations", tuple(self.mlp_activations))
        for activation in self.mlp_activations:
            _check_choice("TransformerConfig.mlp_activations", activation, ACTIVATIONS)
        _check_choice("TransformerConfig.dtype", self.dtype, DTYPES)
        if not 0.0 <= self.dropout_rate < 1.0:
            raise ValueError(
                f"TransformerConfig.dropout_rate must be in [0, 1); got {self.dropout_rate}. "
                "T5 uses 0.1; 0.0 turns dropout off."
            )
        for side, config in (("encoder", self.encoder_adapter), ("decoder", self.decoder_adapter)):
            _check_choice(f"{side}_adapter.source", config.source, SOURCES_OF_SIDE[side])

    @property
    def compute_dtype(self) -> jnp.dtype:
        """The type of activations."""
        return jnp.dtype(self.dtype)
