"""A mixture and a configuration go in; batches come out, in an order that a seed fixes.

Training: which task fills which row of a batch is drawn from a generator that counts steps, and
each task is a stream of its own whose order depends on the seed, the task's name and how often its
data were read. So a position is one step and two numbers per task, and a run that is stopped and
resumed sees the same batches, bit for bit, as one that is not. A thread reads ahead.

A task's data are read in turns. A turn's first epoch comes through SeqIO and a shuffle buffer. If
that epoch fitted into the buffer, it is kept as arrays and shuffled again for more epochs, so that
small tasks do not pay for starting SeqIO at each of their epochs.

Evaluation: every example of a split once, in order, the last batch filled up with rows that are
marked as not real.

Lengths: inputs are cut so that EOS stays their last id, as Hugging Face's tokenisers do and the
original Hyperdecoders did, and counted. A target that is too long is an error, since a cut target
teaches something else.
"""

import collections
import copy
import dataclasses
import hashlib
import inspect
import numbers
import queue
import re
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import seqio
import tensorflow as tf
from absl import logging
from jaxtyping import Bool

from hyperdecoders_jax import types
from hyperdecoders_jax.data import feature_converter, mixtures

# Rows that cross from TensorFlow to numpy at once.
_CHUNK_ROWS = 256
_SHOWN_CHARACTERS = 80
# Splits with no more examples than this are read as a whole before training.
_SMALL_SPLIT = 20_000
# Embeddings are rounded up to a multiple of this, so fewer rows than this may be without an id.
_VOCABULARY_MULTIPLE = 128
# SeqIO keeps the seed of random preprocessors in a global while a data set is being built.
_SEQIO_LOCK = threading.Lock()

