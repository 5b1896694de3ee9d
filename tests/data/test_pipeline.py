import dataclasses
import functools
import itertools
import json
import threading
import time

import numpy as np
import pytest
import seqio
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdecoders_jax.data import mixtures, pipeline
from hyperdecoders_jax.training import checkpoint
from tests.data.conftest import _make_task

LENGTHS = {"inputs": 8, "targets": 3}
FIELDS = (
    "encoder_input_tokens",
    "decoder_input_tokens",
    "decoder_target_tokens",
    "decoder_loss_weights",
    "task_ids",
)


def mixture_of(*sizes_and_rates, **kwargs):
    tasks = [
        (_make_task(chr(ord("a") + i), size, **kwargs), rate)
        for i, (size, rate) in enumerate(sizes_and_rates)
    ]
    return seqio.Mixture("m", tasks)


def config_of(provider, **kwargs):
    return pipeline.PipelineConfig(provider, LENGTHS, **{"batch_size": 4, **kwargs})


# One task is streamed through a buffer that is smaller than it, two are kept in memory.
def three_tasks(**kwargs):
    mixture = mixture_of((3, 1), (7, 2), (40, 3))
    return config_of(mixture, shuffle_buffer_size=10, examples_per_turn=20, **kwargs)


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(batch, field), getattr(other, field))


def texts(batches):
    vocabulary = seqio.ByteVocabulary()
    return [
        vocabulary.decode([int(i) for i in row])
        for batch in batches
        for row in batch.encoder_input_tokens
    ]


def test_a_batch_has_the_five_fields_padded_to_their_lengths():
    with pipeline.TrainIterator(config_of(mixture_of((5, 1)), batch_size=6)) as iterator:
        batch = next(iterator)
    shapes = {field: getattr(batch, field).shape for field in FIELDS}
    assert shapes == {
        "encoder_input_tokens": (6, 8),
        "decoder_input_tokens": (6, 3),
        "decoder_target_tokens": (6, 3),
        "decoder_loss_weights": (6, 3),
        "task_ids": (6,),
    }
    assert {getattr(batch, field).dtype for field in FIELDS} == {np.dtype(np.int32)}
    np.testing.assert_array_equal(batch.decoder_target_tokens[:, 1:], [[1, 0]] * 6)
    np.testing.assert_array_equal(batch.decoder_loss_weights, [[1, 1, 0]] * 6)


def test_two_iterators_of_one_seed_are_equal_and_of_two_seeds_are_not():
    runs = []
    for seed in (5, 5, 6):
        with pipeline.TrainIterator(three_tasks(seed=seed)) as iterator:
            runs.append(take(iterator, 12))
    assert_same(runs[0], runs[1])
    assert texts(runs[0]) != texts(runs[2])


@functools.cache
def unbroken_run(shuffle):
    """Batches, and as JSON the position after each."""
    with pipeline.TrainIterator(three_tasks(shuffle=shuffle)) as iterator:
        positions, batches = [json.dumps(iterator.position())], []
        for batch in itertools.islice(iterator, 36):
            batches.append(batch)
            positions.append(json.dumps(iterator.position()))
    return batches, positions


@settings(max_examples=8, deadline=None)
@given(stop=st.integers(0, 30), shuffle=st.booleans())
def test_resuming_anywhere_equals_an_unbroken_run(stop, shuffle):
    batches, positions = unbroken_run(shuffle)
    with pipeline.TrainIterator(three_tasks(shuffle=shuffle)) as resumed:
        resumed.restore(json.loads(positions[stop]))
        assert json.dumps(resumed.position()) == positions[stop]
        assert_same(batches[stop : stop + 6], take(resumed, 6))


def test_restoring_rewinds_an_iterator_that_has_read_on():
    with pipeline.TrainIterator(three_tasks()) as iterator:
        take(iterator, 3)
        position = iterator.position()
        once = take(iterator, 6)
        iterator.restore(position)
        assert_same(once, take(iterator, 6))


