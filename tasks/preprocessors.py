"""Preprocessors that tasks share.

A task's first step renders its record as text, its last are `TOKENIZE`. Pretraining has one step
more, T5's span corruption.
"""

import functools
from collections.abc import Mapping, Sequence

import seqio
import tensorflow as tf

# Text to ids that end in EOS; what is too long loses its end but not its EOS, as in the original.
# A cache holds what comes before: text, which serves every vocabulary and every length.
TOKENIZE = (
    seqio.CacheDatasetPlaceholder(),
    seqio.preprocessors.tokenize,
    seqio.preprocessors.append_eos_after_trim,
)

# What T5 writes for a target that it does not know: the secret labels of a test split.
UNKNOWN = "<unk>"


def join_fields(prefix: str, example: Mapping[str, tf.Tensor], *names: str) -> tf.Tensor:
    """The text form of the original: the task's name, then each field's name and value.

    >>> join_fields("rte", {"sentence1": "It rains.", "sentence2": "It pours."}, "sentence1",
    ...             "sentence2").numpy()
    b'rte sentence1: It rains. sentence2: It pours.'
    """
    pieces = [prefix]
    for name in names:
        pieces += [f"{name}:", example[name]]
    return tf.strings.join(pieces, separator=" ")


def label_name(labels: Sequence[str], number: tf.Tensor) -> tf.Tensor:
    """A label in words; "<unk>" for -1, which stands for a label that is secret.

    >>> label_name(("no", "yes"), 1).numpy(), label_name(("no", "yes"), -1).numpy()
    (b'yes', b'<unk>')
    """
    return tf.gather([UNKNOWN, *labels], number + 1)


