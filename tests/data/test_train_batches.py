import functools
import itertools
import json
import threading
import time

import numpy as np
import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax.data import train_batches
from tests.data.conftest import _make_task, config_of, mixture_of, texts

FIELDS = (
    "encoder_input_tokens",
    "decoder_input_tokens",
    "decoder_target_tokens",
    "decoder_loss_weights",
    "task_ids",
)


# What is read ahead would never be asked for.
iterate = functools.partial(train_batches.TrainIterator, prefetch=1)


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


def test_a_batch_has_the_five_fields_padded_to_their_lengths():
    with iterate(config_of(mixture_of((5, 1)), batch_size=6)) as iterator:
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


@functools.cache
def unbroken_run(shuffle=True):
    """Batches, and as JSON the position after each."""
    with iterate(three_tasks(shuffle=shuffle)) as iterator:
        positions, batches = [json.dumps(iterator.position())], []
        for batch in itertools.islice(iterator, 30 if shuffle else 18):
            batches.append(batch)
            positions.append(json.dumps(iterator.position()))
    return batches, positions


def test_two_iterators_of_one_seed_are_equal_and_of_two_seeds_are_not():
    batches = unbroken_run()[0][:6]
    for seed, is_same in ((three_tasks().seed, True), (6, False)):
        with iterate(three_tasks(seed=seed)) as iterator:
            others = take(iterator, 6)
        if is_same:
            assert_same(batches, others)
        assert (texts(batches) == texts(others)) == is_same


# Before the first batch; within the blocks of all tasks, one of which ends next; at another's end.
@pytest.mark.parametrize(("stop", "shuffle"), [(0, True), (13, True), (13, False), (18, True)])
def test_resuming_anywhere_equals_an_unbroken_run(stop, shuffle):
    batches, positions = unbroken_run(shuffle)
    with iterate(three_tasks(shuffle=shuffle)) as resumed:
        resumed.restore(json.loads(positions[stop]))
        assert json.dumps(resumed.position()) == positions[stop]
        assert_same(batches[stop : stop + 5], take(resumed, 5))


def test_restoring_rewinds_an_iterator_that_has_read_on():
    batches, positions = unbroken_run()
    with iterate(three_tasks()) as iterator:
        take(iterator, 5)
        iterator.restore(json.loads(positions[3]))
        assert_same(batches[3:6], take(iterator, 3))


@pytest.mark.parametrize("size", [7, 24])
def test_every_epoch_has_each_example_once_in_another_order(size):
    config = config_of(mixture_of((size, 1)), batch_size=size, shuffle_buffer_size=10)
    with iterate(config) as iterator:
        epochs = [texts([batch]) for batch in take(iterator, 3)]
    expected = sorted(f"a {i}" for i in range(size))
    assert all(sorted(epoch) == expected for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_without_shuffling_examples_come_in_their_order():
    config = config_of(mixture_of((6, 1)), batch_size=4, shuffle=False)
    with iterate(config) as iterator:
        assert texts(take(iterator, 3)) == [f"a {i % 6}" for i in range(12)]


def test_random_preprocessing_is_drawn_anew_each_epoch_block_and_is_reproducible():
    @seqio.map_over_dataset(num_seeds=1)
    def draw(example, seed):
        number = tf.random.stateless_uniform([], seed, 0, 1000, tf.int32)
        return {**example, "inputs": tf.strings.as_string(number)}

    config = config_of(_make_task("a", 4, preprocessors=[draw]), examples_per_turn=0, shuffle=False)
    with iterate(config) as one, iterate(config) as other:
        batches = take(one, 2)
        assert_same(batches, take(other, 2))
    assert len(set(texts(batches))) > 5


def test_the_mixture_s_rates_are_respected():
    mixture = mixture_of((4, 1), (5, 3), (6, 4))
    config = config_of(mixture, batch_size=500, task_names=["c", "b", "a"])
    with iterate(config) as iterator:
        ids = np.concatenate([batch.task_ids for batch in take(iterator, 16)])
    shares = np.bincount(ids) / len(ids)
    # 8000 draws: a standard deviation of at most 0.0056.
    np.testing.assert_allclose(shares, [1 / 2, 3 / 8, 1 / 8], atol=0.025)


def test_a_task_with_rate_zero_is_never_read():
    empty = _make_task("empty", preprocessors=[lambda ds: ds.take(0)])
    mixture = seqio.Mixture("m", [(empty, 0), (_make_task("full"), 1)])
    with iterate(config_of(mixture)) as iterator:
        assert {int(i) for batch in take(iterator, 5) for i in batch.task_ids} == {1}


def test_task_ids_name_the_task_of_each_row():
    config = config_of(mixture_of((4, 1), (9, 1)), batch_size=16, task_names=["b", "x", "a"])
    with iterate(config) as iterator:
        assert iterator.task_names == ("b", "x", "a")
        batch = next(iterator)
    letters = [text[0] for text in texts([batch])]
    assert [iterator.task_names[i] for i in batch.task_ids] == letters


def test_two_processes_cover_an_epoch_without_overlap():
    config = config_of(mixture_of((11, 1)), batch_size=2, examples_per_turn=0)
    seen = []
    for index, size in ((0, 6), (1, 5)):
        with iterate(config, process_index=index, process_count=2) as iterator:
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
        with iterate(config, index, 2) as iterator:
            drawn.append(next(iterator).task_ids)
    assert not np.array_equal(*drawn)


@pytest.mark.parametrize(
    "append_eos", [seqio.preprocessors.append_eos, seqio.preprocessors.append_eos_after_trim]
)
def test_a_long_input_is_cut_before_its_eos_and_counted(append_eos):
    task = _make_task("a", inputs=["1234567", "12345678"], append_eos=append_eos)
    with iterate(config_of(task, batch_size=2, shuffle=False)) as iterator:
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
        iterate(config_of(task)) as iterator,
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
    with iterate(config) as iterator:
        targets = next(iterator).decoder_target_tokens
    np.testing.assert_array_equal(*targets)
    assert list(targets[0]) == [*seqio.ByteVocabulary().encode("12"), 1]


def test_a_function_without_a_seed_and_a_size_can_be_read():
    task = _make_task("a", 5, takes_seed=False, counts=False)
    with iterate(config_of(task, batch_size=5)) as iterator:
        assert sorted(texts([next(iterator)])) == [f"a {i}" for i in range(5)]


def test_an_error_in_the_thread_reaches_the_consumer_each_time():
    def fail(ds):
        return ds.map(lambda ex: {**ex, "inputs": tf.io.read_file("/does/not/exist")})

    with iterate(config_of(_make_task("a", preprocessors=[fail]))) as iterator:
        for _ in range(2):
            with pytest.raises(tf.errors.NotFoundError, match="does/not/exist"):
                next(iterator)


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name == "hyperdecoders-data"]


