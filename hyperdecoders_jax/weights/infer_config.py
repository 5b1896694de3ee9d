"""Configuration inferred from the shapes of arrays, for formats without one (T5X)."""

from __future__ import annotations

import dataclasses
import re

from hyperdecoders_jax import model
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import check_params
from hyperdecoders_jax.weights.arrays import Arrays

# What names the sizes: all others follow from these.
_EMBEDDING = "token_embedder/embedding"  # [vocab, emb]
_POSITIONS = "encoder/relpos_bias/rel_embedding"  # [heads, buckets]
_QUERY = "encoder/layers_0/attention/query/kernel"  # [emb, heads * head_dim]
_OUT = "encoder/layers_0/mlp/wo/kernel"  # [mlp, emb]
_GATE = "encoder/layers_0/mlp/wi_1/kernel"
_HEAD = "decoder/logits_dense/kernel"


def infer_config(arrays: Arrays) -> TransformerConfig:
    """Infers the sizes of T5's own arrays, under our paths; ValueError if they are not of a T5.

    Gated feed-forward blocks are taken for T5 v1.1's (gelu, linear), others for v1.0's (relu);
    dropout, precision and the largest distance of relative positions are those of all published T5.
    """
    of_t5 = [path for path in arrays if path.split("/", 1)[0] in model.BACKBONE_KEYS]
    shapes = {path: arrays[path].shape for path in of_t5}
    for path in (_EMBEDDING, _POSITIONS, _QUERY, _OUT):
        if len(shapes.get(path, ())) != 2:
            raise ValueError(
                f"The arrays of a T5 must hold {path} with two axes; got "
                f"{shapes.get(path, 'none of this name')}. Use weights of a T5 in T5X's names; "
                "UMT5, whose layers each have positions of their own, is not supported."
            )
    vocab_size, emb_dim = shapes[_EMBEDDING]
    num_heads, relpos_buckets = shapes[_POSITIONS]
    config = TransformerConfig(
        vocab_size=vocab_size,
        emb_dim=emb_dim,
        num_heads=num_heads,
        head_dim=shapes[_QUERY][1] // num_heads,
        mlp_dim=shapes[_OUT][0],
        num_encoder_layers=_count_layers("encoder", shapes),
        num_decoder_layers=_count_layers("decoder", shapes),
        mlp_activations=("gelu", "linear") if _GATE in shapes else ("relu",),
        logits_via_embedding=_HEAD not in shapes,
        relpos_buckets=relpos_buckets,
    )
    check_params.check_params(
        {path: arrays[path] for path in shapes},
        config,
        "The weights of a T5",
        advice="They are not whole, or of another architecture: use those of a T5.",
    )
    return config


def with_tasks(config: TransformerConfig, arrays: Arrays) -> TransformerConfig:
    """`config` with as many tasks as the arrays show, where it leaves their number open."""
    if not config.reads_tasks or config.num_tasks is not None:
        return config
    for side in ("encoder", "decoder"):
        is_bank = getattr(config, f"{side}_adapter").source == "manual_specific"
        for path, array in arrays.items():
            if path in (f"{side}_adapters/task_embedding", f"{side}_hypergrid/task_embedding"):
                return dataclasses.replace(config, num_tasks=array.shape[0])
            if is_bank and path.startswith(f"{side}_adapters/"):
                return dataclasses.replace(config, num_tasks=array.shape[1])
    return config


def _count_layers(stack: str, shapes: dict[str, tuple[int, ...]]) -> int:
    found = (re.match(rf"{stack}/layers_(\d+)/", path) for path in shapes)
    return len({match[1] for match in found if match})
