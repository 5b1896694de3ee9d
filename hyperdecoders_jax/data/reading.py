"""One task's examples, read through SeqIO in an order that a seed fixes.

Inputs are cut so that EOS stays the last id, as Hugging Face's tokenisers do and the original
Hyperdecoders did. A target that is too long is an error, since a cut target teaches something else.
"""

import contextlib
import copy
import hashlib
import inspect
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from absl import logging

from hyperdecoders_jax import types
from hyperdecoders_jax.data import untuned
from hyperdecoders_jax.data.pipeline import PipelineConfig

# Padded ids under the names of the features, and under "<feature>_len" the lengths before cutting.
Rows = dict[str, np.ndarray]

# Rows that cross from TensorFlow to numpy at once: one crossing costs as much as many rows do.
CHUNK_ROWS = 256
_SHOWN_CHARACTERS = 80
# SeqIO keeps the seed of random preprocessors in a global while a data set is being built, so two
# threads that build one at a time would draw with each other's seeds.
_SEQIO_LOCK = threading.Lock()


def keep_tensorflow_off_accelerators() -> None:
    """Hides accelerators from TensorFlow, which would otherwise take their memory from JAX."""
    for kind in ("GPU", "TPU"):
        try:
            tf.config.set_visible_devices([], kind)
        except RuntimeError:  # TensorFlow has started already, with what its user chose.
            logging.warning("TensorFlow started before the pipeline and may hold a %s.", kind)


def task_dataset(
    task: seqio.Task,
    task_feature_lengths: Mapping[str, int],
    split: str,
    shuffle: bool,
    seed: int,
    shard: seqio.ShardInfo | None = None,
    use_cached: bool = False,
) -> tf.data.Dataset:
    """One uncut epoch of a task as SeqIO gives it; the same each time for the same seed."""
    task = task.replace(
        source=_seeded(task.source),
        # append_eos_after_trim cuts targets in silence. Appending EOS, then cutting before it
        # (`_cut_before_eos`), gives the same ids, and knows how long they were.
        preprocessors=[
            seqio.preprocessors.append_eos
            if preprocessor is seqio.preprocessors.append_eos_after_trim
            else preprocessor
            for preprocessor in task.preprocessors
        ],
    )
    with _SEQIO_LOCK, _texts_checked(task, split, use_cached):
        ds = task.get_dataset(
            sequence_length=task_feature_lengths,
            split=split,
            use_cached=use_cached,
            shuffle=shuffle,
            # A buffer of one leaves the order alone: `read_rows` has the buffer that shuffles.
            shuffle_buffer_size=1,
            seed=seed,
            # None for a single share: SeqIO would list the source's files to divide them.
            shard_info=shard if shard and shard.num_shards > 1 else None,
            num_epochs=1,
            trim_output_features=False,
            # A data set that is read once would only be held twice.
            try_in_mem_cache=False,
        )
    options = tf.data.Options()
    options.deterministic = True  # Parallel maps otherwise give rows in the order they finish.
    return ds.with_options(options)


@contextlib.contextmanager
def _texts_checked(task: seqio.Task, split: str, use_cached: bool) -> Iterator[None]:
    """Tells of numbers that should be texts; TensorFlow tells of them in pages of its code."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if use_cached or not task.supports_caching:
            raise
        # What is cached is what will be tokenized.
        specs = task.preprocess_precache(task.source.get_dataset(split, False), seed=0).element_spec
        for name in types.FEATURES:
            spec = specs.get(name)
            if isinstance(spec, tf.TensorSpec) and spec.shape.rank == 0 and spec.dtype != tf.string:
                raise ValueError(
                    f"Inputs and targets must be texts before they are tokenized; {name!r} of task "
                    f"{task.name!r} is of the type {spec.dtype.name}. Make it a text in a "
                    "preprocessor, with tf.strings.as_string(…), or in the data, in quotes."
                ) from error
        raise


def as_numpy(ds: tf.data.Dataset, task: seqio.Task) -> Iterator[dict[str, Any]]:
    """Elements as numpy; a preprocessor's failed assertion is a ValueError with its own message."""
    try:
        yield from untuned.untuned(ds).as_numpy_iterator()
    except tf.errors.InvalidArgumentError as error:
        # TensorFlow wraps the message in pages about the graph.
        asserted = re.search(r"assertion failed: \[(.*?)\]\n", error.message, re.DOTALL)
        if asserted is None:
            raise
        raise ValueError(f"{asserted[1]} (Task {task.name!r}.)") from error


