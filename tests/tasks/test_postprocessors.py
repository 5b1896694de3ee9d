"""What decoded text becomes before it is scored."""

import pytest

from hyperdecoders_jax.tasks import postprocessors


def test_to_text_removes_outer_spaces_only():
    assert postprocessors.to_text("  two  words ", example={}, is_target=True) == "two  words"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("1", 1),
        (" 0 ", 0),
        ("", -1),
        ("one", -1),
        ("1.0", -1),
        ("0 1", -1),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), -1),
        ("-" + "9" * 30, -1),
    ],
)
def test_to_int_marks_what_is_no_number(text, label):
    assert postprocessors.to_int(text, example={}, is_target=False) == label


@pytest.mark.parametrize(
    ("text", "score"), [("3.8", 3.8), (" 4 ", 4.0), ("", -1.0), ("nan", -1.0), ("inf", -1.0)]
)
def test_to_float_marks_what_is_no_finite_number(text, score):
    assert postprocessors.to_float(text, example={}, is_target=False) == score


@pytest.mark.parametrize(
    ("text", "candidate", "answer"),
    [
        ("the boy", "The boy", 1),
        ("bunny", "the fuzzy bunny", 1),
        ("Their fuzzy bunny", "a Bunny", 1),
        ("Bob", "Bob's hat", 0),
        ("Bob's", "Bob's hat", 1),
        ("fuzzy cat", "fuzzy bunny", 0),
        ("bunny fuzzy", "fuzzy bunny", 1),
        ("घर", "fuzzy bunny", 0),
        ("", "Bob", -1),
        ("the  his", "Bob", -1),
    ],
)
def test_wsc_compares_words_without_determiners(text, candidate, answer):
    example = {"targets_pretokenized": candidate.encode(), "label": 0}
    assert postprocessors.wsc(text, example=example, is_target=False) == answer


def test_a_target_that_is_scored_is_a_label():
    with pytest.raises(ValueError, match=r"must be one of \('no', 'yes'\); got '<unk>'\. The lab"):
        postprocessors.to_label("<unk>", labels=("no", "yes"), is_target=True)
    with pytest.raises(
        ValueError, match=r"must be a finite number; got '<unk>'\. The labels of GL"
    ):
        postprocessors.to_float("<unk>", is_target=True)
