"""Tokenisation without SeqIO, token for token that of SeqIO's vocabularies (seqio/vocabularies.py).

Predicting needs no more, and is spared TensorFlow and the nine seconds that its import takes.
"""

import abc
import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import sentencepiece
from google.protobuf import message
from sentencepiece import sentencepiece_model_pb2

from hyperdecoders_jax.types import EOS_ID

UNK_ID = 2
BYTES_MODEL = b"bytes"  # Stands for the model of a vocabulary of bytes.
_FIRST_BYTE, _NUM_BYTES = 3, 256
NUM_BYTE_SENTINELS = 125  # ByT5's.
_NUM_SENTINELS = 100  # Behind the pieces of T5's models.
_Model = sentencepiece_model_pb2.ModelProto
_Piece = _Model.SentencePiece
_SCORED = (_Piece.NORMAL, _Piece.UNUSED)  # Pieces whose scores are read.
_OWN_SENTINELS = ("▁<extra_id_0>", "<extra_id_0>")  # A piece of models that hold their own.


def fingerprint(model: bytes, num_sentinels: int) -> str:
    """Identifies a vocabulary by what it computes, whichever program saved its file.

    SHA-256 of what ids and texts depend on: pieces, sentinels (in the model or behind it alike) and
    normalisation. Bytes that hold no model have their own hash.
    """
    return fingerprints(model, num_sentinels)[0]


@functools.lru_cache(maxsize=8)
def fingerprints(model: bytes, num_sentinels: int) -> tuple[str, ...]:
    """The `fingerprint`, and what earlier versions stored for the same file: its bytes' hash."""
    base, num_own = split_sentinels(model)
    num_sentinels += num_own
    of_file = hashlib.sha256(base + b"|extra_ids=%d" % num_sentinels).hexdigest()
    if model == BYTES_MODEL:
        return (of_file,)
    try:
        facts = _facts(_Model.FromString(with_sentinels(base, num_sentinels)))
    except message.DecodeError:  # Whoever makes a tokenizer of it is told.
        return (of_file,)
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest(), of_file


def _facts(model: _Model) -> dict[str, Any]:
    """What SentencePiece computes ids from texts and texts from ids by, as JSON.

    Left out are what it keeps of its training, names, and scores that it never reads.
    """
    normalizer, trainer = model.normalizer_spec, model.trainer_spec
    return {
        "pieces": [
            (piece.piece, piece.type, piece.score if piece.type in _SCORED else None)
            for piece in model.pieces
        ],
        "model": [
            *(trainer.model_type, trainer.byte_fallback),
            *(trainer.treat_whitespace_as_suffix, trainer.unk_surface),
        ],
        "normalizer": [
            normalizer.precompiled_charsmap.hex(),
            *(normalizer.add_dummy_prefix, normalizer.remove_extra_whitespaces),
            normalizer.escape_whitespaces,
        ],
        "denormalizer": model.denormalizer_spec.precompiled_charsmap.hex(),
    }


def with_sentinels(model: bytes, num_sentinels: int) -> bytes:
    """A SentencePiece model with its sentinels as pieces, as mT5's has them.

    >>> split_sentinels(with_sentinels(b"the bytes of a model", 3))
    (b'the bytes of a model', 3)
    """
    # Protocol buffers may be concatenated: their repeated fields (pieces) then follow each other.
    return model + b"".join(map(_sentinel, reversed(range(num_sentinels))))


def split_sentinels(model: bytes) -> tuple[bytes, int]:
    """The model without the sentinels that `with_sentinels` put into it, and their number."""
    num_sentinels = 0
    while model.endswith(piece := _sentinel(num_sentinels)):
        model, num_sentinels = model.removesuffix(piece), num_sentinels + 1
    return model, num_sentinels


def _sentinel(number: int) -> bytes:
    model = _Model()
    model.pieces.add(piece=f"▁<extra_id_{number}>", score=0.0, type=_Piece.USER_DEFINED)
    return model.SerializeToString()


def default_sentinels(model: bytes) -> int:
    """The sentinels that follow a model's pieces by default: T5's 100, none if it holds its own."""
    if model == BYTES_MODEL:
        return NUM_BYTE_SENTINELS
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    is_own = any(processor.PieceToId(piece) != processor.unk_id() for piece in _OWN_SENTINELS)
    return 0 if is_own else _NUM_SENTINELS


class Tokenizer(abc.ABC):
    """Text to token ids, without EOS, and back."""

    num_text_ids: int  # Ids that can become text; those behind are unknown tokens.

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text."""

    @abc.abstractmethod
    def _decode(self, ids: Sequence[int]) -> str: ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first EOS."""
        # Embeddings are padded to a multiple of 128 rows, so a model may generate ids without text.
        known = [int(i) if i < self.num_text_ids else UNK_ID for i in ids]
        return self._decode(known[: known.index(EOS_ID) + 1] if EOS_ID in known else known)


class ByteTokenizer(Tokenizer):
    """ByT5's: pad, EOS and unknown, then 256 bytes of UTF-8.

    >>> ByteTokenizer().encode("hi")
    [107, 108]
    >>> ByteTokenizer().decode([107, 108, 1, 107])
    'hi'
    """

    num_text_ids = _FIRST_BYTE + _NUM_BYTES

    def encode(self, text):
        return [byte + _FIRST_BYTE for byte in text.encode()]

    def _decode(self, ids):
        return bytes(i - _FIRST_BYTE for i in ids if i >= _FIRST_BYTE).decode(errors="ignore")


class SentencePieceTokenizer(Tokenizer):
    """The pieces of a `spiece.model`'s bytes, then sentinels in descending order."""

    def __init__(self, model: bytes, num_sentinels: int):
        try:
            _Model.FromString(model)
            self._processor = sentencepiece.SentencePieceProcessor(
                model_proto=with_sentinels(model, num_sentinels)
            )
        except (message.DecodeError, RuntimeError) as error:
            raise ValueError(
                f"A vocabulary must be a SentencePiece model; got {len(model):,} bytes that are "
                f"none: {error}. Copy the spiece.model of the T5 again."
            ) from error
        self.num_text_ids = self._processor.GetPieceSize()

    def encode(self, text):
        return self._processor.EncodeAsIds(text)

    def _decode(self, ids):
        return self._processor.DecodeIds(list(ids))


def make(model: bytes, num_sentinels: int) -> Tokenizer:
    """The tokenizer of a model's content; `BYTES_MODEL` is ByT5's."""
    is_bytes = model == BYTES_MODEL
    return ByteTokenizer() if is_bytes else SentencePieceTokenizer(model, num_sentinels)
