"""Exported models in PyTorch, with transformers' `generate`.

    from hyperdecoders_jax.interop import HyperdecoderForConditionalGeneration
    model = HyperdecoderForConditionalGeneration.from_pretrained(folder)
    model.generate(**inputs, task_ids=task_ids, num_beams=4)

For transformers 4.57 and 5 (tested with 4.57.6, 5.0.0 and 5.24.0, torch 2.13). What it computes is
in `torch_model`; here the files that it is loaded from are checked.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from etils import epath
from torch import nn
from transformers.utils import cached_file

from hyperdecoders_jax.hub import torch_model
from hyperdecoders_jax.hub.hyperdecoder_config import HyperdecoderConfig
from hyperdecoders_jax.weights import exported_folder, flax_files, hugging_face
from hyperdecoders_jax.weights.arrays import tell_not_finite

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# Arguments of `from_pretrained` that say where in the cache a download is.
_CACHE_OPTIONS = ("cache_dir", "revision", "subfolder", "token", "local_files_only")


class HyperdecoderForConditionalGeneration(torch_model.HyperdecoderForConditionalGeneration):
    """The model of `torch_model`; loading checks the fingerprint of files that we wrote."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args, **kw):
        """Loads as all classes do, files that we wrote with a check of their fingerprint.

        FileNotFoundError if the folder has Flax's weights only; ValueError if they are damaged.
        """
        # transformers 4 would ask for `from_flax=True`, which cannot read these files.
        name = pretrained_model_name_or_path
        folder = pathlib.Path(name or "", kw.get("subfolder") or "")
        has_own = any(any(folder.glob(files)) for files in ("*.safetensors", "*.bin"))
        if name and flax_files.has_files(folder) and not has_own:
            raise FileNotFoundError(
                f"For PyTorch an exported folder must hold model.safetensors; {folder} holds "
                f"Flax's weights alone. Make another of it: hyperdecoders export "
                f"--checkpoint={folder} --output=NEW_FOLDER --format=flax,safetensors"
            )
        is_read = bool(name) and kw.get("state_dict") is None
        if is_read and folder.is_dir():
            exported_folder.check_weights(epath.Path(folder))
        loaded = super().from_pretrained(name, *args, **kw)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if is_read and not folder.is_dir():
            exported_folder.check_weights(_downloaded(name, model.config, kw))
        _tell_not_finite(model, name)
        return loaded


def _downloaded(hub_id: str, config: HyperdecoderConfig, options: Mapping[str, Any]) -> epath.Path:
    """The folder of the cache that a model was just loaded from."""
    options = {name: options[name] for name in _CACHE_OPTIONS if name in options}
    # Of the commit that was loaded: nothing is asked of the hub.
    commit = getattr(config, "_commit_hash", None)
    file = cached_file(hub_id, hugging_face.CONFIG_FILE, **options, _commit_hash=commit)
    return epath.Path(file).parent


def _tell_not_finite(model: nn.Module, where: Any) -> None:
    """Logs the first parameter that has NaN or infinity."""
    for name, value in model.named_parameters():
        if value.dtype not in _FLOATS or value.is_meta:  # Quantised, or on no device.
            continue
        if count := value.numel() - int(torch.isfinite(value).sum()):
            tell_not_finite(name, f"{where}", count, value.numel())
            return


transformers.AutoModelForSeq2SeqLM.register(
    HyperdecoderConfig, HyperdecoderForConditionalGeneration, exist_ok=True
)
