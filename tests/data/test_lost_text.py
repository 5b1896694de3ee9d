"""What vocabularies lose of texts."""

import pathlib

import pytest
import seqio

from hyperdecoders_jax.data import lost_text, tokenizer, vocabulary


@pytest.fixture(scope="module")
def demo():
    model = pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH).read_bytes()
    return tokenizer.make(model, 100)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a red fruit", []),
        ("naïve", ["ï"]),
        ("two  spaces", ["  "]),
        ("one\nline", ["\n"]),
        ("a\ttab", ["\t"]),
        (" a", [" "]),
        ("a ", [" "]),
        ("fun \N{GRINNING FACE}", ["\N{GRINNING FACE}"]),
        ("\N{LATIN SMALL LIGATURE FI}n", ["\N{LATIN SMALL LIGATURE FI}"]),
        ("a\N{NO-BREAK SPACE}b", ["\N{NO-BREAK SPACE}"]),
        ("", []),
    ],
)
def test_pieces_are_those_that_decoding_does_not_give_back(demo, text, pieces):
    assert lost_text.LostText(demo).find(text) == pieces
    assert (demo.decode(demo.encode(text)) == text) == (not pieces)


def test_both_kinds_of_vocabularies_lose_the_same(demo):
    theirs = vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH)
    texts = ["naïve", "two  spaces", "a red fruit", "{x}"]
    found = [list(map(lost_text.LostText(x).find, texts)) for x in (demo, theirs)]
    assert found[0] == found[1]


def test_bytes_lose_nothing():
    lost = lost_text.LostText(seqio.ByteVocabulary())
    lost.add_bytes(["naïve  \n{}".encode(), "\N{GRINNING FACE}".encode()])
    assert lost.describe("texts") is None


def test_a_sentence_has_the_count_the_pieces_and_an_example(demo):
    lost = lost_text.LostText(demo)
    lost.add(["fine", "x " * 99 + "naïve" + " y" * 99, *["two  spaces"] * 2, "".join("àâäçèêëîô")])
    told = lost.describe("targets of task 'a'")
    assert told.startswith("4 of 5 targets of task 'a' hold what the vocabulary cannot write, '  '")
    assert " and 3 more: 'x x x" in told
    assert "na ⁇ ve" in told
    assert told.endswith("Replace these in the data, or use a vocabulary that has them.")
    assert len(told) < 400
