"""Without SeqIO, text becomes the same tokens as with it, and tokens the same text."""

import pathlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdecoders_jax.data import tokenizer, vocabulary

DEMO = pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH)
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


def test_what_is_no_model_is_refused():
    for content in (b"<html>Please log in</html>", b""):
        with pytest.raises(ValueError, match=r"must be a SentencePiece model; got \d+ bytes"):
            tokenizer.make(content, 100)


def test_tensorflow_is_not_imported():
    code = (
        "import sys; from hyperdecoders_jax.data import tokenizer; "
        "sys.exit(str({'tensorflow', 'seqio'} & set(sys.modules) or ''))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert result.stderr.strip() == ""
