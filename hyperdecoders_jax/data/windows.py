"""Windows of a long text's tokens, which overlap, and what each of them holds.

A context that does not fit beside its question is cut into windows. Each is an example of its own:
the model answers from each, or says nothing, and `best_window` picks one.

    question, "context:" and the context's tokens   0 1 2 3 4 5 6 7 8 9
    the first window                                0 1 2 3 4
    the second, which shares two with it                  3 4 5 6 7
    the last                                                    6 7 8 9

All is TensorFlow, for `tf.data` pipelines. Source: allenai/hyperdecoders, `mrqa_preprocess.py`.
"""

from typing import NamedTuple

import seqio
import tensorflow as tf

WINDOW_LEN, OVERLAP_LEN = 512, 128


class Tokens(NamedTuple):
    """Ids of a text and each one's characters, `text[start:end]`, with any space before it."""

    ids: tf.Tensor  # int32 [length]
    starts: tf.Tensor  # int32 [length]
    ends: tf.Tensor  # int32 [length]


def tokenize(text: tf.Tensor, vocabulary: seqio.Vocabulary) -> Tokens:
    """Ids of a text, and the characters of each.

    >>> tokens = tokenize(tf.constant("né"), seqio.ByteVocabulary())
    >>> [values.numpy().tolist() for values in tokens]
    [[113, 198, 172], [0, 1, 1], [1, 2, 2]]

    SentencePiece's ids and offsets are those of the fast tokeniser that the original uses, except:
    spaces at either end of a text and special tokens such as "</s>" are no tokens of their own; of
    pieces equally likely ("x xx", "xx x") it may choose others; all of several spaces belong to the
    next word, and one character that becomes several pieces ("½") to the last. Raises TypeError for
    a vocabulary that is neither of SentencePiece nor of bytes.
    """
    vocabulary = _current(vocabulary)
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        ids, starts, ends = vocabulary.tf_tokenizer.tokenize_with_offsets(text)
    elif isinstance(vocabulary, seqio.ByteVocabulary):
        ids = vocabulary.encode_tf(text)
        starts = tf.range(tf.size(ids))
        ends = starts + 1
    else:
        raise TypeError(
            "Windows need a vocabulary that tells where in a text its tokens are; got "
            f"{type(vocabulary).__name__}. Make it with vocabulary.load_vocabulary."
        )
    # Both count bytes, data sets count characters.
    characters = tf.strings.unicode_decode_with_offsets(text, "UTF-8")[1]
    starts = tf.searchsorted(characters, tf.cast(starts, tf.int64), side="right") - 1
    ends = tf.searchsorted(characters, tf.cast(ends, tf.int64), side="left")
    return Tokens(ids, starts, ends)


def encode_with_last_space(text: tf.Tensor, vocabulary: seqio.Vocabulary) -> tf.Tensor:
    """Ids of a text with its last space, which SentencePiece drops: T5's id 3, if any."""
    vocabulary = _current(vocabulary)
    ids = vocabulary.encode_tf(text)
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        space = vocabulary.tokenizer.PieceToId("▁")
        if space != vocabulary.unk_id:
            return tf.concat([ids, [space]], 0)
    return ids


