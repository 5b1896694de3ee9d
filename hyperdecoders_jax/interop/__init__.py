"""Parameters as others name and store them.

transformers finds these classes by a folder's `config.json` (`AutoConfig` and the Auto classes)
once one of them was imported; until then none of them, nor transformers, costs an import.

    from hyperdecoders_jax.interop import FlaxHyperdecoderForConditionalGeneration
"""

from __future__ import annotations

import importlib
from typing import Any

# Where each class is, what it needs, and the extra of this package that brings it.
_CLASSES = {
    "HyperdecoderConfig": ("hyperdecoder_config", "transformers", "hf"),
    "FlaxHyperdecoderForConditionalGeneration": (
        "flax_hyperdecoder",
        "transformers 4.57, the last release with Flax",
        "hf",
    ),
    "HyperdecoderForConditionalGeneration": (
        "torch_hyperdecoder",
        "transformers and PyTorch",
        "torch",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, needed, extra = _CLASSES[name]
    try:
        return getattr(importlib.import_module(f"hyperdecoders_jax.hub.{module}"), name)
    except ImportError as error:
        raise ImportError(
            f"{name} needs {needed}; importing it failed: {error}. Install what is missing: pip "
            f"install 'hyperdecoders_jax[{extra}]'"
        ) from error
