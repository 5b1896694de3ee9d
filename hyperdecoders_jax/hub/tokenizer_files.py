"""Tokenizer files of a vocabulary for transformers, with the same ids as in training.

    spiece.model             the SentencePiece model, its sentinels among its pieces as in mT5's
    tokenizer.json           the same for the library tokenizers
    tokenizer_config.json    which class reads them, and how
    special_tokens_map.json  names of EOS, padding and unknown

`AutoTokenizer` reads `tokenizer.json`, in transformers 4.57 and 5; `T5Tokenizer` of 4.57 reads
`spiece.model` (of 5 it builds another tokenizer: use `AutoTokenizer`). Both append EOS, which the
vocabulary of training leaves to its caller.

`spiece.model` gives the ids of training for every text. So does `tokenizer.json`, except that it
- reads `</s>`, `<pad>` and `<unk>` in a text as those tokens, where training reads letters;
- sorts the combining marks of a letter as Unicode does, where training keeps their order;
- may lose a mark or a joiner directly after a space other than the common one;
- may differ in texts that contain NUL or ▁, and between segmentations of equal likelihood.
Decoding skips unknown tokens, where training writes ⁇, and may lose the space before a sentinel.
A vocabulary of bytes has the last two files only, for `ByT5Tokenizer`, with the ids of training.
Source: sentencepiece, sentencepiece_model.proto and unigram_model.cc; tokenizers, tokenizer.json;
transformers, T5Tokenizer and T5Converter, which differs from SentencePiece in more texts.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from etils import epath
from sentencepiece import sentencepiece_model_pb2

from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.weights.trained_model import VOCABULARY_FILE, Vocabulary

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"

_Model = sentencepiece_model_pb2.ModelProto
_Piece = _Model.SentencePiece
_SPACE = "▁"  # SentencePiece's character for a space.
_BYT5_SPECIAL_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def with_own_sentinels(vocabulary: Vocabulary) -> Vocabulary:
    """The same ids, sentinels in `spiece.model`: T5Tokenizer, SeqIO and T5X read only that file."""
    if vocabulary.model == tokenizer.BYTES_MODEL:
        return vocabulary
    return Vocabulary(tokenizer.with_sentinels(vocabulary.model, vocabulary.num_sentinels), 0)


def write(folder: epath.PathLike, vocabulary: Vocabulary, max_len: int) -> None:
    """Writes tokenizer files into an existing folder; `max_len` tokens, with EOS, are its limit."""
    folder = epath.Path(folder)
    # Training reads the names of special tokens in a text as letters.
    config = {"model_max_length": max_len, "clean_up_tokenization_spaces": False}
    config["split_special_tokens"] = True
    if vocabulary.model == tokenizer.BYTES_MODEL:
        special = _BYT5_SPECIAL_TOKENS
        config |= {"tokenizer_class": "ByT5Tokenizer", "extra_ids": vocabulary.num_sentinels}
    else:
        vocabulary = with_own_sentinels(vocabulary)
        (folder / VOCABULARY_FILE).write_bytes(vocabulary.model)
        content, num_sentinels = tokenizer.split_sentinels(vocabulary.model)
        model = _Model.FromString(content)
        added = _added_tokens(model, num_sentinels)
        ids = model.trainer_spec
        special = {"pad_token": ids.pad_id, "eos_token": ids.eos_id, "unk_token": ids.unk_id}
        special = {name: model.pieces[i].piece for name, i in special.items()}
        # Legacy: the text is passed to SentencePiece unchanged.
        config |= {"tokenizer_class": "T5Tokenizer", "legacy": True, "extra_ids": 0}
        config["added_tokens_decoder"] = {str(i): token for i, token in added.items()}
        if _is_known(model):
            # T5Tokenizer of transformers 5 would build another tokenizer from the file.
            config["tokenizer_class"] = "PreTrainedTokenizerFast"
            config["model_input_names"] = ["input_ids", "attention_mask"]
            _write_json(folder / TOKENIZER_FILE, _to_tokenizer(model, added), indent=None)
    _write_json(folder / CONFIG_FILE, config | special)
    _write_json(folder / SPECIAL_TOKENS_FILE, special)


def _write_json(file: epath.Path, fields: dict[str, Any], indent: int | None = 2) -> None:
    file.write_text(json.dumps(fields, indent=indent, ensure_ascii=False) + "\n")


def _added_tokens(model: _Model, num_sentinels: int) -> dict[int, dict[str, Any]]:
    """Special tokens, and the sentinels that follow the pieces, by id."""

    def token(content: str, is_special: bool) -> dict[str, Any]:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        # Sentinels are matched in the normalised text by their normalised name, which begins with
        # a space: that is where SentencePiece finds them.
        return {"content": content, **flags, "normalized": not is_special, "special": is_special}

    kinds = (_Piece.CONTROL, _Piece.UNKNOWN)
    special = {i: token(x.piece, True) for i, x in enumerate(model.pieces) if x.type in kinds}
    # The last sentinel comes first.
    sentinels = (token(f"<extra_id_{i}>", False) for i in reversed(range(num_sentinels)))
    return special | dict(enumerate(sentinels, start=len(model.pieces)))


def _is_known(model: _Model) -> bool:
    """Whether `_to_tokenizer` can express the model, as for all published T5s."""
    spec = model.trainer_spec
    return (
        spec.model_type == spec.UNIGRAM
        and not spec.byte_fallback
        and not spec.treat_whitespace_as_suffix
        and model.normalizer_spec.escape_whitespaces
    )


def _to_tokenizer(model: _Model, added: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The fields of `tokenizer.json`."""
    eos_id = model.trainer_spec.eos_id
    eos = model.pieces[eos_id].piece
    end = {"SpecialToken": {"id": eos, "type_id": 0}}
    first, second = ([{"Sequence": {"id": part, "type_id": 0}}, end] for part in "AB")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, **token} for i, token in added.items()],
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(model.normalizer_spec)},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": first,
            "pair": first + second,
            "special_tokens": {eos: {"id": eos, "ids": [eos_id], "tokens": [eos]}},
        },
        "decoder": {
            "type": "Metaspace",
            "replacement": _SPACE,
            "prepend_scheme": "always" if model.normalizer_spec.add_dummy_prefix else "never",
            "split": True,
        },
        "model": {
            "type": "Unigram",
            "unk_id": model.trainer_spec.unk_id,
            "vocab": [[piece.piece, piece.score] for piece in model.pieces],
            "byte_fallback": False,
        },
    }


def _normalizers(spec: sentencepiece_model_pb2.NormalizerSpec) -> list[dict[str, Any]]:
    found = []
    if spec.precompiled_charsmap:
        if "nfkc" in spec.name:  # `Precompiled` alone drops the second of two marks of a letter.
            found.append({"type": "NFC"})
        charsmap = base64.b64encode(spec.precompiled_charsmap).decode()
        found.append({"type": "Precompiled", "precompiled_charsmap": charsmap})

    def replace(pattern: str, content: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}

    # In SentencePiece's order: whitespace is trimmed before a space is put in front.
    if spec.remove_extra_whitespaces:
        found.append(replace(rf"\A +|[ {_SPACE}]+\z| +(?= )", ""))
    if spec.add_dummy_prefix:
        found.append(replace(r"\A(?=[\s\S])", _SPACE))
    return [*found, replace(" ", _SPACE)]
