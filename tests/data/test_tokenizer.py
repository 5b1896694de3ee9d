"""Without SeqIO, text becomes the same tokens as with it, and tokens the same text."""

import hashlib
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

from hyperdecoders_jax.data import tokenizer, vocabulary
from hyperdecoders_jax.weights import safetensors_files
from hyperdecoders_jax.weights.trained_model import VOCABULARY_KEY

DEMO = pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH)
Model = sentencepiece_model_pb2.ModelProto
TEXTS = (
    st.text(max_size=20)
    | st.sampled_from(["inflect past: walk", "a <extra_id_0> b <extra_id_99>", "  two  ", "ﬁ½"])
)  # fmt: skip


def make_pair(is_bytes):
    if is_bytes:
        theirs = vocabulary.load_vocabulary("bytes")
        return tokenizer.make(tokenizer.BYTES_MODEL, theirs.extra_ids), theirs
    theirs = vocabulary.load_vocabulary(DEMO)
    return tokenizer.make(DEMO.read_bytes(), theirs.extra_ids), theirs


@pytest.mark.parametrize("is_bytes", [False, True])
def test_texts_and_tokens_are_those_of_seqio(is_bytes):
    ours, theirs = make_pair(is_bytes)

    @given(text=TEXTS, ids=st.lists(st.integers(0, 5000) | st.integers(0, 400), max_size=9))
    def check(text, ids):
        assert ours.encode(text) == list(theirs.encode(text))
        assert ours.decode(ids) == theirs.decode(ids)

    check()


@pytest.mark.parametrize("is_bytes", [False, True])
def test_a_fingerprint_is_that_of_the_vocabulary(is_bytes):
    theirs = make_pair(is_bytes)[1]
    model = tokenizer.BYTES_MODEL if is_bytes else DEMO.read_bytes()
    found = tokenizer.fingerprint(model, theirs.extra_ids)
    assert found == vocabulary.fingerprint(theirs)
    assert found != tokenizer.fingerprint(model, theirs.extra_ids + 1)


def test_a_fingerprint_is_of_what_ids_depend_on_alone():
    def change(edit):
        model = Model.FromString(DEMO.read_bytes())
        edit(model)
        return tokenizer.fingerprint(model.SerializeToString(), 7)

    def set_field(part, name, value):
        return lambda model: setattr(getattr(model, part), name, value)

    unchanged = [
        set_field("trainer_spec", "seed_sentencepiece_size", 9),
        set_field("trainer_spec", "pad_id", -1),
        set_field("normalizer_spec", "name", "other"),
        lambda model: model.trainer_spec.input.append("/where/it/was/trained"),
        lambda model: setattr(model.pieces[1], "score", 2.0),  # Of </s>.
    ]
    changed = [
        set_field("trainer_spec", "byte_fallback", True),
        set_field("trainer_spec", "unk_surface", "?"),
        set_field("normalizer_spec", "precompiled_charsmap", b"map"),
        set_field("normalizer_spec", "add_dummy_prefix", False),
        set_field("normalizer_spec", "remove_extra_whitespaces", False),
        set_field("denormalizer_spec", "precompiled_charsmap", b"map"),
        lambda model: setattr(model.pieces[9], "score", 2.0),
        lambda model: setattr(model.pieces[9], "piece", "other"),
        lambda model: setattr(model.pieces[9], "type", Model.SentencePiece.UNUSED),
        lambda model: model.pieces.add(piece="new", score=-9.0),
    ]
    kept = tokenizer.fingerprint(DEMO.read_bytes(), 7)
    assert {change(edit) for edit in unchanged} == {kept}
    found = [change(edit) for edit in changed]
    assert kept not in found
    assert len(set(found)) == len(found)


def test_sentinels_in_a_model_count_as_those_behind_it():
    model = DEMO.read_bytes()
    inside = tokenizer.with_sentinels(model, 3)
    assert tokenizer.fingerprints(inside, 4) == tokenizer.fingerprints(model, 7)


def test_fingerprints_of_earlier_versions_are_known():
    # Stored with the demo's T5 by a version that hashed files.
    stored = safetensors_files.metadata(DEMO.parent / "demo_t5.safetensors")[VOCABULARY_KEY]
    assert stored != tokenizer.fingerprint(DEMO.read_bytes(), 100)
    assert stored in tokenizer.fingerprints(DEMO.read_bytes(), 100)
    of_bytes = "0e33e61fb30560d33e3a5becd615594f39da2d8b75d55dfefce50b33c651027a"
    assert tokenizer.fingerprints(tokenizer.BYTES_MODEL, 125) == (of_bytes,)


def test_what_is_no_model_has_the_fingerprint_of_its_bytes():
    content = b"<html>Please log in</html>"
    of_file = hashlib.sha256(content + b"|extra_ids=100").hexdigest()
    assert tokenizer.fingerprints(content, 100) == (of_file,)


def test_what_is_no_model_is_refused():
    for content in (b"<html>Please log in</html>", b""):
        with pytest.raises(ValueError, match=r"must be a SentencePiece model; got \d+ bytes"):
            tokenizer.make(content, 100)
