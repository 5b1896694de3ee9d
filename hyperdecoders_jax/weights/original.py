"""Names and layouts of the original PyTorch Hyperdecoders' parameters.

The original's `state_dict` has Hugging Face's names for T5, one adapter in each adapted block, and
one hypernetwork (`param_gen`) per stack; here, arrays of all layers are one with an axis `layers`.
Source: allenai/hyperdecoders.
"""

from __future__ import annotations

import numpy as np

from hyperdecoders_jax.modeling.config import SOURCES, HypernetworkConfig, TransformerConfig
from hyperdecoders_jax.weights import names

_FEED_FORWARD = {"encoder": 1, "decoder": 2}  # index of the sub-layer within a block
_KINDS = {"kernel": "weight", "bias": "bias"}
_SITE = "feed_forward"


def state_names(config: TransformerConfig) -> dict[str, tuple[str, ...]]:
    """Our path → the original's names, one a layer if stacked; ValueError for other adapters."""
    # T5's names are Hugging Face's.
    found = {path: (name,) for path, name in names.hugging_face_names(config).items()}
    for side in ("encoder", "decoder"):
        adapter = getattr(config, f"{side}_adapter")
        num_layers = getattr(config, f"num_{side}_layers")
        _check_exists_there(side, adapter)
        if adapter.source in ("manual", "manual_specific"):
            is_bank = adapter.source == "manual_specific"
            found |= _manual_names(side, f"{side}_adapters", num_layers, is_bank)
        elif adapter.source == "task":
            table = f"{side}_adapters/task_embedding"
            found[table] = (f"{side}.adapter_task_embedding.weight",)
            found |= _hypernetwork_names(side)
        elif adapter.source == "generated":
            found |= _hypernetwork_names(side)
            if adapter.hypernetwork.pooled_mlp:  # An nn.Sequential; 1 is its ReLU.
                mlp = f"{side}_adapters/pooled_mlp"
                found |= _dense_names(f"{mlp}/dense_0", f"{side}.mlp.0")
                found |= _dense_names(f"{mlp}/dense_1", f"{side}.mlp.2")
            if side == "encoder":
                found |= _manual_names(side, "encoder_first_pass_adapters", num_layers, False)
    return found


def _check_exists_there(side: str, adapter) -> None:
    if adapter.source == "none":
        return
    if adapter.source not in SOURCES:
        raise ValueError(
            f"The original has the adapter sources {SOURCES}; got {side}_adapter.source = "
            f"{adapter.source!r}. Keep such a model in this package's own formats."
        )
    has_network = adapter.source in ("task", "generated")
    is_there = adapter.sites == (_SITE,) and adapter.task_embedding_dim is None
    if not is_there or (has_network and not isinstance(adapter.hypernetwork, HypernetworkConfig)):
        raise ValueError(
            "The original adapts feed-forward blocks alone, with one hypernetwork a stack that "
            f"reads emb_dim features; got {side}_adapter with sites {adapter.sites}, "
            f"{type(adapter.hypernetwork).__name__} and task_embedding_dim "
            f"{adapter.task_embedding_dim}. Keep such a model in this package's own formats."
        )


def _manual_names(
    side: str, key: str, num_layers: int, is_bank: bool
) -> dict[str, tuple[str, ...]]:
    separator = "_" if is_bank else "."  # A bank has plain parameters, not linear layers.
    adapter = f"{side}.block.{{}}.layer.{_FEED_FORWARD[side]}.adapter_layer.adapter"
    return {
        f"{key}/{_SITE}/{half}_{ours}": tuple(
            f"{adapter.format(layer)}_{half}_manual{separator}{theirs}"
            for layer in range(num_layers)
        )
        for half in ("down", "up")
        for ours, theirs in _KINDS.items()
    }


def _hypernetwork_names(side: str) -> dict[str, tuple[str, ...]]:
    ours, theirs = f"{side}_adapters/hypernetwork", f"{side}.param_gen"
    found = {f"{ours}/layer_embedding": (f"{theirs}.layer_embed.weight",)}
    # The original's generator module is itself called `decoder`, in both stacks.
    found |= _dense_names(f"{ours}/hidden", f"{theirs}.decoder.linear1")
    for half in ("down", "up"):
        for kind, name in _KINDS.items():
            head = f"{ours}/{_SITE}/{half}_{kind}"
            found |= _dense_names(head, f"{theirs}.decoder.{name}_{half}")
    return found


def _dense_names(path: str, name: str) -> dict[str, tuple[str, ...]]:
    return {f"{path}/kernel": (f"{name}.weight",), f"{path}/bias": (f"{name}.bias",)}


def is_stacked(path: str) -> bool:
    """Whether the parameter at `path` holds the arrays of all layers."""
    return f"_adapters/{_SITE}/" in path


def to_ours(path: str, name: str, value: np.ndarray) -> np.ndarray:
    """Converts one array of the original to our layout."""
    if name.endswith("_manual_weight"):  # A bank has our layout.
        return value
    if name.endswith("_manual_bias"):
        return value[:, 0]  # [tasks, features]
    return names.transpose(path, value)


def to_theirs(path: str, name: str, value: np.ndarray) -> np.ndarray:
    """Inverse of `to_ours`."""
    if name.endswith("_manual_weight"):
        return value
    if name.endswith("_manual_bias"):
        return value[:, None]
    return names.transpose(path, value)
