"""A record in, the text that a task's first step makes of it out."""

import seqio
import tensorflow as tf


def render(function, **record):
    """The inputs and targets of one record."""
    dataset = tf.data.Dataset.from_tensors({k: tf.constant(v) for k, v in record.items()})
    [example] = function(dataset).as_numpy_iterator()
    return example["inputs"].decode(), example["targets"].decode()


def data_of(name):
    """What TFDS calls a task's data, and where each of its splits is from."""
    loader = seqio.TaskRegistry.get(name).source.tfds_dataset
    return loader.name, loader._split_map


def labels_of(name, field="label"):
    """The names of TFDS's labels in the order of their numbers."""
    builder = seqio.TaskRegistry.get(name).source.tfds_dataset.builder
    return builder.info.features[field].names


def score(name, targets, predictions, **aux_values):
    """All scores of a task for decoded texts."""
    task = seqio.TaskRegistry.get(name)
    targets = [task.postprocess_fn(text, is_target=True, example={}) for text in targets]
    predictions = [task.postprocess_fn(text, is_target=False, example={}) for text in predictions]
    scores = {}
    for metric_fn in task.predict_metric_fns:
        scores |= metric_fn(targets, predictions)
    for metric_fn in task.predict_with_aux_metric_fns:
        scores |= metric_fn(targets, predictions, aux_values)
    return scores