@pytest.mark.parametrize("size", [7, 24])
def test_every_epoch_has_each_example_once_in_another_order(size):
    config = config_of(mixture_of((size, 1)), batch_size=size, shuffle_buffer_size=10)
    with pipeline.TrainIterator(config) as iterator:
        epochs = [texts([batch]) for batch in take(iterator, 4)]
    expected = sorted(f"a {i}" for i in range(size))
    assert all(sorted(epoch) == expected for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_without_shuffling_examples_come_in_their_order():
    config = config_of(mixture_of((6, 1)), batch_size=4, shuffle=False)
    with pipeline.TrainIterator(config) as iterator:
        assert texts(take(iterator, 3)) == [f"a {i % 6}" for i in range(12)]


def test_random_preprocessing_is_drawn_anew_each_turn_and_is_reproducible():
    @seqio.map_over_dataset(num_seeds=1)
    def draw(example, seed):
        number = tf.random.stateless_uniform([], seed, 0, 1000, tf.int32)
        return {**example, "inputs": tf.strings.as_string(number)}

    config = config_of(_make_task("a", 4, preprocessors=[draw]), examples_per_turn=0, shuffle=False)
    with pipeline.TrainIterator(config) as one, pipeline.TrainIterator(config) as other:
        batches = take(one, 3)
        assert_same(batches, take(other, 3))
    assert len(set(texts(batches))) > 8


def test_the_mixture_s_rates_are_respected():
    mixture = mixture_of((4, 1), (5, 3), (6, 4))
    config = config_of(mixture, batch_size=500, task_names=["c", "b", "a"])
    with pipeline.TrainIterator(config) as iterator:
        ids = np.concatenate([batch.task_ids for batch in take(iterator, 16)])
    shares = np.bincount(ids) / len(ids)
    # 8000 draws: a standard deviation of at most 0.0056.
    np.testing.assert_allclose(shares, [1 / 2, 3 / 8, 1 / 8], atol=0.025)


def test_a_task_with_rate_zero_is_never_read():
    empty = _make_task("empty", preprocessors=[lambda ds: ds.take(0)])
    mixture = seqio.Mixture("m", [(empty, 0), (_make_task("full"), 1)])
    with pipeline.TrainIterator(config_of(mixture)) as iterator:
        assert {int(i) for batch in take(iterator, 5) for i in batch.task_ids} == {1}


def test_task_ids_name_the_task_of_each_row():
    config = config_of(mixture_of((4, 1), (9, 1)), batch_size=16, task_names=["b", "x", "a"])
    with pipeline.TrainIterator(config) as iterator:
        assert iterator.task_names == ("b", "x", "a")
        batch = next(iterator)
    letters = [text[0] for text in texts([batch])]
    assert [iterator.task_names[i] for i in batch.task_ids] == letters


def test_two_processes_cover_an_epoch_without_overlap():
    config = config_of(mixture_of((11, 1)), batch_size=2, examples_per_turn=0)
    seen = []
    for index, size in ((0, 6), (1, 5)):
        with pipeline.TrainIterator(config, process_index=index, process_count=2) as iterator:
            batches = take(iterator, size)
        assert {len(batch.task_ids) for batch in batches} == {1}
        seen.append(set(texts(batches)))
        assert len(seen[-1]) == size
    assert seen[0] | seen[1] == {f"a {i}" for i in range(11)}
    assert not seen[0] & seen[1]


def test_processes_draw_different_mixtures():
    config = config_of(mixture_of((9, 1), (9, 1)), batch_size=64)
    drawn = []
    for index in range(2):
        with pipeline.TrainIterator(config, index, 2) as iterator:
            drawn.append(next(iterator).task_ids)
    assert not np.array_equal(*drawn)


@pytest.mark.parametrize(
    "append_eos", [seqio.preprocessors.append_eos, seqio.preprocessors.append_eos_after_trim]
)
def test_a_long_input_is_cut_before_its_eos_and_counted(append_eos):
    task = _make_task("a", inputs=["1234567", "12345678"], append_eos=append_eos)
    with pipeline.TrainIterator(config_of(task, batch_size=2, shuffle=False)) as iterator:
        batch = next(iterator)
        assert iterator.truncated_inputs == {"a": 1}
        next(iterator)
        assert iterator.truncated_inputs == {"a": 2}
    np.testing.assert_array_equal(*batch.encoder_input_tokens)
    assert list(batch.encoder_input_tokens[0]) == [*seqio.ByteVocabulary().encode("1234567"), 1]


@pytest.mark.parametrize(
    "append_eos", [seqio.preprocessors.append_eos, seqio.preprocessors.append_eos_after_trim]
)
def test_a_long_target_is_an_error_that_shows_the_example(append_eos):
    task = _make_task("spelling", targets=["no", "yes"], inputs=["is it", "b" * 90])
    task = task.replace(preprocessors=[*task.preprocessors[:-1], append_eos])
    with (
        pipeline.TrainIterator(config_of(task)) as iterator,
        pytest.raises(ValueError, match="must fit") as error,
    ):
        next(iterator)
    message = str(error.value)
    for part in ("'spelling'", "of 4 tokens", "length of 3", "'bbbbbbb…'", "'ye…'"):
        assert part in message
    assert "{'inputs': 8, 'targets': 4}" in message
    assert "truncate_targets" in message


def test_a_long_target_may_be_cut_before_its_eos():
    task = _make_task("a", targets=["12", "1234"])
    config = config_of(task, batch_size=2, truncate_targets=True)
    with pipeline.TrainIterator(config) as iterator:
        targets = next(iterator).decoder_target_tokens
    np.testing.assert_array_equal(*targets)
    assert list(targets[0]) == [*seqio.ByteVocabulary().encode("12"), 1]


def test_a_function_without_a_seed_and_a_size_can_be_read():
    task = _make_task("a", 5, takes_seed=False, counts=False)
    with pipeline.TrainIterator(config_of(task, batch_size=5)) as iterator:
        assert sorted(texts([next(iterator)])) == [f"a {i}" for i in range(5)]


def test_an_error_in_the_thread_reaches_the_consumer_each_time():
    def fail(ds):
        return ds.map(lambda ex: {**ex, "inputs": tf.io.read_file("/does/not/exist")})

    with pipeline.TrainIterator(config_of(_make_task("a", preprocessors=[fail]))) as iterator:
        for _ in range(2):
            with pytest.raises(tf.errors.NotFoundError, match="does/not/exist"):
                next(iterator)


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name == "hyperdecoders-data"]


