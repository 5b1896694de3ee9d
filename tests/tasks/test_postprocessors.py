"""What decoded text becomes before it is scored."""

import pytest

from hyperdecoders_jax.tasks import postprocessors


def test_to_text_removes_outer_spaces_only():
    assert postprocessors.to_text("  two  words ", example={}, is_target=True) == "two  words"


@pytest.mark.parametrize(
    ("text", "label"), [("1", 1), (" 0 ", 0), ("", -1), ("one", -1), ("1.0", -1), ("0 1", -1)]
)
def test_to_int_marks_what_is_no_number(text, label):
    assert postprocessors.to_int(text, example={}, is_target=False) == label


@pytest.mark.parametrize(
    ("text", "score"), [("3.8", 3.8), (" 4 ", 4.0), ("", -1.0), ("nan", -1.0), ("inf", -1.0)]
)
def test_to_float_marks_what_is_no_finite_number(text, score):
    assert postprocessors.to_float(text, example={}, is_target=False) == score
