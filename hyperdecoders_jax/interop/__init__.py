"""Parameters as others name and store them.

transformers finds these classes by a folder's `config.json` (`AutoConfig` and the Auto classes)
once one of them was imported; until then none of them, nor transformers, costs an import.

    from hyperdecoders_jax.interop import FlaxHyperdecoderForConditionalGeneration
"""

from __future__ import annotations

import importlib
from typing import Any

# Each needs a framework that not everybody has.
_CLASSES = {
    "HyperdecoderConfig": "hyperdecoder_config",
    "FlaxHyperdecoderForConditionalGeneration": "flax_hyperdecoder",
    "HyperdecoderForConditionalGeneration": "torch_hyperdecoder",
}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_CLASSES[name]}"), name)
