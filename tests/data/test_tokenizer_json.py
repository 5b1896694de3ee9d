"""Models rebuilt from a tokenizer.json compute the ids of the model that it was made from."""

import base64
import functools
import hashlib
import json
import pathlib
import zlib

import pytest
import sentencepiece
import transformers
from sentencepiece import sentencepiece_model_pb2

from hyperdecoders_jax.data import tokenizer, tokenizer_json
from hyperdecoders_jax.hub import tokenizer_files
from hyperdecoders_jax.weights.trained_model import Vocabulary
from tests.hub.test_tokenizer_files import make_texts

DEMO = pathlib.Path(__file__).parents[2] / "tasks" / "demo_data" / "demo.spiece.model"
Model = sentencepiece_model_pb2.ModelProto
Piece = Model.SentencePiece


@functools.cache
def charsmap():
    made = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc").serialized_model_proto()
    return Model.FromString(made).normalizer_spec.precompiled_charsmap


def make_model(**flags):
    """The demo's pieces, with the normaliser of T5's."""
    model = Model.FromString(DEMO.read_bytes())
    spec = model.normalizer_spec
    spec.name, spec.precompiled_charsmap = "nmt_nfkc", charsmap()
    for name, value in flags.items():
        setattr(spec, name, value)
    return model


def make_mt5():
    """Its sentinels are pieces, and unknown characters become bytes."""
    model = make_model()
    pieces = list(model.pieces)
    pieces[3:3] = [Piece(piece=f"<0x{i:02X}>", type=Piece.BYTE, score=0) for i in range(256)]
    sentinels = [f"▁<extra_id_{i}>" for i in reversed(range(5))]
    pieces += [Piece(piece=x, type=Piece.USER_DEFINED, score=0) for x in sentinels]
    del model.pieces[:]
    model.pieces.extend(pieces)
    model.trainer_spec.byte_fallback = True
    return model


MODELS = {"T5's": (make_model, 100), "mT5's": (make_mt5, 0)}


def save_as_transformers(folder, model, num_sentinels):
    (folder / "spiece.model").write_bytes(model)
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": num_sentinels}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    saved = folder / "saved"
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(saved)
    return saved / "tokenizer.json"


def save_as_we_do(folder, model, num_sentinels):
    tokenizer_files.write(folder, Vocabulary(model, num_sentinels), max_len=48)
    return folder / "tokenizer.json"


def facts(model):
    """All that SentencePiece computes ids from."""
    model = Model.FromString(model)
    pieces = [(piece.piece, piece.score, piece.type) for piece in model.pieces]
    training, spec = model.trainer_spec, model.normalizer_spec
    ids = training.pad_id, training.eos_id, training.unk_id, training.bos_id
    flags = spec.add_dummy_prefix, spec.remove_extra_whitespaces, spec.escape_whitespaces
    return pieces, ids, training.byte_fallback, spec.precompiled_charsmap, flags


@pytest.mark.parametrize("name", MODELS)
def test_what_transformers_saves_gives_the_same_model(tmp_path, name):
    make, num_sentinels = MODELS[name]
    model = make().SerializeToString()
    found, counted = tokenizer_json.read(save_as_transformers(tmp_path, model, num_sentinels))
    assert facts(found) == facts(model)
    assert counted == num_sentinels
    assert tokenizer.fingerprint(found, counted) == tokenizer.fingerprint(model, num_sentinels)
    texts = make_texts(200)
    kept = tokenizer.make(model, num_sentinels)
    again = tokenizer.make(found, counted)
    assert [again.encode(text) for text in texts] == [kept.encode(text) for text in texts]


@pytest.mark.parametrize(
    "options",
    [{}, {"remove_extra_whitespaces": False, "precompiled_charsmap": b"", "name": "identity"},
     {"add_dummy_prefix": False}],
    ids=["T5's", "spaces kept", "no first space"],
)  # fmt: skip
def test_what_we_save_gives_the_same_model(tmp_path, options):
    model = make_model(**options).SerializeToString()
    found, counted = tokenizer_json.read(save_as_we_do(tmp_path, model, 7))
    assert (facts(found), counted) == (facts(model), 7)
    assert tokenizer.fingerprint(found, 7) == tokenizer.fingerprint(model, 7)


def test_the_published_file_comes_back_byte_for_byte(tmp_path, monkeypatch):
    published = make_model()
    published.trainer_spec.input.append("/as/trained")
    published.normalizer_spec.add_dummy_prefix = True
    published.normalizer_spec.remove_extra_whitespaces = True
    published.normalizer_spec.normalization_rule_tsv = ""
    published.normalizer_spec.ClearField("escape_whitespaces")
    content = published.SerializeToString(deterministic=True)
    training = zlib.compress(published.trainer_spec.SerializeToString())
    file = save_as_transformers(tmp_path, content, 100)
    assert tokenizer_json.read(file)[0] != content
    monkeypatch.setattr(tokenizer_json, "_T5_TRAINING", base64.b85encode(training))
    monkeypatch.setattr(tokenizer_json, "_T5_SHA256", hashlib.sha256(content).hexdigest())
    assert tokenizer_json.read(file) == (content, 100)


def drop(fields):
    fields["normalizer"] = None


def add(fields):
    fields["added_tokens"].append({"id": 10**4, "content": "<new>", "special": False})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "it has no normalizer, which transformers 5.0 to 5.2 leave out"),
        (add, "it has tokens that were added to T5's: <new>"),
        (lambda fields: fields["model"].update(type="BPE"), "it is of type BPE, and T5's are Uni"),
        (lambda fields: fields.pop("model"), "KeyError 'model'"),
        (lambda fields: fields["model"].update(unk_id=10**9), "IndexError"),
        (lambda fields: fields["model"].update(vocab=[["a"]]), "not enough values"),
    ],
)
def test_what_cannot_be_had_is_refused(tmp_path, change, message):
    file = save_as_transformers(tmp_path, make_model().SerializeToString(), 100)
    fields = json.loads(file.read_text())
    change(fields)
    file.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=rf"tokenizer\.json must hold .*{message}.* Copy the"):
        tokenizer_json.read(file)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 10**5])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json must hold .* Copy the spiece\.model"):
        tokenizer_json.read(tmp_path / "tokenizer.json")
