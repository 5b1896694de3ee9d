"""The majority baseline is what the task's metrics say of always the same answer."""

import functools

import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import baselines, metrics, postprocessors

LABELS = {"train": ["b", "a", "a", "b", "c"], "validation": ["a", "b", "c", "a"]}


@pytest.fixture
def task_name():
    features = seqio.Feature(seqio.ByteVocabulary())
    seqio.TaskRegistry.add(
        "counted_labels",
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
                {"inputs": LABELS[split], "targets": LABELS[split]}
            ),
            splits=LABELS,
        ),
        preprocessors=[seqio.preprocessors.tokenize],
        postprocess_fn=postprocessors.to_text,
        metric_fns=[metrics.accuracy, metrics.squad],
        output_features={"inputs": features, "targets": features},
    )
    yield "counted_labels"
    seqio.TaskRegistry.remove("counted_labels")


def test_it_guesses_the_most_frequent_training_target(task_name):
    # "a" and "b" are as frequent; the alphabet decides. "a" is an article, so SQuAD sees nothing.
    assert baselines.majority_baseline(task_name) == {"accuracy": 50.0, "em": 50.0, "f1": 0.0}


def test_it_scores_any_split(task_name):
    assert baselines.majority_baseline(task_name, split="train")["accuracy"] == 40.0


def test_words_tell_labels_where_there_are_enough_examples(task_name):
    assert baselines.floors(seqio.TaskRegistry.get(task_name), "train").keys() == {"majority"}
    rows = {
        "inputs": [f"it is {x} today" for x in ("hot", "icy")] * 30,
        "targets": ["up", "no"] * 30,
    }
    seqio.TaskRegistry.remove(task_name)
    # Ids alone: the text is not there.
    tokenize = functools.partial(seqio.preprocessors.tokenize, copy_pretokenized=False)
    features = seqio.Feature(seqio.ByteVocabulary())
    task = seqio.TaskRegistry.add(
        task_name,
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(rows),
            splits=["train", "test"],
        ),
        preprocessors=[tokenize],
        postprocess_fn=postprocessors.to_text,
        metric_fns=[metrics.accuracy],
        output_features={"inputs": features, "targets": features},
    )
    wanted = {"majority": {"accuracy": 50.0}, "TF-IDF": {"accuracy": 100.0}}
    assert baselines.floors(task, "test") == wanted
    rows["inputs"] = ["a b", "c d"] * 30  # No word of two characters.
    assert baselines.floors(task, "test") == wanted