def with_label(inputs: tf.Tensor, example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """An example whose target is the number of the record's label."""
    return {"inputs": inputs, "targets": tf.strings.as_string(example["label"])}


def with_label_name(
    inputs: tf.Tensor, labels: Sequence[str], example: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """An example whose target is the record's label in words."""
    return {"inputs": inputs, "targets": label_name(labels, example["label"])}


def corrupt_spans(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int] | None,
    output_features: Mapping[str, seqio.Feature],
    noise_density: float = 0.15,
    mean_span_len: float = 3.0,
    targets: str = "spans",
) -> tf.data.Dataset:
    """Turns tokenised `targets` into pretraining examples, by default by T5's span corruption.

    The texts are joined and cut into windows that fill `sequence_length["inputs"]` once corrupted,
    EOS included. In each window, random spans are replaced by one sentinel each in `inputs`;
    `targets` holds each sentinel followed by its span, or else the window:

        window                    the cat sat on the mat
        inputs                    the <extra_id_0> on the <extra_id_1>
        targets, if "spans"       <extra_id_0> cat sat <extra_id_1> mat
        targets, if "text"        the cat sat on the mat

    Sentinels count down from the top of the vocabulary. A span may stand at either end of a window
    (T5's own code always ends in one).

    Args:
        dataset: examples with `targets` without EOS.
        sequence_length: inputs' tokens per example; None takes 512 as T5 did.
        output_features: names the vocabulary.
        noise_density: share of tokens that are replaced, in (0, 1).
        mean_span_len: mean tokens per span, at least 1.
        targets: "spans" is T5's objective, "text" is BART's text infilling.

    Raises:
        ValueError: the noise leaves nothing, or there are fewer sentinels than spans.

    Source: Raffel et al. 2020 (arXiv:1910.10683), section 3.1.4; for "text" Lewis et al. 2020
    (arXiv:1910.13461), section 2.2.
    """
    inputs_len = (sequence_length or {}).get("inputs") or 512
    if targets not in ("spans", "text"):
        raise ValueError(
            "The targets of span corruption must be 'spans' (T5) or 'text' (BART's infilling); got "
            f"{targets!r}. Choose one where the task is registered."
        )
    if not 0 < noise_density < 1 or mean_span_len < 1 or inputs_len < 4:
        raise ValueError(
            "Span corruption needs a noise density in (0, 1), spans of at least 1 token and inputs "
            f"of at least 4; got {noise_density}, {mean_span_len} and {inputs_len}. T5's are 0.15, "
            "3 and 512."
        )
    window_len = _window_len(inputs_len, noise_density, mean_span_len)
    num_noise, num_spans = _span_counts(window_len, noise_density, mean_span_len)
    vocabulary = output_features["inputs"].vocabulary
    if vocabulary.extra_ids < num_spans:
        raise ValueError(
            f"Span corruption needs a sentinel for each span; got {num_spans} spans and "
            f"{vocabulary.extra_ids} sentinels. Load the vocabulary with more extra_ids, or choose "
            "shorter inputs."
        )

    @seqio.map_over_dataset(num_seeds=2)
    def corrupt(tokens: tf.Tensor, seeds: tf.Tensor) -> dict[str, tf.Tensor]:
        # Both ends get one token more, which is taken away again: the ends alone may be empty.
        kept = random_partition(window_len - num_noise + 2, num_spans + 1, seeds[0])
        kept -= tf.scatter_nd([[0], [num_spans]], [1, 1], [num_spans + 1])
        noise = random_partition(num_noise, num_spans, seeds[1])
        example = replace_spans(tokens, kept, noise, vocabulary.vocab_size - 1)
        return example if targets == "spans" else {**example, "targets": tokens}

    dataset = dataset.map(lambda example: example["targets"])
    return corrupt(dataset.rebatch(window_len, drop_remainder=True))


def replace_spans(
    tokens: tf.Tensor, kept: tf.Tensor, noise: tf.Tensor, top_id: int
) -> dict[str, tf.Tensor]:
    """Moves spans from the inputs to the targets and leaves a sentinel in both.

    >>> example = replace_spans([5, 6, 7, 8], kept=[1, 1, 0], noise=[1, 1], top_id=99)
    >>> example["inputs"].numpy().tolist(), example["targets"].numpy().tolist()
    ([5, 99, 7, 98], [99, 6, 98, 8])

    Args:
        tokens: [length] ids.
        kept: [spans + 1] lengths of what stays before, between and after the spans.
        noise: [spans] lengths of the spans.
        top_id: the first sentinel; the next are one less each.
    """
    noise = tf.convert_to_tensor(noise)
    num_spans = noise.shape[0]
    lengths = tf.concat([noise, [0]], 0)
    pieces = tf.RaggedTensor.from_row_lengths(
        tokens, tf.reshape(tf.stack([kept, lengths], 1), [-1])
    )
    kept_pieces, spans = pieces[0::2], pieces[1::2]
    sentinels = top_id - tf.range(num_spans)[:, None]
    inputs = tf.concat([kept_pieces[:-1], sentinels], 1).flat_values
    return {
        "inputs": tf.concat([inputs, kept_pieces[-1]], 0),
        "targets": tf.concat([sentinels, spans[:-1]], 1).flat_values,
    }


def random_partition(total: int, num_parts: int, seed: tf.Tensor) -> tf.Tensor:
    """Divides `total` into `num_parts` positive parts, each division equally likely.

    >>> int(sum(random_partition(10, 4, (0, 1))))
    10
    """
    # A random order of the gaps between units; the first of them are cut.
    ranks = tf.random.stateless_uniform([total - 1], seed)
    cuts = tf.sort(tf.argsort(ranks)[: num_parts - 1]) + 1
    return tf.concat([cuts, [total]], 0) - tf.concat([[0], cuts], 0)


def _span_counts(length: int, noise_density: float, mean_span_len: float) -> tuple[int, int]:
    num_noise = min(max(round(length * noise_density), 1), length - 1)
    num_spans = max(round(num_noise / mean_span_len), 1)
    return num_noise, min(num_spans, length - num_noise + 1)


@functools.cache
def _window_len(inputs_len: int, noise_density: float, mean_span_len: float) -> int:
    """The longest window whose corrupted inputs and EOS fit into `inputs_len`."""

    def corrupted_len(length: int) -> int:
        num_noise, num_spans = _span_counts(length, noise_density, mean_span_len)
        return length - num_noise + num_spans + 1

    length = 2
    while corrupted_len(length + 1) <= inputs_len:
        length += 1
    return length
