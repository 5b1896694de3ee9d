"""The majority baseline is what the task's metrics say of always the same answer."""

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
