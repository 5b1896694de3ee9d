"""The SentencePiece model in a `tokenizer.json`, the only vocabulary file of transformers 5.

SentencePiece computes ids from pieces (text, score, kind), a character map, two flags and the ids
of special tokens. `tokenizer.json` holds these, so that a model rebuilt from it has equal ids,
with exceptions:
- kinds are known of special tokens, bytes and sentinels; a piece that was unused becomes a usual
  one (no published T5 has any);
- transformers 5.0 to 5.2 leave out the normaliser: nothing can be had of their files;
- what SentencePiece kept of its training is gone, so the rebuilt file is another, of the same
  `tokenizer.fingerprint`. Of the published T5's (v1.0, v1.1, LM-adapted, FLAN) this is known too:
  its file is rebuilt byte for byte, which its SHA-256 proves, for folders of earlier versions that
  store a hash of the file.
Source: sentencepiece_model.proto; tokenizers, tokenizer.json; transformers 4.57 to 5.24,
T5Converter and T5Tokenizer.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath
from sentencepiece import sentencepiece_model_pb2

FILE = "tokenizer.json"

_Model = sentencepiece_model_pb2.ModelProto
_Piece = _Model.SentencePiece
_SENTINEL = re.compile(r"▁?<extra_id_\d+>")
_BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
# Patterns by which normalisers of transformers and of `hub.tokenizer_files` do what flags say.
_TRIMS = (" {2,}", r"\A +|[ ▁]+\z| +(?= )")
_PREFIXES = r"\A(?=[\s\S])"
# Of the published T5's spiece.model: what SentencePiece kept of its training, and the whole file.
_T5_TRAINING = (
    "c-oE8uTR536u|L&S8Apf6tV`{-EL$2EFFIVjs!=J>%kiO<I=l<A{0Wh$w?#<i9|LiBn}*85{aCFPAoX`o_gYw_r$lc%"
    "518clt&^-S~4GI*0iiS_uKRF^OO0)dyW4X$FUBMb#ZJB$9g!nj$<1*wuxg~D8_LWIIaT6Rp7V^{IA0DKGTVis$javBW7"
    "eFtQ@dGo+@@+h&c1})6|cI75+sL+u9kOF0OVv^$liJW>qGYj+Im^;FU9IlWnK|b+Ges)juqs-<Ym$cP|Oq>zB|R1D(L9"
    "cL#6}%?E%-fG2<o$e6-}l8Vw7`m-2#rSMM4l)B#ZdgOgkHyCDT;Wu>x6VB*Tz)X1KxPcZ?_zRQ(`NR"
)
_T5_SHA256 = "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86"


def read(file: epath.PathLike) -> tuple[bytes, int]:
    """A SentencePiece model and the number of sentinels behind it; ValueError if none is in it."""
    try:
        fields = json.loads(epath.Path(file).read_bytes())
        pieces, num_sentinels = _split_sentinels(fields)
        return _to_model(fields, pieces), num_sentinels
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise ValueError(
            f"Without a spiece.model, {file} must hold all that a T5's ids are computed from: "
            f"{reason}. Copy the spiece.model of the published T5 to it, or save the tokenizer "
            "with another release of transformers."
        ) from error


def _split_sentinels(fields: Mapping[str, Any]) -> tuple[list[tuple[str, float]], int]:
    """The pieces without the sentinels behind them, and the number of these."""
    if (kind := fields["model"].get("type", "Unigram")) != "Unigram":
        raise ValueError(f"it is of type {kind}, and T5's are Unigram")
    pieces = [(str(piece), float(score)) for piece, score in fields["model"]["vocab"]]
    behind = {x["id"]: x["content"] for x in fields["added_tokens"] if x["id"] >= len(pieces)}
    names = [piece for piece, _ in pieces] + [behind[i] for i in sorted(behind)]
    # The last of T5's sentinels comes first.
    counted = zip(itertools.count(), reversed(names), strict=False)
    num_sentinels = sum(
        1 for _ in itertools.takewhile(lambda x: x[1] == f"<extra_id_{x[0]}>", counted)
    )
    num_pieces = len(names) - num_sentinels
    if num_pieces > len(pieces):
        new = [name for name in names[len(pieces) :] if not _SENTINEL.fullmatch(name)] or names[-1:]
        raise ValueError(f"it has tokens that were added to T5's: {', '.join(new[:5])}")
    return pieces[:num_pieces], num_sentinels


def _to_model(fields: Mapping[str, Any], pieces: list[tuple[str, float]]) -> bytes:
    steps = list(_steps(fields.get("normalizer")))
    if not steps:
        raise ValueError("it has no normalizer, which transformers 5.0 to 5.2 leave out")
    maps = [x["precompiled_charsmap"] for x in steps if x["type"] == "Precompiled"]
    charsmap = base64.b64decode(maps[0]) if maps else b""
    model = _with_pieces(fields, pieces)
    if (published := _published(model, charsmap)) is not None:
        return published
    words = [*steps, *_steps(fields.get("pre_tokenizer"), "pretokenizers")]
    patterns = [x["pattern"].get("Regex") for x in words if x["type"] == "Replace"]
    spaces = [x for x in words if x["type"] == "Metaspace"]
    prefixed = [x.get("prepend_scheme", x.get("add_prefix_space")) for x in spaces]
    has_prefix = _PREFIXES in patterns or any(x not in ("never", False) for x in prefixed)
    is_split = any(x["type"] == "WhitespaceSplit" for x in words)
    _set_normalizer(model, charsmap, has_prefix, is_split or any(x in _TRIMS for x in patterns))
    return model.SerializeToString(deterministic=True)


def _set_normalizer(model: _Model, charsmap: bytes, has_prefix: bool, is_trimmed: bool) -> None:
    spec = model.normalizer_spec
    spec.name = "nmt_nfkc" if charsmap else "identity"
    spec.precompiled_charsmap = charsmap
    spec.add_dummy_prefix, spec.remove_extra_whitespaces = has_prefix, is_trimmed
    spec.escape_whitespaces = True


def _steps(part: Mapping[str, Any] | None, name: str = "normalizers") -> Iterator[Mapping]:
    """The parts of a normaliser or pre-tokeniser, which may be a sequence of others."""
    if part is not None and part["type"] == "Sequence":
        for step in part[name]:
            yield from _steps(step, name)
    elif part is not None:
        yield part


def _with_pieces(fields: Mapping[str, Any], pieces: list[tuple[str, float]]) -> _Model:
    """A model of pieces with their kinds, and of the ids of special tokens."""
    model, unk_id = _Model(), fields["model"]["unk_id"]
    added = {token["id"]: token["special"] for token in fields["added_tokens"]}
    has_bytes = _BYTES.issubset(piece for piece, _ in pieces)
    for i, (piece, score) in enumerate(pieces):
        found = model.pieces.add(piece=piece, score=score)
        if i == unk_id:
            found.type = _Piece.UNKNOWN
        elif has_bytes and piece in _BYTES:
            found.type = _Piece.BYTE
        elif _SENTINEL.fullmatch(piece) or added.get(i) is False:
            found.type = _Piece.USER_DEFINED
        elif added.get(i):
            found.type = _Piece.CONTROL
    names = {piece: i for i, (piece, _) in enumerate(pieces)}
    spec = model.trainer_spec
    spec.model_type = spec.UNIGRAM
    spec.vocab_size = len(pieces)
    spec.byte_fallback = has_bytes
    spec.unk_id, spec.unk_piece = unk_id, pieces[unk_id][0]
    spec.pad_id, spec.eos_id, spec.bos_id = names.get("<pad>", -1), names.get("</s>", -1), -1
    return model


def _published(model: _Model, charsmap: bytes) -> bytes | None:
    """The published T5's model, if these are its pieces and its map."""
    found = _Model(pieces=model.pieces)
    found.trainer_spec.MergeFromString(zlib.decompress(base64.b85decode(_T5_TRAINING)))
    _set_normalizer(found, charsmap, True, True)
    found.normalizer_spec.normalization_rule_tsv = ""
    found.normalizer_spec.ClearField("escape_whitespaces")
    content = found.SerializeToString(deterministic=True)
    return content if hashlib.sha256(content).hexdigest() == _T5_SHA256 else None