def test_the_thread_ends_with_its_iterator():
    before = len(reading_threads())
    iterator = pipeline.TrainIterator(config_of(mixture_of((5, 1))))
    next(iterator)
    assert len(reading_threads()) == before + 1
    del iterator
    assert len(reading_threads()) == before


def test_a_closed_iterator_cannot_be_read():
    iterator = pipeline.TrainIterator(config_of(mixture_of((5, 1))))
    next(iterator)
    iterator.close()
    iterator.close()
    with pytest.raises(RuntimeError, match=r"must be open.*closed.*Make a new one"):
        next(iterator)


def test_batches_are_ready_before_they_are_asked_for():
    with pipeline.TrainIterator(config_of(mixture_of((5, 1))), prefetch=3) as iterator:
        next(iterator)
        for _ in range(100):
            if iterator._reader._queue.full():
                break
            time.sleep(0.1)
        assert iterator._reader._queue.qsize() == 3


def test_the_position_of_another_run_is_refused():
    with pipeline.TrainIterator(config_of(mixture_of((5, 1), (5, 1)), batch_size=4)) as iterator:
        position = iterator.position()
    with (
        pipeline.TrainIterator(config_of(mixture_of((5, 1)))) as other,
        pytest.raises(ValueError, match=r"of the mixture.*\['a', 'b'\].*\['a'\].*Restore"),
    ):
        other.restore(position)
    with (
        pipeline.TrainIterator(config_of(mixture_of((5, 1), (5, 1))), 1, 2) as other,
        pytest.raises(ValueError, match=r"process_index=0.*process_index=1.*Resume with as many"),
    ):
        other.restore(position)