def test_the_thread_ends_with_its_iterator():
    before = len(reading_threads())
    iterator = iterate(config_of(mixture_of((5, 1))))
    next(iterator)
    assert len(reading_threads()) == before + 1
    del iterator
    assert len(reading_threads()) == before


def test_a_closed_iterator_cannot_be_read():
    iterator = iterate(config_of(mixture_of((5, 1))))
    next(iterator)
    iterator.close()
    iterator.close()
    with pytest.raises(RuntimeError, match=r"must be open.*closed.*Make a new one"):
        next(iterator)


def test_batches_are_ready_before_they_are_asked_for():
    with iterate(config_of(mixture_of((5, 1))), prefetch=3) as iterator:
        next(iterator)
        for _ in range(100):
            if iterator._reader._queue.full():
                break
            time.sleep(0.1)
        assert iterator._reader._queue.qsize() == 3


def test_the_position_of_another_run_is_refused():
    with iterate(config_of(mixture_of((5, 1), (5, 1)), batch_size=4)) as iterator:
        position = iterator.position()
    with (
        iterate(config_of(mixture_of((5, 1)))) as other,
        pytest.raises(ValueError, match=r"of the mixture.*\['a', 'b'\].*\['a'\].*Restore"),
    ):
        other.restore(position)
    with (
        iterate(config_of(mixture_of((5, 1), (5, 1))), 1, 2) as other,
        pytest.raises(ValueError, match=r"process_index=0.*process_index=1.*Resume with as many"),
    ):
        other.restore(position)


def test_a_position_past_the_end_of_the_data_is_an_error():
    with iterate(config_of(mixture_of((50, 1)), shuffle_buffer_size=5)) as iterator:
        take(iterator, 12)
        position = iterator.position()
    with iterate(config_of(mixture_of((9, 1)), shuffle_buffer_size=5)) as shrunk:
        shrunk.restore(position)
        with pytest.raises(
            ValueError, match=r"example 48 of epoch block 0.*past the end.*restore them"
        ):
            next(shrunk)


def test_a_batch_that_does_not_divide_over_processes_is_an_error():
    with pytest.raises(ValueError, match=r"batch_size=5 for 2 processes.*multiple of 2"):
        iterate(config_of(mixture_of((5, 1)), batch_size=5), 0, 2)


def test_a_task_without_examples_is_an_error():
    empty = _make_task("hollow", preprocessors=[lambda ds: ds.take(0)])
    with (
        iterate(config_of(empty)) as iterator,
        pytest.raises(ValueError, match=r"'hollow' has none.*\(share 1 of 1\).*filters"),
    ):
        next(iterator)


def test_positions_are_those_of_earlier_versions():
    _, positions = unbroken_run()
    assert json.loads(positions[30]) == {
        "step": 30,
        "process_index": 0,
        "process_count": 1,
        "tasks": {
            "a": {"turn": 0, "offset": 13},
            "b": {"turn": 1, "offset": 17},
            "c": {"turn": 1, "offset": 29},
        },
    }
