"""What to read weights from, and what their reader may be told."""

from __future__ import annotations

import dataclasses

from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import hugging_face
from hyperdecoders_jax.weights.arrays import Arrays

# Names of arrays with a row for each token: Hugging Face's, of which a file may hold any, and ours.
_TABLES = (
    *("shared.weight", *hugging_face.COPIES),
    *("token_embedder/embedding", "decoder/logits_dense/kernel"),
)


@dataclasses.dataclass(frozen=True)
class Source:
    """What to read, and what its reader may be told."""

    path: str  # File or folder, local or remote, or a hub id.
    config: TransformerConfig | None = None  # For files without one: T5X's with adapters.
    are_rows_right: bool = False  # Whether the embedding's rows give the vocabulary's size.
    step: str | int | None = None  # Of a run: "best", "last" or a number; None: best.
    backbone: str | None = None  # Of an adapter folder: the T5's path; None: where the run had it.

    def with_rows(self, config: TransformerConfig, arrays: Arrays) -> TransformerConfig:
        """`config` with as many tokens as the embedding has rows, if `are_rows_right`."""
        tables = [arrays[name] for name in _TABLES if name in arrays]
        if not self.are_rows_right or not tables:
            return config
        return dataclasses.replace(config, vocab_size=tables[0].shape[0])