def fit_prefix(
    head: tf.Tensor,
    tail: tf.Tensor,
    num_tokens: tf.Tensor,
    name: tf.Tensor,
    length: int = WINDOW_LEN,
    overlap: int = OVERLAP_LEN,
    is_cut_allowed: bool = False,
) -> tf.Tensor:
    """The beginning of every window: ids of a question (`head`) and what follows it (`tail`).

    Without more room than the overlap no window would get beyond the one before. (The original then
    makes windows for ever.) If `num_tokens` of context don't fit either, running this raises
    tf.errors.InvalidArgumentError with the question's `name`. `length` is of a window, with this
    prefix and EOS; neighbours share `overlap` tokens of context. `is_cut_allowed` cuts the end of a
    head that is too long, so that each window has `overlap` tokens of its own, instead of raising,
    unless windows are too short for any.
    """

    def is_too_long(room: tf.Tensor) -> tf.Tensor:
        return (room <= overlap) & (num_tokens > room)

    room = length - 1 - tf.size(head) - tf.size(tail)
    if is_cut_allowed:
        most = tf.maximum(length - 1 - tf.size(tail) - 2 * overlap, 0)
        head = head[: tf.where(is_too_long(room), most, tf.size(head))]
        room = length - 1 - tf.size(head) - tf.size(tail)
    message = (
        f"A question must leave windows of {length} tokens more than the {overlap} that they "
        "share; the question ", name, " leaves ", tf.strings.as_string(room), " for ",
        tf.strings.as_string(num_tokens), " of its context. Shorten it, read longer inputs, or "
        "let such questions be cut: MIXTURE_OR_TASK_NAME = @mrqa.mixture(), "
        "mrqa.mixture.cut_long_questions = True.",
    )  # fmt: skip
    check = tf.debugging.Assert(~is_too_long(room), [tf.strings.join(message)])
    # A control dependency: else a later step may fail first, with an error that helps less.
    with tf.control_dependencies([check]):
        head = tf.identity(head)
    return tf.concat([head, tail], 0)


def bounds(num_tokens: tf.Tensor, room: tf.Tensor, overlap: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Where windows begin and end in a context, counted in tokens.

    >>> begins, ends = bounds(10, room=5, overlap=2)
    >>> begins.numpy().tolist(), ends.numpy().tolist()
    ([0, 3, 6], [5, 8, 10])

    A context without tokens has one window, which is empty: its question is still asked. `room` is
    the most tokens of a window: more than `overlap`, or not fewer than the context has.
    """
    step = tf.maximum(room - overlap, 1)
    num_more = tf.maximum(-((room - num_tokens) // step), 0)  # Rounded up.
    begins = tf.range(1 + num_more) * step
    return begins, tf.minimum(begins + room, num_tokens)


def characters(context: Tokens, begins: tf.Tensor, ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where windows begin and end in a context, counted in characters.

    >>> context = tokenize(tf.constant("née"), seqio.ByteVocabulary())  # Four bytes.
    >>> starts, ends = characters(context, begins=[0, 3], ends=[3, 4])
    >>> starts.numpy().tolist(), ends.numpy().tolist()
    ([0, 2], [2, 3])
    """
    # For the window of an empty context.
    starts = tf.gather(tf.concat([context.starts, [0]], 0), begins)
    return starts, tf.gather(tf.concat([[0], context.ends], 0), ends)


def first_held(
    window_starts: tf.Tensor, window_ends: tf.Tensor, starts: tf.Tensor, lasts: tf.Tensor
) -> tf.Tensor:
    """For each window the index of the first span that lies in it; if none, the number of spans.

    >>> first_held([0, 9], [5, 20], starts=[10, 3], lasts=[12, 3]).numpy().tolist()
    [1, 0]
    >>> first_held([0, 9], [5, 20], starts=[3, 7], lasts=[5, 9]).numpy().tolist()
    [0, 2]

    All are characters, `window_ends` the ones after a window's last; spans are in the order of
    preference. In the second example the first window ends before character 5, the last of the
    first span, and yet holds it: a kept bug of the original, which takes a span's last for its end.
    """
    begins, ends = map(tf.convert_to_tensor, (window_starts, window_ends))
    is_held = (starts >= begins[:, None]) & (lasts <= ends[:, None])
    # The padding is True, so that argmax (the first of equals) gives it where no span is held.
    return tf.argmax(tf.pad(is_held, [[0, 0], [0, 1]], constant_values=True), axis=1)


def _current(vocabulary: seqio.Vocabulary) -> seqio.Vocabulary:
    return getattr(vocabulary, "current", vocabulary)  # Of the run's vocabulary.
