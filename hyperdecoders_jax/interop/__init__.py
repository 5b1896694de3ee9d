"""transformers' classes of exported models.

    from hyperdecoders_jax.interop import FlaxHyperdecoderForConditionalGeneration

Importing one registers it with transformers' Auto classes, which then find it by a folder's
`config.json`. Importing this package imports neither the classes nor transformers.
"""

from __future__ import annotations

import importlib
from typing import Any

# Class → its module, its requirements, and the extra of this package that installs them.
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
