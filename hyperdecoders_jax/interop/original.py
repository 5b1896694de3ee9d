"""Parameters of the original PyTorch Hyperdecoders, as ours.

The original's `state_dict` has Hugging Face's names for T5, one manual adapter in each adapted
block, and one hypernetwork (`param_gen`) a stack. Where it has an array for every layer, ours has
one with a leading axis `layers`.

Source: allenai/hyperdecoders.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hyperdecoders_jax.interop import names
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Params

# Copies of shared.weight in a state_dict.
_ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_FEED_FORWARD = {"encoder": 1, "decoder": 2}  # index of the sub-layer within a block
_HEADS = {
    "down_kernel": "weight_down",
    "down_bias": "bias_down",
    "up_kernel": "weight_up",
    "up_bias": "bias_up",
}


def state_names(config: TransformerConfig) -> dict[str, tuple[str, ...]]:
    """The names in the original's state of every parameter of ours, by its path.

    Several names are the layers of one stacked parameter.
    """
    found = {path: (name,) for path, name in names.hugging_face_names(config).items()}
    for side in ("encoder", "decoder"):
        source = getattr(config, f"{side}_adapter").source
        num_layers = getattr(config, f"num_{side}_layers")
        if source == "manual":
            found |= _manual_names(side, num_layers)
        elif source == "generated":
            found |= _generated_names(side, getattr(config, f"{side}_adapter").hypernetwork)
    return found


def _manual_names(side: str, num_layers: int) -> dict[str, tuple[str, ...]]:
    found = {}
    for half in ("down", "up"):
        for ours, theirs in (("kernel", "weight"), ("bias", "bias")):
            found[f"{side}_adapters/{half}_{ours}"] = tuple(
                f"{side}.block.{layer}.layer.{_FEED_FORWARD[side]}.adapter_layer"
                f".adapter_{half}_manual.{theirs}"
                for layer in range(num_layers)
            )
    return found


def _generated_names(side: str, hypernetwork) -> dict[str, tuple[str, ...]]:
    ours = f"{side}_adapters/hypernetwork"
    theirs = f"{side}.param_gen"
    # The original's generator module is itself called `decoder`, in both stacks.
    dense = {f"{ours}/hidden": f"{theirs}.decoder.linear1"}
    dense |= {f"{ours}/{head}": f"{theirs}.decoder.{name}" for head, name in _HEADS.items()}
    if hypernetwork.pooled_mlp:
        dense[f"{side}_adapters/pooled_mlp/dense_0"] = f"{side}.mlp.0"
        dense[f"{side}_adapters/pooled_mlp/dense_1"] = f"{side}.mlp.2"
    found = {f"{ours}/layer_embedding": (f"{theirs}.layer_embed.weight",)}
    for path, name in dense.items():
        found[f"{path}/kernel"] = (f"{name}.weight",)
        found[f"{path}/bias"] = (f"{name}.bias",)
    return found


def from_state(state: Mapping[str, np.ndarray], config: TransformerConfig) -> Params:
    """Our parameters from the original's state, or our gradients from its gradients.

    Manual adapters that the original makes beside a hypernetwork, and never reads, are left.

    Raises:
      ValueError: an array is missing, or one is left that has no place in this configuration.
    """
    wanted = state_names(config)
    used = {name for group in wanted.values() for name in group}
    missing = sorted(used - set(state))
    left = sorted(name for name in set(state) - used - set(_ALIASES) if not _is_unused(name, used))
    if missing or left:
        raise ValueError(
            f"The state must hold exactly the parameters of this configuration; missing: "
            f"{missing or 'none'}; unexpected: {left or 'none'}. Compare encoder_adapter and "
            "decoder_adapter with the configuration that the state was trained with."
        )
    flat = {}
    for path, group in wanted.items():
        arrays = [names.transpose(path, np.asarray(state[name])) for name in group]
        is_stacked = path.startswith(("encoder_adapters/", "decoder_adapters/")) and (
            path.count("/") == 1
        )
        flat[path] = np.stack(arrays) if is_stacked else arrays[0]
    return names.unflatten(flat)


def _is_unused(name: str, used: set[str]) -> bool:
    """Whether `name` is a manual adapter in a stack whose adapters a hypernetwork writes."""
    stack = name.split(".", 1)[0]
    return "_manual." in name and f"{stack}.param_gen.layer_embed.weight" in used
