"""Span corruption: nothing is lost, the lengths fit, a seed fixes everything."""

import numpy as np
import pytest
import seqio
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdecoders_jax.tasks import preprocessors

FEATURES = dict.fromkeys(("inputs", "targets"), seqio.Feature(seqio.ByteVocabulary(125)))
TOP_ID = 383


def corrupt(num_tokens, inputs_len, seed=0, **arguments):
    """Corrupts the ids 3, 4, 5, … given as texts of unequal length."""
    ids = np.arange(3, 3 + num_tokens, dtype=np.int32) % 200 + 3
    texts = np.array_split(ids, max(num_tokens // 7, 1))
    dataset = tf.data.Dataset.from_generator(
        lambda: ({"targets": text} for text in texts),
        output_signature={"targets": tf.TensorSpec([None], tf.int32)},
    )
    with seqio.map_seed_manager(seed):
        dataset = preprocessors.corrupt_spans(
            dataset, {"inputs": inputs_len, "targets": 99}, FEATURES, **arguments
        )
    return ids, list(dataset.as_numpy_iterator())


def restore(example):
    """Puts each span of the targets where its sentinel stands in the inputs."""
    spans, sentinel = {}, None
    for token in example["targets"].tolist():
        if token > TOP_ID - 125:
            sentinel = token
            spans[sentinel] = []
        else:
            spans[sentinel].append(token)
    restored = []
    for token in example["inputs"].tolist():
        restored += spans.pop(token, [token])
    assert not spans
    return restored


@settings(max_examples=8, deadline=None)
@given(
    inputs_len=st.integers(4, 70),
    seed=st.integers(0, 999),
    noise_density=st.sampled_from([0.1, 0.15, 0.5, 0.9]),
    mean_span_len=st.sampled_from([1.0, 3.0, 5.0]),
)
def test_inputs_and_targets_interleave_to_the_text(inputs_len, seed, noise_density, mean_span_len):
    ids, examples = corrupt(
        400, inputs_len, seed, noise_density=noise_density, mean_span_len=mean_span_len
    )
    restored = [token for example in examples for token in restore(example)]
    assert restored == ids[: len(restored)].tolist()
    assert len(ids) - len(restored) < len(restored) / len(examples)


def test_inputs_and_their_eos_fill_the_length():
    _, examples = corrupt(500, inputs_len=64)
    assert {len(example["inputs"]) for example in examples} == {63}


def test_the_share_and_the_number_of_spans_are_t5s():
    # 70 tokens: round(10.5) = 10 are replaced in round(10 / 3) = 3 spans; 70 - 10 + 3 + 1 = 64.
    _, examples = corrupt(500, inputs_len=64)
    for example in examples:
        assert len(example["targets"]) == 10 + 3
        assert [token for token in example["inputs"] if token > 300] == [383, 382, 381]


def test_spans_stand_anywhere_also_at_both_ends():
    _, examples = corrupt(9000, inputs_len=9)
    places = {int(np.argmax(example["inputs"] == TOP_ID)) for example in examples}
    assert places == set(range(8))


def test_a_seed_fixes_the_spans_and_another_changes_them():
    first, again, other = (corrupt(500, 64, seed)[1] for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one["inputs"], two["inputs"])
    assert any(
        one["inputs"].tolist() != two["inputs"].tolist()
        for one, two in zip(first, other, strict=True)
    )


@pytest.mark.parametrize(
    "arguments",
    [{"noise_density": 0.0}, {"noise_density": 1.0}, {"mean_span_len": 0.5}, {"inputs_len": 3}],
)
def test_noise_that_leaves_nothing_is_refused(arguments):
    with pytest.raises(ValueError, match=r"noise density in \(0, 1\).*T5's are 0\.15"):
        corrupt(100, **{"inputs_len": 20, **arguments})


def test_infilling_restores_the_whole_text():
    ids, examples = corrupt(300, 32, noise_density=0.3, targets="text")
    for number, example in enumerate(examples):
        window = example["targets"].tolist()
        assert window == ids[number * len(window) :][: len(window)].tolist()
        kept = [token for token in example["inputs"].tolist() if token <= TOP_ID - 125]
        assert len(kept) == round(0.7 * len(window))
        remaining = iter(window)
        assert all(token in remaining for token in kept), "the same tokens in the same order"


def test_targets_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"must be 'spans' .* got 'noise'\. Choose one where"):
        corrupt(100, 32, targets="noise")


def test_more_spans_than_sentinels_are_refused():
    with pytest.raises(ValueError, match=r"got \d+ spans and 125 sentinels\. Load the vocab"):
        corrupt(100, inputs_len=900, noise_density=0.5)


def test_a_text_is_corrupted_anew_in_every_epoch():
    dataset = tf.data.Dataset.from_tensors({"targets": tf.range(3, 73)}).repeat(2)
    with seqio.map_seed_manager(0):
        dataset = preprocessors.corrupt_spans(dataset, {"inputs": 64}, FEATURES)
    one, two = dataset.as_numpy_iterator()
    assert one["inputs"].tolist() != two["inputs"].tolist()


@given(total=st.integers(2, 40), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_partition_has_positive_parts_that_sum_to_the_total(total, seed, data):
    num_parts = data.draw(st.integers(1, total))
    parts = preprocessors.random_partition(total, num_parts, (0, seed)).numpy()
    assert len(parts) == num_parts
    assert parts.min() >= 1
    assert parts.sum() == total


def test_every_partition_comes_up():
    seen = {tuple(preprocessors.random_partition(4, 2, (0, seed)).numpy()) for seed in range(60)}
    assert seen == {(1, 3), (2, 2), (3, 1)}


def test_fields_are_joined_with_their_names():
    example = {"premise": tf.constant("A b."), "hypothesis": tf.constant("C?")}
    text = preprocessors.join_fields("mnli", example, "premise", "hypothesis")
    assert text.numpy() == b"mnli premise: A b. hypothesis: C?"


@pytest.mark.parametrize("length", [5, 9])
def test_what_is_too_long_keeps_its_eos(length):
    dataset = tf.data.Dataset.from_tensors({"inputs": "a long text", "targets": "b"})
    features = dict.fromkeys(FEATURES, seqio.Feature(seqio.ByteVocabulary(), add_eos=True))
    _, tokenize, append_eos = preprocessors.TOKENIZE
    dataset = append_eos(tokenize(dataset, features), features, {"inputs": length, "targets": 4})
    [example] = dataset.as_numpy_iterator()
    assert len(example["inputs"]) == length
    assert example["inputs"][-1] == 1
