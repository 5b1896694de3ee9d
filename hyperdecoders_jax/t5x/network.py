"""The sizes of T5X's own models, for a run that T5X's own model file describes."""

from collections.abc import Callable

import numpy as np
from t5x.examples.t5.network import T5Config

from hyperdecoders_jax.modeling.config import TransformerConfig

# Equal in name and meaning.
_SIZES = (
    "vocab_size", "emb_dim", "num_heads", "head_dim", "mlp_dim", "num_encoder_layers",
    "num_decoder_layers", "mlp_activations", "logits_via_embedding", "dropout_rate",
)  # fmt: skip


def adapted(
    network: T5Config, make: Callable[..., TransformerConfig] = TransformerConfig
) -> TransformerConfig:
    """The T5 of T5X's `network.T5Config`, with what adapts it from `make`.

    In gin `make` is `@config.TransformerConfig`, which a file of `adapters/` binds.
    >>> adapted(T5Config(vocab_size=31, dtype="bfloat16")).num_encoder_layers
    6
    """
    sizes = {name: getattr(network, name) for name in _SIZES}
    return make(**sizes, dtype=np.dtype(network.dtype).name)