def test_a_run_is_not_continued_on_data_that_have_grown():
    data = pipeline.PipelineConfig("mail", {"inputs": 8, "targets": 4})
    settings = []
    for num_examples in (200, 201):
        row = mixtures.MixingRow(1.0, num_examples)
        report = {"mail": pipeline.TaskReport(row, 9, 7, 3, 0)}
        settings.append(pipeline.order_settings(data, report))
    checkpoint.check_settings(settings[0], settings[0], "here")
    with pytest.raises(ValueError, match=r"num_examples.mail is 200 there and 201 here"):
        checkpoint.check_settings(*settings, "here")


def test_a_position_past_the_end_of_the_data_is_an_error():
    with pipeline.TrainIterator(config_of(mixture_of((50, 1)), shuffle_buffer_size=5)) as iterator:
        take(iterator, 12)
        position = iterator.position()
    with pipeline.TrainIterator(config_of(mixture_of((9, 1)), shuffle_buffer_size=5)) as shrunk:
        shrunk.restore(position)
        with pytest.raises(ValueError, match=r"example 48 of turn 0.*past the end.*restore them"):
            next(shrunk)


def test_a_batch_that_does_not_divide_over_processes_is_an_error():
    with pytest.raises(ValueError, match=r"batch_size=5 for 2 processes.*multiple of 2"):
        pipeline.TrainIterator(config_of(mixture_of((5, 1)), batch_size=5), 0, 2)


def test_a_task_without_examples_is_an_error():
    empty = _make_task("hollow", preprocessors=[lambda ds: ds.take(0)])
    with (
        pipeline.TrainIterator(config_of(empty)) as iterator,
        pytest.raises(ValueError, match=r"'hollow' has none.*\(share 1 of 1\).*filters"),
    ):
        next(iterator)


@pytest.mark.parametrize("lengths", [{}, {"inputs": 4}, {"inputs": 4, "targets": 0}])
def test_lengths_must_be_given(lengths):
    with pytest.raises(ValueError, match=r"at least 1; got .*TASK_FEATURE_LENGTHS"):
        pipeline.PipelineConfig("m", lengths)


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch_size", 0), ("seed", -1), ("shuffle_buffer_size", 0), ("examples_per_turn", -1)],
)
def test_numbers_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"PipelineConfig.{field} must be .* got {value}. Set"):
        pipeline.PipelineConfig("m", LENGTHS, **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", "64x", "must be a whole number; got '64x', a str. Set batch_size"),
        ("seed", 0.5, "must be a whole number; got 0.5, a float. Set seed"),
        ("task_names", "a", r"must be a list of names; got 'a', one text. Write .*'a',"),
    ],
)
def test_values_of_another_type_are_refused(field, value, message):
    with pytest.raises(TypeError, match=f"PipelineConfig.{field} {message}"):
        pipeline.PipelineConfig("m", LENGTHS, **{field: value})


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 13), batch_size=st.integers(1, 3), process_count=st.integers(1, 3))
def test_evaluation_covers_each_example_once(size, batch_size, process_count):
    examples = pipeline.read_examples(_make_task("a", size), 2, LENGTHS, "train")
    shares = [
        list(examples.batches(batch_size * process_count, index, process_count))
        for index in range(process_count)
    ]
    assert len({len(share) for share in shares}) == 1
    seen = []
    for index, share in enumerate(shares):
        mine = []
        for item in share:
            assert item.batch.encoder_input_tokens.shape == (batch_size, 8)
            assert set(item.batch.task_ids) == {2}
            assert np.all(item.batch.encoder_input_tokens[:, 0] != 0)
            np.testing.assert_array_equal(item.batch.decoder_loss_weights.any(axis=1), item.is_real)
            mine += [t for t, real in zip(texts([item.batch]), item.is_real, strict=True) if real]
        assert mine == [f"a {i}" for i in range(index, size, process_count)]
        seen += mine
    assert sorted(seen) == sorted(f"a {i}" for i in range(size))


def test_evaluation_reads_no_more_than_asked_and_keeps_examples_whole():
    task = _make_task("a", inputs=["x" * 20] * 5, targets=["long"] * 5)
    examples = pipeline.read_examples(task, 0, LENGTHS, "train", num_examples=3)
    assert len(examples.examples) == 3
    assert len(examples.examples[0]["inputs"]) == 21
    (item,) = examples.batches(3)
    assert list(item.batch.decoder_target_tokens[0]) == [*seqio.ByteVocabulary().encode("lo"), 1]


