"""Parameter names: T5X's paths, which are ours, and Hugging Face's.

`encoder/layers_0/mlp/wo/kernel` is `encoder.block.0.layer.1.DenseReluDense.wo.weight`, transposed.
Source: transformers' T5; t5x/examples/t5/network.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flax import traverse_util

from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Params

_PROJECTIONS = {"query": "q", "key": "k", "value": "v", "out": "o"}
# Sub-layers of a block in order: our name, our name of the norm before it, Hugging Face's name.
_ENCODER_SUBLAYERS = (
    ("attention", "pre_attention_layer_norm", "SelfAttention"),
    ("mlp", "pre_mlp_layer_norm", "DenseReluDense"),
)
_DECODER_SUBLAYERS = (
    ("self_attention", "pre_self_attention_layer_norm", "SelfAttention"),
    ("encoder_decoder_attention", "pre_cross_attention_layer_norm", "EncDecAttention"),
    ("mlp", "pre_mlp_layer_norm", "DenseReluDense"),
)

# Our leaf → that of Hugging Face's Flax T5, where it is another.
_FLAX_LEAVES = {"scale": "weight", "rel_embedding": "embedding"}


def flatten(params: Params) -> dict[str, np.ndarray]:
    """{"a": {"b": x}} -> {"a/b": x}"""
    return traverse_util.flatten_dict(dict(params), sep="/")


def unflatten(flat: dict[str, np.ndarray]) -> Params:
    """{"a/b": x} -> {"a": {"b": x}}"""
    return traverse_util.unflatten_dict(flat, sep="/")


def abridge(found: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are.

    >>> abridge(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    if not found:
        return "none"
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def hugging_face_names(config: TransformerConfig) -> dict[str, str]:
    """Our path → Hugging Face's name, of every backbone parameter, in Hugging Face's order."""
    # Insertion order is the order of arrays in the files that are written.
    names = {"token_embedder/embedding": "shared.weight"}
    mlp_names = {dense: dense for dense in feed_forward_names(config)}
    stacks = (
        ("encoder", config.num_encoder_layers, _ENCODER_SUBLAYERS),
        ("decoder", config.num_decoder_layers, _DECODER_SUBLAYERS),
    )
    for stack, num_layers, sublayers in stacks:
        for layer in range(num_layers):
            for i, (sublayer, norm, theirs) in enumerate(sublayers):
                path, name = f"{stack}/layers_{layer}", f"{stack}.block.{layer}.layer.{i}"
                dense_names = mlp_names if sublayer == "mlp" else _PROJECTIONS
                for dense, their_dense in dense_names.items():
                    kernel = f"{path}/{sublayer}/{dense}/kernel"
                    names[kernel] = f"{name}.{theirs}.{their_dense}.weight"
                if (layer, i) == (0, 0):  # All layers share the first one's positions.
                    positions = f"{name}.{theirs}.relative_attention_bias.weight"
                    names[f"{stack}/relpos_bias/rel_embedding"] = positions
                names[f"{path}/{norm}/scale"] = f"{name}.layer_norm.weight"
        names[f"{stack}/{stack}_norm/scale"] = f"{stack}.final_layer_norm.weight"
    if not config.logits_via_embedding:  # T5 v1.0 has no head of its own.
        names["decoder/logits_dense/kernel"] = "lm_head.weight"
    return names


def flax_names(config: TransformerConfig) -> dict[str, str]:
    """Our path → name in Hugging Face's Flax T5, of every backbone parameter.

    >>> flax_names(TransformerConfig(9, 8, 2, 4, 6, 1, 1))["encoder/encoder_norm/scale"]
    'encoder/final_layer_norm/weight'
    """
    found = {}
    for path, name in hugging_face_names(config).items():
        leaf = path.rsplit("/", 1)[-1]
        owner = name.removesuffix("weight").replace(".", "/")
        found[path] = owner + _FLAX_LEAVES.get(leaf, leaf)
    return found


def feed_forward_names(config: TransformerConfig) -> list[str]:
    """Dense layers of a feed-forward block: `wi`, or `wi_0` and `wi_1`, and `wo`."""
    num_inputs = len(config.mlp_activations)
    return ["wi", "wo"] if num_inputs == 1 else [*(f"wi_{i}" for i in range(num_inputs)), "wo"]


def transpose(path: str, value: np.ndarray) -> np.ndarray:
    """Converts between PyTorch's layout of a parameter and ours, in either direction."""
    name = path.rsplit("/", 1)[-1]
    # PyTorch keeps dense kernels as [fan_out, fan_in] and relative positions as [buckets, heads].
    is_matrix = name.endswith(("kernel", "rel_embedding")) and value.ndim > 1
    return np.swapaxes(value, -1, -2) if is_matrix else value
