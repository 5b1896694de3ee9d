"""The files beside weights that say how a T5 reads and writes text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from absl import logging
from etils import epath

from hyperdecoders_jax.data import tokenizer, tokenizer_json
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import generation_fields, trained_model
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel, Vocabulary

GENERATION_FILE = "generation_config.json"
TOKENIZER_FILE = "tokenizer_config.json"
# Tokenizers say a longer length where nobody set one.
_MOST_TOKENS = 1_000_000
_DEFAULT_INPUT_LEN = 512

# Files beside Hugging Face's weights that turn text into tokens.
_TOKENIZER_FILES = (
    *(trained_model.VOCABULARY_FILE, tokenizer_json.FILE, TOKENIZER_FILE),
    *("special_tokens_map.json", "added_tokens.json"),
)


def describe(folder: epath.Path, config: TransformerConfig) -> Description:
    """A plain T5 as a text model, by its files (FileNotFoundError, ValueError) and defaults."""
    generation = _read_json(folder / GENERATION_FILE)
    tokenizer_fields = _read_json(folder / TOKENIZER_FILE)
    if undone := generation_fields.not_done(generation):
        listed = ", ".join(f"{name}={value!r}" for name, value in undone.items())
        where = folder / GENERATION_FILE
        done = "Not done here: %s. transformers, which does it, may write other texts (%s)."
        logging.warning(done, listed, where)
    return Description(
        model=config,
        decoding=generation_fields.from_fields(generation),
        vocabulary=_read_vocabulary(folder, tokenizer_fields),
        task_feature_lengths={
            "inputs": _input_len(tokenizer_fields, folder / TOKENIZER_FILE),
            "targets": generation_fields.max_len(generation),
        },
    )


def _input_len(fields: Mapping[str, Any], file: epath.Path) -> int:
    """The most tokens of a text that a tokenizer takes; a default where nobody set them."""
    length = fields.get("model_max_length")
    if length is None:
        return _DEFAULT_INPUT_LEN
    if isinstance(length, bool) or not isinstance(length, int | float) or not length >= 1:
        raise ValueError(
            f"model_max_length must be a number of tokens, at least 1, or null; {file} says "
            f"{length!r}. Correct it, or copy the file again."
        )
    return int(length) if length < _MOST_TOKENS else _DEFAULT_INPUT_LEN


def _read_vocabulary(folder: epath.Path, fields: Mapping[str, Any]) -> Vocabulary:
    file = folder / trained_model.VOCABULARY_FILE
    if fields.get("tokenizer_class") == "ByT5Tokenizer":
        model = tokenizer.BYTES_MODEL
    elif file.exists():
        model = file.read_bytes()
    elif (tokens := folder / tokenizer_json.FILE).exists():
        return Vocabulary(*tokenizer_json.read(tokens))
    else:
        raise FileNotFoundError(
            f"A model that reads and writes text must come with its vocabulary; {folder} has no "
            f"{file.name} and no {tokenizer_json.FILE}. Copy one from where the weights are."
        )
    extra = fields.get("extra_ids")
    return Vocabulary(model, tokenizer.default_sentinels(model) if extra is None else extra)


def _read_json(file: epath.Path) -> dict[str, Any]:
    """The fields of a file; none where there is no such file."""
    try:
        return json.loads(file.read_text()) if file.exists() else {}
    except ValueError as error:
        raise ValueError(f"{file} must be JSON: {error}. Copy or download it again.") from error


def read_tokenizer(folder: epath.Path, config: TransformerConfig) -> dict[str, bytes]:
    """The tokenizer's files of a folder; ValueError if its vocabulary is not of these weights."""
    names = [name for name in _TOKENIZER_FILES if (folder / name).exists()]
    found = {name: (folder / name).read_bytes() for name in names}
    if (spiece := found.get(trained_model.VOCABULARY_FILE)) is not None:
        num_pieces = tokenizer.make(spiece, 0).num_text_ids
        if num_pieces > config.vocab_size:
            raise ValueError(
                f"Every token must have a row in the embedding; the {trained_model.VOCABULARY_FILE}"
                f" in {folder} has {num_pieces:,} pieces, and the embedding {config.vocab_size:,} "
                "rows. The vocabulary belongs to other weights: copy theirs."
            )
    return found


def write_tokenizer(folder: epath.Path, trained: TrainedModel) -> None:
    """Writes the tokenizer's files that belong to weights."""
    for name, content in trained.files.items():
        (folder / name).write_bytes(content)