def test_preflight_reports_what_it_saw():
    tasks = [_make_task("b", inputs=["1234567890", "12"]), _make_task("a", 30)]
    mixture = seqio.Mixture("m", tasks, default_rate=seqio.mixing_rate_num_examples)
    report = pipeline.preflight(config_of(mixture), 320, num_examples=16, budget_secs=0)
    assert list(report) == ["a", "b"]
    assert report["b"] == pipeline.TaskReport(report["b"].mixing, 2, 11, 2, 1)
    assert report["a"].num_checked == 16
    assert report["a"].mixing.rate == 30 / 32


def test_preflight_finds_a_long_target():
    with pytest.raises(ValueError, match=r"task 'a' has one of 5 tokens"):
        pipeline.preflight(config_of(_make_task("a", targets=["1", "1234"])))


def test_preflight_reads_small_tasks_whole_and_says_how_long_targets_are():
    targets = ["1"] * 700
    targets[300], targets[690] = "1234", "1234567"
    config = config_of(_make_task("a", targets=targets))
    with pytest.raises(ValueError, match=r"one of 5 tokens.* longest .* 8 tokens.*'targets': 8}"):
        pipeline.preflight(config)
    assert pipeline.preflight(config, budget_secs=0)["a"].longest_targets == 2
    allowed = dataclasses.replace(config, truncate_targets=True)
    report = pipeline.preflight(allowed)["a"]
    assert (report.num_checked, report.longest_targets) == (700, 8)


def test_preflight_reads_the_first_examples_of_a_task_of_unknown_size():
    task = _make_task("a", num_examples=90, counts=False)
    assert pipeline.preflight(config_of(task))["a"].num_checked == 64


def test_preflight_refuses_a_vocabulary_that_the_model_cannot_embed():
    with pytest.raises(ValueError, match=r"has 259 ids and the model vocab_size=200. Set --voc"):
        pipeline.preflight(config_of(_make_task("a")), vocab_size=200)


def test_preflight_refuses_a_vocabulary_of_a_smaller_model():
    config = config_of(_make_task("a"))  # Its vocabulary has 259 ids.
    with pytest.raises(ValueError, match=r"Fewer than 128 .* 259 ids .* which leaves 128. Set --v"):
        pipeline.preflight(config, vocab_size=387)
    assert pipeline.preflight(config, vocab_size=386)
    allowed = dataclasses.replace(config, is_small_vocabulary_allowed=True)
    assert pipeline.preflight(allowed, vocab_size=387)


def test_preflight_refuses_a_vocabulary_with_another_eos():
    vocabulary = seqio.PassThroughVocabulary(size=9, eos_id=5)
    features = dict.fromkeys(("inputs", "targets"), seqio.Feature(vocabulary))
    task = _make_task("a").replace(output_features=features)
    with pytest.raises(ValueError, match=r"EOS at 1.*has 0 and 5. Set --vocabulary"):
        pipeline.preflight(config_of(task), vocab_size=10)


def test_preflight_finds_a_task_without_examples_and_an_unknown_name():
    empty = _make_task("hollow", preprocessors=[lambda ds: ds.take(0)])
    with pytest.raises(ValueError, match=r"'hollow' has none"):
        pipeline.preflight(config_of(empty))
    with pytest.raises(ValueError, match=r"got 'unheard_of'"):
        pipeline.preflight(config_of("unheard_of"))


def test_what_a_preprocessor_asserts_is_told_in_its_own_words():
    def refuse(ds):
        def check(example):
            tf.debugging.Assert(example["number"] < 3, ["Numbers must be below 3."])
            return example

        return ds.map(check, num_parallel_calls=2)

    task = _make_task("a", preprocessors=[refuse])
    message = r"^Numbers must be below 3\. \(Task 'a'\.\)$"
    with pytest.raises(ValueError, match=message):
        pipeline.read_examples(task, 0, LENGTHS, "train")
    with (
        pytest.raises(ValueError, match=message),
        pipeline.TrainIterator(config_of(task)) as reader,
    ):
        next(reader)
