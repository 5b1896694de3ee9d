"""Windows hold what they should, tokens their characters, and every token is in a window."""

import pytest
import seqio
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from hyperdecoders_jax.data import vocabulary as vocabularies
from hyperdecoders_jax.data import windows

DEMO = vocabularies.load_vocabulary(vocabularies.DEMO_VOCABULARY_PATH)
BYTES = seqio.ByteVocabulary()


def to_lists(*tensors):
    return tuple(tensor.numpy().tolist() for tensor in tensors)


def windows_of_the_original(num_tokens, room, overlap):
    """What is left is cut again and again, until it fits."""
    rest, result = list(range(num_tokens)), []
    while rest:
        result.append(rest[:room])
        rest = [] if len(rest) <= room else rest[room - overlap :]
    return result


def test_a_context_of_2144_tokens_is_cut_as_the_original_cuts_it():
    begins, ends = to_lists(*windows.bounds(2144, 512 - 10 - 1, 128))
    assert begins == [0, 373, 746, 1119, 1492, 1865]
    lengths = [10 + end - begin + 1 for begin, end in zip(begins, ends, strict=True)]
    assert lengths == [512, 512, 512, 512, 512, 290]


@given(num_tokens=st.integers(1, 60), overlap=st.integers(0, 5), more=st.integers(1, 9))
def test_windows_are_the_originals(num_tokens, overlap, more):
    begins, ends = to_lists(*windows.bounds(num_tokens, overlap + more, overlap))
    ours = [list(range(*place)) for place in zip(begins, ends, strict=True)]
    assert ours == windows_of_the_original(num_tokens, overlap + more, overlap)


def test_an_empty_context_has_one_empty_window():
    begins, ends = windows.bounds(0, 20, 4)
    assert to_lists(begins, ends) == ([0], [0])
    context = windows.tokenize(tf.constant(""), DEMO)
    assert to_lists(*windows.characters(context, begins, ends)) == ([0], [0])


@pytest.mark.parametrize("vocabulary", [DEMO, BYTES], ids=["pieces", "bytes"])
@pytest.mark.parametrize("text", ["The cat sat.", "naïve über-cats “sat” 日本 😀 here…", "½ ﬁ x"])
def test_the_characters_of_all_tokens_are_the_text(vocabulary, text):
    tokens = windows.tokenize(tf.constant(text), vocabulary)
    ids, starts, ends = to_lists(*tokens)
    assert ids == list(vocabulary.encode(text))
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    covered = set().union(*map(range, starts, ends))
    assert covered == set(range(len(text)))
    whole = to_lists(*windows.characters(tokens, [0], [len(ids)]))
    assert whole == ([0], [len(text)])


def test_the_space_before_a_word_belongs_to_it():
    tokens = windows.tokenize(tf.constant("é dog"), BYTES)
    assert to_lists(*tokens[1:]) == ([0, 0, 1, 2, 3, 4], [1, 1, 2, 3, 4, 5])
    ids, starts, ends = to_lists(*windows.tokenize(tf.constant("the dog"), DEMO))
    word = DEMO.encode("dog")[0]
    assert (starts[ids.index(word)], ends[-1]) == (3, 7)


def test_a_run_vocabulary_is_looked_up():
    vocabularies.set_run_vocabulary(BYTES)
    tokens = windows.tokenize(tf.constant("ab"), vocabularies.RUN_VOCABULARY)
    vocabularies.set_run_vocabulary(None)
    assert to_lists(*tokens) == ([100, 101], [0, 1], [1, 2])


def test_a_vocabulary_without_places_is_refused():
    with pytest.raises(TypeError, match=r"where in a text.*got PassThrough.*Make it with"):
        windows.tokenize(tf.constant("a"), seqio.PassThroughVocabulary(size=9))


def test_a_last_space_is_a_token():
    space = DEMO.tokenizer.PieceToId("▁")
    assert windows.encode_with_last_space(tf.constant("to: "), DEMO).numpy().tolist() == [
        *DEMO.encode("to:"),
        space,
    ]
    ids = windows.encode_with_last_space(tf.constant("to: "), BYTES)
    assert ids.numpy().tolist() == BYTES.encode("to: ")


def test_the_first_place_that_a_window_holds_counts():
    held = windows.first_held([0, 9, 50], [5, 20, 60], starts=[10, 3, 12], lasts=[12, 4, 13])
    assert held.numpy().tolist() == [1, 0, 3]


def test_a_last_character_just_outside_counts_and_one_further_does_not():
    assert windows.first_held([0], [5], starts=[3], lasts=[5]).numpy().tolist() == [0]
    assert windows.first_held([0], [5], starts=[3], lasts=[6]).numpy().tolist() == [1]
    assert windows.first_held([4], [9], starts=[3], lasts=[6]).numpy().tolist() == [1]


def test_without_places_no_window_holds_any():
    held = windows.first_held([0, 3], [5, 8], tf.zeros([0], tf.int32), tf.zeros([0], tf.int32))
    assert held.numpy().tolist() == [0, 0]


def fit(head, num_tokens, **kwargs):
    return windows.fit_prefix(
        tf.range(head), tf.constant([77, 88]), tf.constant(num_tokens), tf.constant("q7"), **kwargs
    )


def test_a_prefix_that_leaves_more_than_the_overlap_stays_whole():
    assert fit(5, 99, length=12, overlap=3).numpy().tolist() == [0, 1, 2, 3, 4, 77, 88]


def test_a_long_prefix_does_no_harm_where_the_whole_context_fits():
    assert len(fit(6, 3, length=12, overlap=3)) == 8


@pytest.mark.parametrize(
    ("head", "num_tokens", "room"), [(6, 4, 3), (12, 0, -3), (700, 2000, -691)]
)
def test_a_question_that_leaves_too_little_room_is_named(head, num_tokens, room):
    message = (
        rf"windows of 12 tokens more than the 3 .*the question q7 leaves {room} for {num_tokens} "
        r"of its context\. Shorten it, .*be cut: MIXTURE_OR_TASK_NAME = @mrqa.mixture\(\), mrqa"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        fit(head, num_tokens, length=12, overlap=3)


@pytest.mark.parametrize("head", [6, 700])
def test_a_long_question_is_cut_if_that_is_allowed(head):
    prefix = fit(head, 2000, length=12, overlap=3, is_cut_allowed=True)
    assert prefix.numpy().tolist() == [0, 1, 2, 77, 88]  # Leaves 6 tokens, 3 of them new.
    short = fit(5, 2000, length=12, overlap=3, is_cut_allowed=True)
    assert len(short) == 7


def test_windows_that_are_too_short_for_any_question_are_told():
    # Shorter ones hold less than the two tokens after the question, EOS, and a token of their own.
    assert fit(9, 50, length=7, overlap=3, is_cut_allowed=True).numpy().tolist() == [77, 88]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"of 6 .* q7 leaves 3 for 50"):
        fit(9, 50, length=6, overlap=3, is_cut_allowed=True)
