"""An endless stream of training batches that can be stopped and resumed bit for bit.

A `Mixer` makes the batches, a thread reads ahead.
"""

import collections
import dataclasses
import queue
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Self

from absl import logging

from hyperdecoders_jax import types
from hyperdecoders_jax.data import mixer as mixer_lib
from hyperdecoders_jax.data import reading
from hyperdecoders_jax.data.mixer import Mixer
from hyperdecoders_jax.data.pipeline import PipelineConfig

# Rows of the trial packing that estimates the examples of a row.
_TRIAL_ROWS = 256


def with_examples_per_step(
    config: PipelineConfig, multiple: int, process_count: int = 1, begun_rows: int | None = None
) -> PipelineConfig:
    """`config` with the `batch_size`, in rows, that its `examples_per_step` asks for.

    It is rounded to a `multiple`, and the same for the same data and seed: the first rows are
    packed for a trial. A run that is continued keeps its `begun_rows`, else its data would be other
    ones; ValueError unless they divide by `multiple`, devices × micro-batches. Without
    `examples_per_step`, `config` is returned as it is.
    """
    if config.examples_per_step is None:
        return config
    if begun_rows is not None:
        if begun_rows % multiple:
            divisors = [n for n in range(1, begun_rows + 1) if begun_rows % n == 0]
            raise ValueError(
                "The rows of a packed run that is continued must divide by data-parallel devices × "
                f"micro-batches; its steps have {begun_rows} rows, and {multiple} parts are asked "
                f"for. Use devices × micro-batches of {_any_of(divisors)}, or start in a new model "
                "directory."
            )
        return dataclasses.replace(config, batch_size=begun_rows)
    num_rows = 64
    # Few rows are filled less well than many, so the second trial has as many as a process will.
    for _ in range(2):
        rows = max(1, num_rows // process_count)
        trial = mixer_lib.PackedMixer(dataclasses.replace(config, batch_size=rows), 0, 1)
        num_steps = -(-_TRIAL_ROWS // rows)  # Rounded up.
        for _ in range(num_steps):
            trial.next_batch()
        per_row = trial.position()["packed"]["examples"] / (rows * num_steps)
        num_rows = max(1, round(config.examples_per_step / per_row / multiple)) * multiple
    return dataclasses.replace(config, batch_size=num_rows)


def _any_of(numbers: Sequence[int]) -> str:
    """`1, 2 or 4`."""
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last}" if first else last


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
        self._mixer = mixer_lib.make(config, process_index, process_count)
        self._config, self._prefetch = config, prefetch
        self._position = self._mixer.position()
        self._truncated = collections.Counter()
        self._reader: _Reader | None = None
        self._is_advised = self._is_closed = False

    @property
    def task_names(self) -> tuple[str, ...]:
        """The ordered list that `task_ids` counts in."""
        return self._mixer.task_names

    @property
    def truncated_inputs(self) -> dict[str, int]:
        """Inputs cut so far, by task, in the batches that were returned."""
        return dict(self._truncated)

    def packing(self) -> dict[str, float]:
        """Of packed rows: `fill`, the share of tokens that are real, and `examples_per_step`.

        Both are means since the run began, estimated from this process's rows. Empty for others.
        """
        position = self._position
        if not (sums := position.get("packed")) or not position["step"]:
            return {}
        num_steps = position["step"]
        num_rows = self._config.batch_size // position["process_count"] * num_steps
        return {
            "fill": sums["tokens"] / (num_rows * sum(self._config.packed_lengths.values())),
            "examples_per_step": sums["examples"] * position["process_count"] / num_steps,
        }

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
        if not self._is_advised and (advice := self._mixer.advice()):
            logging.warning(advice)
            self._is_advised = True
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

    def __init__(self, mixer: Mixer, prefetch: int):
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


def _read_ahead(mixer: Mixer, ready: queue.Queue, stopped: threading.Event) -> None:
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
