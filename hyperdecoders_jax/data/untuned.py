"""Reading with tf.data without its tuning thread."""

from __future__ import annotations

import tensorflow as tf


def untuned(ds: tf.data.Dataset) -> tf.data.Dataset:
    """A dataset whose parallel calls have fixed numbers of threads, as many as tf.data starts with.

    The thread that tunes them may sleep for a minute, and an iterator that is given up waits until
    it wakes (TensorFlow 2.21).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return ds.with_options(options)