_Rows = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """What to read, how long, and in which order.

    Attributes:
      mixture_or_task_name: a registered name (or a SeqIO object).
      task_feature_lengths: tokens of `inputs` and of `targets`, EOS included; other keys are
        ignored.
      split: read from every task that has it.
      batch_size: examples of one step, over all processes.
      seed: fixes the order, the mixing and what random preprocessors draw.
      shuffle: False reads each task in its own order; the mixing stays random.
      shuffle_buffer_size: examples among which one is drawn; a task with no more than these is
        shuffled completely and kept in memory.
      examples_per_turn: a task in memory is read anew, and its random preprocessors draw anew,
        after this many examples, rounded up to whole epochs. 0: each epoch.
      truncate_targets: cuts a target that is too long, as the original does, instead of raising.
      task_names: the ordered list that numbers tasks; None: the mixture's tasks sorted by name.
      is_small_vocabulary_allowed: accepts a vocabulary that leaves 128 or more rows of the model's
        embedding unused, which otherwise counts as another model's.
      use_cached: reads text from SeqIO's caches (`seqio.add_global_cache_dirs`), not from the data.
    """

    mixture_or_task_name: mixtures.MixtureOrTask
    task_feature_lengths: Mapping[str, int]
    split: str = "train"
    batch_size: int = 128
    seed: int = 0
    shuffle: bool = True
    shuffle_buffer_size: int = 16384
    examples_per_turn: int = 65536
    truncate_targets: bool = False
    task_names: Sequence[str] | None = None
    is_small_vocabulary_allowed: bool = False
    use_cached: bool = False

    def __post_init__(self):
        mixtures.check_lengths(self.task_feature_lengths)
        for name, least in (
            ("batch_size", 1),
            ("seed", 0),
            ("shuffle_buffer_size", 1),
            ("examples_per_turn", 0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise TypeError(
                    f"PipelineConfig.{name} must be a whole number; got {value!r}, a "
                    f"{type(value).__name__}. Set {name} = {least} or more."
                )
            if value < least:
                raise ValueError(
                    f"PipelineConfig.{name} must be at least {least}; got {value}. "
                    f"Set {name} = {least} or more."
                )
        if isinstance(self.task_names, str):
            raise TypeError(
                f"PipelineConfig.task_names must be a list of names; got {self.task_names!r}, one "
                f"text. Write task_names = ({self.task_names!r},)."
            )


class TrainIterator:
    """Endless batches of this process's share of each step, and the position to resume from.

    A context manager; `close` ends the reading thread, and so does losing the last reference.

    Args:
      config: what to read.
      process_index: which share of every task is read, and of every batch.
      process_count: number of shares.
      prefetch: batches that are kept ready.

    Raises:
      ValueError: anything about names, data, rates or sizes that can be seen without reading.
    """

    def __init__(
        self,
        config: PipelineConfig,
        process_index: int = 0,
        process_count: int = 1,
        prefetch: int = 4,
    ):
        _keep_tensorflow_off_accelerators()
        self._mixer = _Mixer(config, process_index, process_count)
        self._prefetch = prefetch
        self._position = self._mixer.position()
        self._truncated = collections.Counter()
        self._reader: _Reader | None = None
        self._is_closed = False

    @property
    def task_names(self) -> tuple[str, ...]:
        """The ordered list that `task_ids` counts in."""
        return self._mixer.task_names

    @property
    def truncated_inputs(self) -> dict[str, int]:
        """Inputs cut so far, by task, in the batches that this object returned."""
        return dict(self._truncated)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> types.Batch:
        if self._is_closed:
            raise RuntimeError(
                "A TrainIterator must be open to be read; this one was closed. Make a new one and "
                "restore the position."
            )
        if self._reader is None:
            self._reader = _Reader(self._mixer, self._prefetch)
            weakref.finalize(self, self._reader.stop)
        batch, self._position, truncated = self._reader.get()
        for task, count in truncated.items():
            if task not in self._truncated:
                logging.warning("Inputs of task %s are longer than their length and are cut.", task)
            self._truncated[task] += count
        return batch

    def position(self) -> dict[str, Any]:
        """Where the last returned batch ended; goes through JSON unchanged."""
        return self._position

    def restore(self, position: Mapping[str, Any]) -> None:
        """Continues after the batch whose `position` this was; costs at most one turn per task.

        Raises:
          ValueError: the position is of another mixture or another number of processes.
        """
        self._mixer.check(position)
        if self._reader is not None:
            self._reader.stop()
            self._reader = None
        self._mixer.restore(position)
        self._position = self._mixer.position()

    def close(self) -> None:
        """Ends the reading thread."""
        self._is_closed = True
        if self._reader is not None:
            self._reader.stop()
            self._reader = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class _Reader:
    """A thread that keeps batches ready; an exception in it is raised by `get`."""

    def __init__(self, mixer: "_Mixer", prefetch: int):
        self._queue: queue.Queue = queue.Queue(maxsize=max(1, prefetch))
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        # No reference to self, so that nothing keeps a forgotten iterator alive.
        self._thread = threading.Thread(
            target=_read_ahead,
            args=(mixer, self._queue, self._stopped),
            name="hyperdecoders-data",
            daemon=True,
        )
        self._thread.start()

    def get(self) -> tuple[types.Batch, dict[str, Any], dict[str, int]]:
        if self._error is not None:
            raise self._error
        result, self._error = self._queue.get()
        if self._error is not None:
            raise self._error
        return result

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def _read_ahead(mixer: "_Mixer", ready: queue.Queue, stopped: threading.Event) -> None:
    error = None
    while not stopped.is_set() and error is None:
        result = None
        try:
            result = mixer.next_batch()
        except BaseException as caught:  # The consumer raises it.
            error = caught
        while not stopped.is_set():
            try:
                ready.put((result, error), timeout=0.1)
                break
            except queue.Full:
                pass


class _Mixer:
    """Draws each step's tasks and takes their next rows."""

    def __init__(self, config: PipelineConfig, process_index: int, process_count: int):
        if config.batch_size % process_count:
            raise ValueError(
                "batch_size must divide over the processes; got "
                f"batch_size={config.batch_size} for {process_count} processes. "
                f"Set BATCH_SIZE to a multiple of {process_count}."
            )
        tasks = mixtures.leaf_tasks(config.mixture_or_task_name, config.split, config.use_cached)
        mixtures.check_features_agree(tasks)
        self.task_names = mixtures.resolve_task_names(
            config.mixture_or_task_name, config.task_names
        )
        rates = mixtures.mixing_rates(config.mixture_or_task_name, tasks)
        # A task that is never drawn is never read.
        tasks = [task for task in tasks if rates[task.name] > 0]
        shard = seqio.ShardInfo(index=process_index, num_shards=process_count)
        self._streams = [_TaskStream(task, config, shard) for task in tasks]
        self._numbers = [mixtures.task_number(task.name, self.task_names) for task in tasks]
        self._cumulative = np.cumsum([rates[task.name] for task in tasks])
        self._cumulative[-1] = 1.0
        self._config = config
        self._shard = shard
        self._batch_size = config.batch_size // process_count
        self._step = 0

    def next_batch(self) -> tuple[types.Batch, dict[str, Any], dict[str, int]]:
        lengths = self._config.task_feature_lengths
        draws = _generator(self._config.seed, "mixing", self._shard.index, self._step)
        choices = np.searchsorted(self._cumulative, draws.random(self._batch_size), side="right")
        ids = {
            name: np.zeros((self._batch_size, lengths[name]), np.int32)
            for name in mixtures.FEATURES
        }
        task_ids = np.zeros(self._batch_size, np.int32)
        truncated = {}
        for choice in np.unique(choices):
            stream = self._streams[choice]
            places = np.flatnonzero(choices == choice)
            task_ids[places] = self._numbers[choice]
            rows = stream.take(len(places))
            for name in mixtures.FEATURES:
                ids[name][places] = rows[name]
            count = int(np.sum(rows["inputs_len"] > lengths["inputs"]))
            if count:
                truncated[stream.task.name] = count
        self._step += 1
        batch = feature_converter.task_batch(ids["inputs"], ids["targets"], task_ids)
        return batch, self.position(), truncated

    def position(self) -> dict[str, Any]:
        return {
            "step": self._step,
            "process_index": self._shard.index,
            "process_count": self._shard.num_shards,
            "tasks": {stream.task.name: stream.position() for stream in self._streams},
        }

    def check(self, position: Mapping[str, Any]) -> None:
        ours = self.position()
        for key in ("process_index", "process_count"):
            if position[key] != ours[key]:
                raise ValueError(
                    "A data position must be restored by the process that wrote it; it has "
                    f"{key}={position[key]}, this process has {key}={ours[key]}. Resume with "
                    "as many processes as before, or start in a new model directory."
                )
        if set(position["tasks"]) != set(ours["tasks"]):
            raise ValueError(
                "A data position must be of the mixture that is read; it has the tasks "
                f"{sorted(position['tasks'])}, the mixture has {sorted(ours['tasks'])}. Restore "
                "the mixture of the checkpoint, or start in a new model directory."
            )

    def restore(self, position: Mapping[str, Any]) -> None:
        self._step = position["step"]
        for stream in self._streams:
            stream.restore(position["tasks"][stream.task.name])


class _TaskStream:
    """The endless rows of one task: turn after turn, each a few epochs."""

    def __init__(self, task: seqio.Task, config: PipelineConfig, shard: seqio.ShardInfo):
        self.task = task
        self._config = config
        self._shard = shard
        self._turn = 0
        self._offset = 0
        self._chunks: Iterator[_Rows] | None = None
        self._rest: _Rows | None = None

    def position(self) -> dict[str, int]:
        return {"turn": self._turn, "offset": self._offset}

    def restore(self, position: Mapping[str, int]) -> None:
        self._turn, self._offset = position["turn"], position["offset"]
        self._chunks, self._rest = None, None

    def take(self, count: int) -> _Rows:
        """The next `count` rows."""
        parts = []
        while count:
            rows = self._some(count)
            self._offset += len(rows["inputs"])
            count -= len(rows["inputs"])
            parts.append(rows)
        return parts[0] if len(parts) == 1 else _concatenate(parts)

    def _some(self, most: int) -> _Rows:
        """At least one row and at most `most`, all of one chunk."""
        if self._chunks is None:
            self._chunks = self._read_turn(self._turn)
            self._skip(self._offset)
        if self._rest is None:
            self._rest = next(self._chunks, None)
        if self._rest is None:
            self._turn, self._offset = self._turn + 1, 0
            self._chunks = self._read_turn(self._turn)
            self._rest = next(self._chunks)
        rows, self._rest = _split(self._rest, most)
        return rows

    def _skip(self, count: int) -> None:
        while count:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise ValueError(
                    f"A data position must lie within the data; that of {self.task.name!r} is "
                    f"example {self._offset} of turn {self._turn}, which is past the end. The data "
                    "or the configuration changed since: restore them, or start in a new model "
                    "directory."
                )
            skipped, self._rest = _split(chunk, count)
            count -= len(skipped["inputs"])

    def _read_turn(self, turn: int) -> Iterator[_Rows]:
        """The rows of the turn-th reading, in chunks."""
        config = self._config
        kept: list[_Rows] | None = []
        num_rows = 0
        for chunk in _read_rows(self.task, config, self._shard, turn):
            num_rows += len(chunk["inputs"])
            if kept is not None:
                kept.append(chunk)
            if num_rows > config.shuffle_buffer_size:
                kept = None  # Too many to hold.
            yield chunk
        if kept is None:
            return
        rows = _concatenate(kept)
        num_epochs = -(-config.examples_per_turn // num_rows)
        for epoch in range(1, num_epochs):
            order = np.arange(num_rows)
            if config.shuffle:
                draws = _generator(config.seed, f"epoch of {self.task.name}", turn, epoch)
                order = draws.permutation(num_rows)
            for start in range(0, num_rows, _CHUNK_ROWS):
                places = order[start : start + _CHUNK_ROWS]
                yield {name: values[places] for name, values in rows.items()}


def _concatenate(parts: Sequence[_Rows]) -> _Rows:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _split(rows: _Rows, count: int) -> tuple[_Rows, _Rows | None]:
    """The first `count` rows, and the others, if there are any."""
    if len(rows["inputs"]) <= count:
        return rows, None
    first = {name: values[:count] for name, values in rows.items()}
    return first, {name: values[count:] for name, values in rows.items()}


def _generator(seed: int, purpose: str, major: int, minor: int) -> np.random.Generator:
    """A generator that is the same in every process and run, and differs between arguments."""
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest())
    # The low words count what one generator draws.
    return np.random.Generator(np.random.Philox(key=key, counter=(major << 192) + (minor << 128)))


def _tensorflow_seed(seed: int, task_name: str, turn: int) -> int:
    text = f"{seed}/{task_name}/{turn}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) >> 1


def _read_rows(
    task: seqio.Task,
    config: PipelineConfig,
    shard: seqio.ShardInfo,
    turn: int,
    num_examples: int | None = None,
) -> Iterator[_Rows]:
    """One epoch of a task as padded ids with their lengths before cutting, in chunks.

    Raises:
      ValueError: a target is too long, or there is no example.
    """
    lengths = {name: config.task_feature_lengths[name] for name in mixtures.FEATURES}
    seed = _tensorflow_seed(config.seed, task.name, turn)

    @tf.autograph.experimental.do_not_convert  # Starts sooner, and there is nothing to convert.
    def fit(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        row = {}
        for name, length in lengths.items():
            ids = tf.cast(example[name], tf.int32)
            row[name] = _cut_before_eos(ids, length)
            row[f"{name}_len"] = tf.shape(ids)[0]
        return row

    ds = _task_dataset(
        task,
        config.task_feature_lengths,
        config.split,
        config.shuffle,
        seed,
        shard,
        config.use_cached,
    )
    if num_examples is not None:
        ds = ds.take(num_examples)
    ds = ds.map(fit, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if config.shuffle:
        ds = ds.shuffle(config.shuffle_buffer_size, seed=seed, reshuffle_each_iteration=False)
    shapes = {}
    for name, length in lengths.items():
        shapes |= {name: [length], f"{name}_len": []}
    ds = ds.padded_batch(_CHUNK_ROWS, padded_shapes=shapes).prefetch(tf.data.AUTOTUNE)
    is_empty = True
    for chunk in _read(ds, task):
        is_empty = False
        if not config.truncate_targets and _has_long_target(chunk, lengths):
            raise _long_target_error(task, chunk, lengths, int(chunk["targets_len"].max()))
        yield chunk
    if is_empty:
        raise ValueError(
            f"Every task must have examples; {task.name!r} has none in its split "
            f"{config.split!r} (share {shard.index + 1} of {shard.num_shards}). "
            "Check its source and its filters, give it the rate 0, or use fewer processes."
        )


def _task_dataset(
    task: seqio.Task,
    task_feature_lengths: Mapping[str, int],
    split: str,
    shuffle: bool,
    seed: int,
    shard: seqio.ShardInfo | None = None,
    use_cached: bool = False,
) -> tf.data.Dataset:
    """One epoch of a task as SeqIO gives it, nothing cut, the same each time for the same seed."""
    task = task.replace(
        source=_seeded(task.source),
        # It cuts targets in silence. Appending EOS and cutting before it afterwards is the same.
        preprocessors=[
            seqio.preprocessors.append_eos
            if preprocessor is seqio.preprocessors.append_eos_after_trim
            else preprocessor
            for preprocessor in task.preprocessors
        ],
    )
    with _SEQIO_LOCK:
        ds = task.get_dataset(
            sequence_length=task_feature_lengths,
            split=split,
            use_cached=use_cached,
            shuffle=shuffle,
            shuffle_buffer_size=1,
            seed=seed,
            shard_info=shard if shard and shard.num_shards > 1 else None,
            num_epochs=1,
            trim_output_features=False,
            try_in_mem_cache=False,
        )
    options = tf.data.Options()
    options.deterministic = True
    return ds.with_options(options)


def _read(ds: tf.data.Dataset, task: seqio.Task) -> Iterator[dict[str, Any]]:
    """The examples as numpy; what a step of the task asserts is told in its own words alone.

    Raises:
      ValueError: an assertion failed.
    """
    try:
        yield from ds.as_numpy_iterator()
    except tf.errors.InvalidArgumentError as error:
        asserted = re.search(r"assertion failed: \[(.*?)\]\n", error.message, re.DOTALL)
        if asserted is None:
            raise
        raise ValueError(f"{asserted[1]} (Task {task.name!r}.)") from error


class _SeededFunction(seqio.FunctionDataSource):
    """A function source that takes a seed even where its function takes none.

    Such a function cannot shuffle the same way twice, so it is asked not to shuffle. Nor does it
    warn that functions shuffle badly: the pipeline's own buffer shuffles.
    """

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        **unused: Any,
    ) -> tf.data.Dataset:
        if "seed" in inspect.signature(self._dataset_fn).parameters:
            return self._dataset_fn(split=split, shuffle_files=shuffle, seed=seed)
        return self._dataset_fn(split=split, shuffle_files=False)


def _seeded(source: seqio.DataSource) -> seqio.DataSource:
    if type(source) is seqio.FunctionDataSource:
        return _SeededFunction(source._dataset_fn, source.splits, source._num_input_examples)
    if inner := getattr(source, "sources", ()):
        source = copy.copy(source)
        source.sources = tuple(_seeded(one) for one in inner)
    return source


def _cut_before_eos(ids: tf.Tensor, length: int) -> tf.Tensor:
    """The first `length` ids; a closing EOS stays the last one."""
    kept = ids[:length]
    last = tf.where(ids[-1:] == types.EOS_ID, types.EOS_ID, kept[-1:])
    return tf.concat([kept[:-1], last], axis=0)


def _has_long_target(rows: _Rows, lengths: Mapping[str, int]) -> bool:
    return bool(np.any(rows["targets_len"] > lengths["targets"]))


def _long_target_error(
    task: seqio.Task, rows: _Rows, lengths: Mapping[str, int], longest: int
) -> ValueError:
    """What to do about the first target in `rows` that is too long."""
    row = int(np.argmax(rows["targets_len"] > lengths["targets"]))
    shown = {}
    for name in mixtures.FEATURES:
        vocabulary = task.output_features[name].vocabulary
        ids = rows[name][row, : rows[f"{name}_len"][row]]
        text = str(vocabulary.decode([int(i) for i in ids]))
        is_whole = len(text) <= _SHOWN_CHARACTERS and rows[f"{name}_len"][row] <= lengths[name]
        shown[name] = text if is_whole else text[:_SHOWN_CHARACTERS] + "…"
    return ValueError(
        f"A target must fit into its length; task {task.name!r} has one of "
        f"{int(rows['targets_len'][row])} tokens for a length of {lengths['targets']}: input "
        f"{shown['inputs']!r}, target {shown['targets']!r}. The longest that was read has "
        f"{longest} tokens. Set TASK_FEATURE_LENGTHS = {{'inputs': {lengths['inputs']}, 'targets': "
        f"{longest}}} or longer, or cut such targets with PipelineConfig.truncate_targets = True."
    )


def _keep_tensorflow_off_accelerators() -> None:
    for kind in ("GPU", "TPU"):
        try:
            tf.config.set_visible_devices([], kind)
        except RuntimeError:  # TensorFlow has started already, with what its user chose.
            logging.warning("TensorFlow started before the pipeline and may hold a %s.", kind)


@dataclasses.dataclass(frozen=True)
class EvalBatch:
    """A batch of one process; rows that only fill it up are not real."""

    batch: types.Batch
    is_real: Bool[np.ndarray, "batch"]


@dataclasses.dataclass(frozen=True)
class TaskExamples:
    """The examples of one task's split, in order and in memory.

    Attributes:
      task: as registered.
      task_id: its number.
      task_feature_lengths: tokens of `inputs` and of `targets`.
      examples: as SeqIO gives them, nothing cut: what postprocessors expect as `example`.
    """

    task: seqio.Task
    task_id: int
    task_feature_lengths: Mapping[str, int]
    examples: Sequence[Mapping[str, Any]]

    def batches(
        self, batch_size: int, process_index: int = 0, process_count: int = 1
    ) -> Iterator[EvalBatch]:
        """This process's rows of every batch; all processes get equally many batches.

        Example `i` belongs to process `i % process_count`. Inputs and targets are cut before EOS.
        Rows that fill the last batch up repeat an example, with no loss weight.
        """
        num_rows = batch_size // process_count
        num_batches = -(-len(self.examples) // (num_rows * process_count))
        mine = np.arange(process_index, len(self.examples), process_count)
        for start in range(0, num_batches * num_rows, num_rows):
            places = mine[start : start + num_rows]
            is_real = np.arange(num_rows) < len(places)
            # Any example does to fill up: an input of nothing but padding may not.
            filled = np.concatenate([places, np.zeros(num_rows - len(places), int)])
            ids = {
                name: np.stack([self._padded(name, place) for place in filled])
                for name in mixtures.FEATURES
            }
            task_ids = np.full(num_rows, self.task_id, np.int32)
            batch = feature_converter.task_batch(ids["inputs"], ids["targets"], task_ids)
            weights = batch.decoder_loss_weights * is_real[:, None].astype(np.int32)
            yield EvalBatch(batch.replace(decoder_loss_weights=weights), is_real)

    def _padded(self, name: str, place: int) -> np.ndarray:
        ids = self.examples[place][name]
        row = np.zeros(self.task_feature_lengths[name], np.int32)
        kept = ids[: len(row)]
        row[: len(kept)] = kept
        if len(ids) > len(row) and ids[-1] == types.EOS_ID:
            row[-1] = types.EOS_ID
        return row


def read_examples(
    task: seqio.Task,
    task_id: int,
    task_feature_lengths: Mapping[str, int],
    split: str,
    num_examples: int | None = None,
    seed: int = 0,
    warns: bool = True,
    use_cached: bool = False,
) -> TaskExamples:
    """Reads a split of a task, in the task's own order, into memory.

    Args:
      task: what to read.
      task_id: its number.
      task_feature_lengths: tokens of `inputs` and of `targets`.
      split: one that the task has.
      num_examples: at most these, from the beginning; None: all.
      seed: for tasks that draw at random even in evaluation (few-shot prompts).
      warns: whether it says how many examples are longer than their length.
      use_cached: reads text from SeqIO's caches, not from the data.
    """
    _keep_tensorflow_off_accelerators()
    ds = _task_dataset(
        task, task_feature_lengths, split, shuffle=False, seed=seed, use_cached=use_cached
    )
    if num_examples is not None:
        ds = ds.take(num_examples)
    examples = list(_read(ds, task))
    for name in mixtures.FEATURES if warns else ():
        length = task_feature_lengths[name]
        count = sum(len(example[name]) > length for example in examples)
        if count:
            logging.warning(
                "%d of %d %s of task %s (%s) are longer than %d tokens and are cut.",
                count, len(examples), name, task.name, split, length,
            )  # fmt: skip
    return TaskExamples(task, task_id, dict(task_feature_lengths), examples)


@dataclasses.dataclass(frozen=True)
class TaskReport:
    """What `preflight` saw of a task.

    Attributes:
      mixing: share and size.
      num_checked: examples that were read.
      longest_inputs: most tokens of an input among them, before cutting.
      longest_targets: most tokens of a target.
      num_truncated: inputs among them that training would cut.
    """

    mixing: mixtures.MixingRow
    num_checked: int
    longest_inputs: int
    longest_targets: int
    num_truncated: int


def preflight(
    config: PipelineConfig,
    vocab_size: int | None = None,
    num_examples: int = 64,
    budget_secs: float = 5.0,
) -> dict[str, TaskReport]:
    """Finds, before anything is compiled or written, what would stop a run later.

    Names, data, task numbers, rates, vocabularies, and the lengths of examples: of all, where a
    task has no more than 20,000 and time permits, else of the first.

    Args:
      config: what will be read.
      vocab_size: rows of the model's embedding table; None leaves that check out.
      num_examples: read from each task in any case.
      budget_secs: after which no task is read any further; 0 reads the first examples alone.

    Returns:
      A report per task, sorted by name.

    Raises:
      ValueError: the first problem found, and what to do about it.
    """
    _keep_tensorflow_off_accelerators()
    tasks = mixtures.leaf_tasks(config.mixture_or_task_name, config.split, config.use_cached)
    mixtures.check_features_agree(tasks)
    mixtures.resolve_task_names(config.mixture_or_task_name, config.task_names)
    if vocab_size is not None:
        _check_vocabulary(tasks[0], vocab_size, config.is_small_vocabulary_allowed)
    table = mixtures.mixing_table(config.mixture_or_task_name, config.split, config.use_cached)
    deadline = time.monotonic() + budget_secs
    return {
        task.name: _check_examples(task, config, table[task.name], num_examples, deadline)
        for task in tasks
    }


def order_settings(config: PipelineConfig, report: Mapping[str, TaskReport]) -> dict[str, Any]:
    """What defines the order of a run's data, as JSON; a position holds under these alone.

    Args:
      config: what is read.
      report: of `preflight`.
    """
    return {
        "seed": config.seed,
        "batch_size": config.batch_size,
        "task_feature_lengths": {
            name: config.task_feature_lengths[name] for name in mixtures.FEATURES
        },
        "split": config.split,
        "use_cached": config.use_cached,
        "shuffle": config.shuffle,
        "shuffle_buffer_size": config.shuffle_buffer_size,
        "examples_per_turn": config.examples_per_turn,
        "mixing_rates": {name: task.mixing.rate for name, task in report.items()},
        "num_examples": {name: task.mixing.num_examples for name, task in report.items()},
    }


def _check_vocabulary(task: seqio.Task, vocab_size: int, is_small_allowed: bool) -> None:
    for name in mixtures.FEATURES:
        vocabulary = task.output_features[name].vocabulary
        if vocabulary.vocab_size > vocab_size:
            raise ValueError(
                "Every id of the vocabulary must have a row in the model's embedding; the "
                f"vocabulary of {task.name!r} has {vocabulary.vocab_size} ids and the model "
                f"vocab_size={vocab_size}. Set --vocabulary to the one that the model was trained "
                "with, or vocab_size to at least the vocabulary's."
            )
        unused = vocab_size - vocabulary.vocab_size
        if unused >= _VOCABULARY_MULTIPLE and not is_small_allowed:
            raise ValueError(
                f"Fewer than {_VOCABULARY_MULTIPLE} rows of the model's embedding may be without "
                f"an id, as T5's are; the vocabulary of {task.name!r} has {vocabulary.vocab_size} "
                f"ids and the model vocab_size={vocab_size}, which leaves {unused}. Set "
                "--vocabulary to the one that the model was trained with, vocab_size to the "
                "vocabulary's (rounded up), or PipelineConfig.is_small_vocabulary_allowed = True."
            )
        if (vocabulary.pad_id, vocabulary.eos_id) != (types.PAD_ID, types.EOS_ID):
            raise ValueError(
                f"A vocabulary must have padding at {types.PAD_ID} and EOS at {types.EOS_ID}, as "
                f"T5's do; that of {task.name!r} has {vocabulary.pad_id} and {vocabulary.eos_id}. "
                "Set --vocabulary to a T5, mT5 or ByT5 vocabulary."
            )


def _check_examples(
    task: seqio.Task,
    config: PipelineConfig,
    mixing: mixtures.MixingRow,
    num_examples: int,
    deadline: float,
) -> TaskReport:
    whole = seqio.ShardInfo(index=0, num_shards=1)
    lengths = config.task_feature_lengths
    is_small = mixing.num_examples is not None and mixing.num_examples <= _SMALL_SPLIT
    is_all_read = is_small and time.monotonic() < deadline
    # What is too long is told at the end, with the longest of all.
    config_of_check = dataclasses.replace(config, shuffle=False, truncate_targets=True)
    chunks = _read_rows(
        task, config_of_check, whole, turn=0, num_examples=None if is_all_read else num_examples
    )
    num_checked = num_truncated = 0
    longest = dict.fromkeys(mixtures.FEATURES, 0)
    first_long = None
    for chunk in chunks:
        num_checked += len(chunk["inputs"])
        num_truncated += int(np.sum(chunk["inputs_len"] > lengths["inputs"]))
        for name in mixtures.FEATURES:
            longest[name] = max(longest[name], int(chunk[f"{name}_len"].max()))
        if first_long is None and _has_long_target(chunk, lengths):
            first_long = chunk
        if num_checked >= num_examples and time.monotonic() > deadline:
            break
    if first_long is not None and not config.truncate_targets:
        raise _long_target_error(task, first_long, lengths, longest["targets"])
    return TaskReport(mixing, num_checked, longest["inputs"], longest["targets"], num_truncated)