def read_rows(
    task: seqio.Task,
    config: PipelineConfig,
    shard: seqio.ShardInfo,
    epoch_block: int,
    num_examples: int | None = None,
    keeps_texts: bool = False,
) -> Iterator[Rows]:
    """Chunks of padded ids: one epoch of a task, or of the part of it in `shard`.

    `epoch_block`, how often it was read before, decides the order. At most the first `num_examples`
    are read; None: all. `keeps_texts` adds "<feature>_pretokenized", where the task has it. Raises
    ValueError if a target is too long, or there is no example.
    """
    lengths = {name: config.task_feature_lengths[name] for name in types.FEATURES}
    text = f"{config.seed}/{task.name}/{epoch_block}"
    # TensorFlow's seeds are signed: 31 bits of the hash.
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) >> 1

    @tf.autograph.experimental.do_not_convert  # Starts sooner, and there is nothing to convert.
    def fit(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        row = {}
        for name, length in lengths.items():
            ids = tf.cast(example[name], tf.int32)
            row |= {name: _cut_before_eos(ids, length), f"{name}_len": tf.shape(ids)[0]}
            text = example.get(f"{name}_pretokenized")
            # Of some tasks a list of texts.
            if keeps_texts and text is not None and text.dtype == tf.string and text.shape == ():
                row[f"{name}_pretokenized"] = text
        return row

    ds = task_dataset(
        task, config.task_feature_lengths, config.split, config.shuffle, seed, shard,
        config.use_cached,
    )  # fmt: skip
    if num_examples is not None:
        ds = ds.take(num_examples)
    ds = ds.map(fit, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if config.shuffle:
        ds = ds.shuffle(config.shuffle_buffer_size, seed=seed, reshuffle_each_iteration=False)
    shapes = {name: [lengths[name]] if name in lengths else [] for name in ds.element_spec}
    ds = ds.padded_batch(CHUNK_ROWS, padded_shapes=shapes).prefetch(tf.data.AUTOTUNE)
    is_empty = True
    for chunk in as_numpy(ds, task):
        is_empty = False
        if not config.truncate_targets and has_long_target(chunk, lengths):
            raise long_target_error(task, chunk, lengths, int(chunk["targets_len"].max()))
        yield chunk
    if is_empty:
        raise ValueError(
            f"Every task must have examples; {task.name!r} has none in its split {config.split!r} "
            f"(share {shard.index + 1} of {shard.num_shards}). Check its source and its filters, "
            "give it the rate 0, or use fewer processes."
        )


def has_long_target(rows: Rows, lengths: Mapping[str, int]) -> bool:
    """Whether a target had to be cut."""
    return bool(np.any(rows["targets_len"] > lengths["targets"]))


def long_target_error(
    task: seqio.Task, rows: Rows, lengths: Mapping[str, int], longest: int
) -> ValueError:
    """The error about the first target in `rows` that is too long; `longest` is suggested."""
    row = int(np.argmax(rows["targets_len"] > lengths["targets"]))
    shown = {}
    for name in types.FEATURES:
        vocabulary = task.output_features[name].vocabulary
        ids = rows[name][row, : rows[f"{name}_len"][row]]
        text = str(vocabulary.decode([int(i) for i in ids]))
        is_complete = len(text) <= _SHOWN_CHARACTERS and rows[f"{name}_len"][row] <= lengths[name]
        shown[name] = text if is_complete else text[:_SHOWN_CHARACTERS] + "…"
    return ValueError(
        f"A target must fit into its length; task {task.name!r} has one of "
        f"{int(rows['targets_len'][row])} tokens for a length of {lengths['targets']}: input "
        f"{shown['inputs']!r}, target {shown['targets']!r}. The longest that was read has "
        f"{longest} tokens. Set TASK_FEATURE_LENGTHS = {{'inputs': {lengths['inputs']}, 'targets': "
        f"{longest}}} or longer, or cut such targets with PipelineConfig.truncate_targets = True."
    )


class _SeededFunction(seqio.FunctionDataSource):
    """A function source that accepts a seed even where its function takes none.

    Such a function cannot shuffle the same way twice, so it is asked not to shuffle. SeqIO's
    warning that functions shuffle badly is dropped: the pipeline's own buffer shuffles.
    """

    def get_dataset(self, split="train", shuffle=True, seed=None, **unused):
        if "seed" in inspect.signature(self._dataset_fn).parameters:
            return self._dataset_fn(split=split, shuffle_files=shuffle, seed=seed)
        return self._dataset_fn(split=split, shuffle_files=False)


def _seeded(source: seqio.DataSource) -> seqio.DataSource:
    # Not isinstance: a subclass may have a get_dataset of its own.
    if type(source) is seqio.FunctionDataSource:
        return _SeededFunction(source._dataset_fn, source.splits, source._num_input_examples)
    if inner := getattr(source, "sources", ()):
        source = copy.copy(source)
        source.sources = tuple(_seeded(one) for one in inner)
    return source


def _cut_before_eos(ids: tf.Tensor, length: int) -> tf.Tensor:
    """The first `length` ids; a closing EOS stays the last one."""
    kept = ids[:length]
    # Slices, not indices: ids may be empty.
    last = tf.where(ids[-1:] == types.EOS_ID, types.EOS_ID, kept[-1:])
    return tf.concat([kept[:-1], last], axis=0)
