"""The files beside weights that say how a T5 reads and writes text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from absl import logging
from etils import epath

from hyperdecoders_jax import errors, files, types
from hyperdecoders_jax.data import tokenizer, tokenizer_json
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import generation_fields, trained_model
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel, Vocabulary

GENERATION_FILE = "generation_config.json"
TOKENIZER_FILE = "tokenizer_config.json"
_DEFAULT_INPUT_LEN = 512
# transformers says 1e30, and means that nobody set a length.
_UNSET_LEN = 1e20

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
    how = "Correct the field, or copy or download the file again."
    with trained_model.fields_of(folder / GENERATION_FILE, "how texts are generated", how):
        decoding = generation_fields.from_fields(generation)
        for name, least in (("max_length", 2), ("max_new_tokens", 1)):  # With the start token.
            value, must = generation.get(name), f"be an integer from {least} to {types.MAX_LEN:,}"
            is_length = value is None or errors.is_whole(value, least, types.MAX_LEN)
            errors.check_value(name, value, is_length, must)
        target_len, min_len = generation_fields.max_len(generation), decoding.min_len
        must = f"be at most {target_len}, the most tokens of a text"
        errors.check_value("min_length", min_len, min_len <= target_len, must)
    with trained_model.fields_of(folder / TOKENIZER_FILE, "how texts are tokenized", how):
        vocabulary = _read_vocabulary(folder, tokenizer_fields)
        input_len = _input_len(tokenizer_fields)
    lengths = {"inputs": input_len, "targets": target_len}
    return Description(config, decoding, vocabulary=vocabulary, task_feature_lengths=lengths)


def _input_len(fields: Mapping[str, Any]) -> int:
    """Most tokens of an input, by a tokenizer's fields; FieldError for what is no such number."""
    name = "model_max_length"
    if (length := fields.get(name)) is None:
        return _DEFAULT_INPUT_LEN
    if isinstance(length, int | float) and length >= _UNSET_LEN:
        return _DEFAULT_INPUT_LEN
    if isinstance(length, float) and length.is_integer():
        length = int(length)
    trained_model.check_length(name, length)
    return length


def _read_vocabulary(folder: epath.Path, fields: Mapping[str, Any]) -> Vocabulary:
    extra, most = fields.get("extra_ids"), trained_model.MOST_SENTINELS
    is_count = extra is None or errors.is_whole(extra, 0, most)
    errors.check_value("extra_ids", extra, is_count, f"be an integer from 0 to {most:,}")
    file, tokens = folder / trained_model.VOCABULARY_FILE, folder / tokenizer_json.FILE
    if fields.get("tokenizer_class") == "ByT5Tokenizer":
        model = tokenizer.BYTES_MODEL
    elif file.exists():
        model = trained_model.read_vocabulary(folder)
    elif tokens.exists():
        files.check_regular(tokens)
        return Vocabulary(*tokenizer_json.read(tokens))
    else:
        raise FileNotFoundError(
            f"A model that reads and writes text must come with its vocabulary; {folder} has no "
            f"{file.name} and no {tokens.name}. Copy one from where the weights are."
        )
    return Vocabulary(model, tokenizer.default_sentinels(model) if extra is None else extra)


def _read_json(file: epath.Path) -> dict[str, Any]:
    """The fields of a file; none where there is no such file."""
    return files.read_json(file) if file.exists() else {}


def read_tokenizer(folder: epath.Path, config: TransformerConfig) -> dict[str, bytes]:
    """The tokenizer's files of a folder; ValueError if its vocabulary is not of these weights."""
    names = [name for name in _TOKENIZER_FILES if (folder / name).exists()]
    for name in names:
        files.check_regular(folder / name)
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
