"""Postprocessors: decoded text to the value that a metric compares.

SeqIO calls them for targets and predictions alike, with keywords that not all of them need.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

INVALID = -1

# Words that do not tell what a noun phrase names, as T5 lists them.
DETERMINERS = {
    "a", "an", "each", "every", "few", "her", "his", "many", "much", "my", "our", "some", "that",
    "the", "their", "these", "this", "those", "which", "whose", "your",
}  # fmt: skip


class Grouped(NamedTuple):
    """A target that is scored with the others of its group."""

    group: tuple[int, int]  # Numbers of the text and of the question about it.
    value: int | list[str]  # The label of one answer (MultiRC), or all right answers (ReCoRD).


def to_text(text: str, **unused) -> str:
    """Text as it is, without outer spaces."""
    return text.strip()


def to_int(text: str, **unused) -> int:
    """The label, or -1 for text that is no whole number of at most 63 bits.

    >>> to_int(" 1"), to_int("yes"), to_int("9" * 20)
    (1, -1, -1)
    """
    try:
        value = int(text)
    except ValueError:
        return INVALID
    # Metrics put labels into arrays; a larger one would make floats or objects of them all.
    return value if value.bit_length() < 64 else INVALID


def to_float(text: str, is_target: bool = False, **unused) -> float:
    """The score, or -1.0 for text that is no finite number.

    >>> to_float("3.8"), to_float("3.8.8"), to_float("nan")
    (3.8, -1.0, -1.0)

    Raises:
        ValueError: a target is no finite number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    if is_target:
        raise _unknown_target(text, "a finite number")
    return float(INVALID)


def to_label(text: str, labels: Sequence[str], is_target: bool = False, **unused) -> int:
    """The index of a label in `labels`, or -1 for other text.

    >>> to_label("yes", ("no", "yes")), to_label("Yes", ("no", "yes"))
    (1, -1)

    Raises:
        ValueError: a target is none of them.
    """
    if text in labels:
        return labels.index(text)
    if is_target:
        raise _unknown_target(text, f"one of {tuple(labels)}")
    return INVALID


def multirc(
    text: str, example: Mapping[str, Any] | None = None, is_target: bool = False, **unused
) -> int | Grouped:
    """MultiRC's label: 1 for "True", 0 for "False", -1 for other text; of a target with its group.

    >>> multirc("True"), multirc("False", {"group": [3, 7]}, is_target=True)
    (1, Grouped(group=(3, 7), value=0))

    Raises:
        ValueError: a target is neither.
    """
    label = to_label(text, ("False", "True"), is_target)
    return Grouped(_group(example), label) if is_target else label


def record(
    text: str, example: Mapping[str, Any] | None = None, is_target: bool = False, **unused
) -> str | Grouped:
    """ReCoRD's prediction as it is; of a target all right answers with their group.

    >>> record("Bob", {"answers": [b"Ann", b"Bob"], "group": [3, 7]}, is_target=True)
    Grouped(group=(3, 7), value=['Ann', 'Bob'])

    Raises:
        ValueError: a target has no right answer.
    """
    if not is_target:
        return text
    answers = [answer.decode() for answer in example["answers"]]
    if not answers:
        raise _unknown_target(text, "an answer")
    return Grouped(_group(example), answers)


def wsc(text: str, example: Mapping[str, Any], is_target: bool = False, **unused) -> int:
    """Whether a text names the record's candidate: 1 or 0, or -1 if it names nothing.

    >>> example = {"targets_pretokenized": b"the fuzzy bunny", "label": 1}
    >>> wsc("Bunny", example), wsc("a cat", example), wsc("the", example)
    (1, 0, -1)

    All words of one must be among the other's, without determiners and capitals, and both or none
    have an apostrophe: "Bob" is not "Bob's hat". For a target this is the record's own label.

    Raises:
        ValueError: a target's label is neither 0 nor 1.
    """
    if is_target:
        if example["label"] not in (0, 1):
            raise _unknown_target(example["label"], "0 or 1")
        return int(example["label"])
    candidate = example["targets_pretokenized"].decode()
    named, wanted = (set(side.lower().split()) - DETERMINERS for side in (text, candidate))
    if not named:
        return INVALID
    agree = any("'" in word for word in named) == any("'" in word for word in wanted)
    return int(agree and (named <= wanted or wanted <= named))


def _group(example: Mapping[str, Any]) -> tuple[int, int]:
    return tuple(int(number) for number in example["group"])


def _unknown_target(value: object, wanted: str) -> ValueError:
    return ValueError(
        f"A target that is scored must be {wanted}; got {value!r}. The labels of GLUE's and "
        "SuperGLUE's test splits are secret: evaluate their validation split, and predict test "
        "with `hyperdecoders infer`."
    )
