import pytest
import tensorflow as tf

from hyperdecoders_jax.data import eval_batches, reading, train_batches, untuned
from tests.data.conftest import LENGTHS, _make_task, config_of


def test_no_thread_tunes_what_is_read(monkeypatch):
    ds = tf.data.Dataset.range(3).map(lambda x: x, num_parallel_calls=tf.data.AUTOTUNE)
    made, seen = untuned.untuned, []
    monkeypatch.setattr(untuned, "untuned", lambda ds: seen.append(made(ds)) or seen[0])
    assert list(reading.as_numpy(ds, task=None)) == [0, 1, 2]
    assert seen[0].options().autotune.enabled is False


def test_what_a_preprocessor_asserts_is_told_in_its_own_words():
    def refuse(ds):
        def check(example):
            tf.debugging.Assert(example["number"] < 3, ["Numbers must be below 3."])
            return example

        return ds.map(check, num_parallel_calls=2)

    task = _make_task("a", preprocessors=[refuse])
    message = r"^Numbers must be below 3\. \(Task 'a'\.\)$"
    with pytest.raises(ValueError, match=message):
        eval_batches.read_examples(task, 0, LENGTHS, "train")
    with (
        pytest.raises(ValueError, match=message),
        train_batches.TrainIterator(config_of(task)) as reader,
    ):
        next(reader)
