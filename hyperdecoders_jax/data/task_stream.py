"""The endless rows of one task, in an order that a seed fixes, from any position on.

The order depends on the seed, the task's name and how often its data were read. A task is read in
epoch blocks. The first epoch of a block comes through SeqIO and a shuffle buffer. If it fitted into
that, it is kept as arrays and shuffled again for the block's other epochs, so that small tasks do
not pay for starting SeqIO at each epoch.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import seqio

from hyperdecoders_jax.data import reading
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.data.reading import Rows


class TaskStream:
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
                raise outside_error(self.task.name, self.position())
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
                draws = generator(config.seed, f"epoch of {self.task.name}", block, epoch)
                order = draws.permutation(num_rows)
            for start in range(0, num_rows, reading.CHUNK_ROWS):
                yield _select(rows, order[start : start + reading.CHUNK_ROWS])


def outside_error(task_name: str, position: Mapping[str, int]) -> ValueError:
    """The error about a position that is not one of the task's data."""
    return ValueError(
        f"A data position must lie within the data; that of {task_name!r} is example "
        f"{position['offset']} of epoch block {position['turn']}, past the end. The data or the "
        "configuration changed: restore them, or use a new model directory."
    )


def _num_rows(rows: Rows) -> int:
    return len(rows["inputs"])


def _concatenate(parts: Sequence[Rows]) -> Rows:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _select(rows: Rows, index: slice | np.ndarray) -> Rows:
    return {name: values[index] for name, values in rows.items()}


def generator(seed: int, purpose: str, major: int, minor: int) -> np.random.Generator:
    """A generator that depends on its arguments alone."""
    # Philox is counter-based: a step's generator is made without those of the steps before.
    key = int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest())
    # The low words count what one generator draws.
    return np.random.Generator(np.random.Philox(key=key, counter=(major << 192) + (minor << 128)))
