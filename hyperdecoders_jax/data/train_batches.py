"""An endless stream of training batches that can be stopped and resumed bit for bit.

Which task fills which row is drawn from a generator that counts steps. Each task is a stream whose
order depends on the seed, the task's name and how often its data were read, so a position is one
step and two numbers per task. A thread reads ahead.

A task is read in epoch blocks. The first epoch of a block comes through SeqIO and a shuffle buffer.
If it fitted into that, it is kept as arrays and shuffled again for the block's other epochs, so
that small tasks do not pay for starting SeqIO at each epoch.
"""

import collections
import hashlib
import queue
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import seqio
from absl import logging

from hyperdecoders_jax import types
from hyperdecoders_jax.data import feature_converter, mixtures, reading
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.data.reading import Rows


class TrainIterator:
    """Endless batches of this process's share of each step, and the position to resume from.

    A context manager; `close` ends the reading thread, and so does losing the last reference.
    `process_index` of `process_count` is the share of every task that is read, and of every batch;
    `prefetch` batches are kept ready. Raises ValueError if a name, data, a rate or a size is wrong,
    as far as that shows without reading.
    """

    def __init__(
        self,
        config: PipelineConfig,
        process_index: int = 0,
        process_count: int = 1,
        prefetch: int = 4,
    ):
        reading.keep_tensorflow_off_accelerators()
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
        """Inputs cut so far, by task, in the batches that were returned."""
        return dict(self._truncated)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> types.Batch:
        if self._is_closed:
            raise RuntimeError(
                "A TrainIterator must be open, not closed. Make a new one and restore the position."
            )
        if self._reader is None:
            self._reader = _Reader(self._mixer, self._prefetch)
            weakref.finalize(self, self._reader.stop)
        # The mixer is ahead by what is prefetched: the position comes with the batch, not from it.
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
        """Continues after the batch of this `position`; reads at most an epoch block a task again.

        Raises ValueError if it is of another mixture or number of processes.
        """
        self._mixer.check(position)
        self._stop()
        self._mixer.restore(position)
        self._position = self._mixer.position()

    def close(self) -> None:
        """Ends the reading thread."""
        self._is_closed = True
        self._stop()

    def _stop(self) -> None:
        if self._reader is not None:
            self._reader.stop()
            self._reader = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class _Reader:
    """A thread that keeps batches ready; `get` raises what the thread raised, each time."""

    def __init__(self, mixer: "_Mixer", prefetch: int):
        self._queue: queue.Queue = queue.Queue(maxsize=max(1, prefetch))
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        # No reference to self, so that nothing keeps a forgotten iterator alive.
        args = (mixer, self._queue, self._stopped)
        self._thread = threading.Thread(
            target=_read_ahead, args=args, name="hyperdecoders-data", daemon=True
        )
        self._thread.start()

    def get(self) -> tuple[types.Batch, dict[str, Any], dict[str, int]]:
        if self._error is None:  # After an error the thread is gone and the queue stays empty.
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
        # A put without a timeout would never see that nobody reads any more.
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
                f"A batch must divide over the processes; got batch_size={config.batch_size} for "
                f"{process_count} processes. Set BATCH_SIZE to a multiple of {process_count}."
            )
        mixture = config.mixture_or_task_name
        tasks = mixtures.leaf_tasks(mixture, config.split, config.use_cached)
        mixtures.check_features_agree(tasks)
        self.task_names = mixtures.resolve_task_names(mixture, config.task_names)
        rates = mixtures.mixing_rates(mixture, tasks)
        # A task that is never drawn is never read.
        tasks = [task for task in tasks if rates[task.name] > 0]
        shard = seqio.ShardInfo(index=process_index, num_shards=process_count)
        self._streams = [_TaskStream(task, config, shard) for task in tasks]
        self._numbers = [mixtures.task_number(task.name, self.task_names) for task in tasks]
        self._cumulative = np.cumsum([rates[task.name] for task in tasks])
        self._cumulative[-1] = 1.0  # Rounding may leave the sum below a draw.
        self._config, self._shard = config, shard
        self._batch_size = config.batch_size // process_count
        self._step = 0

    def next_batch(self) -> tuple[types.Batch, dict[str, Any], dict[str, int]]:
        """The batch, the position behind it, and how many inputs of each task were cut."""
        lengths = self._config.task_feature_lengths
        # Each process draws its own tasks; together they follow the rates.
        draws = _generator(self._config.seed, "mixing", self._shard.index, self._step)
        choices = np.searchsorted(self._cumulative, draws.random(self._batch_size), side="right")
        sizes = {name: (self._batch_size, lengths[name]) for name in mixtures.FEATURES}
        ids = {name: np.zeros(size, np.int32) for name, size in sizes.items()}
        task_ids = np.zeros(self._batch_size, np.int32)
        truncated = {}
        for choice in np.unique(choices):
            stream = self._streams[choice]
            indices = np.flatnonzero(choices == choice)
            task_ids[indices] = self._numbers[choice]
            rows = stream.take(len(indices))
            for name in mixtures.FEATURES:
                ids[name][indices] = rows[name]
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
    """The endless rows of one task: epoch block after epoch block."""

    def __init__(self, task: seqio.Task, config: PipelineConfig, shard: seqio.ShardInfo):
        self.task = task
        self._config, self._shard = config, shard
        self._block = 0
        self._offset = 0  # Rows of the block that were taken.
        self._chunks = self._read()
        self._rest: Rows | None = None  # Of the chunk that was begun.

    def position(self) -> dict[str, int]:
        # Checkpoints of all versions call the epoch block "turn".
        return {"turn": self._block, "offset": self._offset}

    def restore(self, position: Mapping[str, int]) -> None:
        self._block, self._offset = position["turn"], position["offset"]
        self._chunks, self._rest = self._read(), None

    def take(self, count: int) -> Rows:
        """The next `count` rows."""
        parts = []
        while count:
            if self._rest is None or not _num_rows(self._rest):
                self._rest = next(self._chunks)
            parts.append(_select(self._rest, slice(count)))
            self._rest = _select(self._rest, slice(count, None))
            self._offset += _num_rows(parts[-1])
            count -= _num_rows(parts[-1])
        return _concatenate(parts)

    def _read(self) -> Iterator[Rows]:
        """Chunks from the position on, endlessly; nothing is read before the first is asked for."""
        skipped = self._offset
        while True:
            for chunk in self._read_block(self._block):
                if skipped < _num_rows(chunk):
                    yield _select(chunk, slice(skipped, None))
                skipped = max(0, skipped - _num_rows(chunk))
            if skipped:
                raise ValueError(
                    f"A data position must lie within the data; that of {self.task.name!r} is "
                    f"example {self._offset} of epoch block {self._block}, past the end. The data "
                    "or the configuration changed: restore them, or use a new model directory."
                )
            # Only now: a position at the end of a block stays there until more is asked for.
            self._block, self._offset = self._block + 1, 0

    def _read_block(self, block: int) -> Iterator[Rows]:
        """The rows of an epoch block, in chunks."""
        config = self._config
        kept: list[Rows] | None = []
        num_rows = 0
        for chunk in reading.read_rows(self.task, config, self._shard, block):
            num_rows += _num_rows(chunk)
            if num_rows > config.shuffle_buffer_size:
                kept = None  # Too many to hold: the block is this one epoch.
            else:
                kept.append(chunk)
            yield chunk
        if kept is None:
            return
        rows = _concatenate(kept)
        for epoch in range(1, -(-config.examples_per_turn // num_rows)):  # Rounded up.
            order = np.arange(num_rows)
            if config.shuffle:
                draws = _generator(config.seed, f"epoch of {self.task.name}", block, epoch)
                order = draws.permutation(num_rows)
            for start in range(0, num_rows, reading.CHUNK_ROWS):
                yield _select(rows, order[start : start + reading.CHUNK_ROWS])


def _num_rows(rows: Rows) -> int:
    return len(rows["inputs"])


def _concatenate(parts: Sequence[Rows]) -> Rows:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _select(rows: Rows, index: slice | np.ndarray) -> Rows:
    return {name: values[index] for name, values in rows.items()}


def _generator(seed: int, purpose: str, major: int, minor: int) -> np.random.Generator:
    """A generator that depends on its arguments alone."""
    # Philox is counter-based: a step's generator is made without those of the steps before.
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest())
    # The low words count what one generator draws.
    return np.random.Generator(np.random.Philox(key=key, counter=(major << 192) + (minor << 128)))
