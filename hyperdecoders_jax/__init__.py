"""Instance-specific adaptation of T5 for many tasks at once, in JAX."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from hyperdecoders_jax.text_model import TextModel


def load(
    path: str | os.PathLike, backbone: str | None = None, step: str | None = None
) -> TextModel:
    """Loads a trained model that predicts text; see `text_model.load`."""
    # Imported here, so that importing the package costs nothing.
    from hyperdecoders_jax import text_model

    return text_model.load(path, backbone, step)
