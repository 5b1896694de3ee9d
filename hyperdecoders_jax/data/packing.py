"""Packing: several examples in one row of a batch, so that little of it is padding.

Examples are put first-fit into the rows of a step: each into the first row that has room for its
inputs and its targets. When `WINDOW` of them have found no row, the step is full; they come first
in the next one, where there is a row for each. So no example is dropped, cut or delayed by more
than one step, and the mixture of the examples is the one that was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hyperdecoders_jax import types

# Most examples that wait for the next step, and no more than a step has rows. More would fill the
# rows better. They are read again when a run is continued.
WINDOW = 32
# Steps after which a packer can tell what ends its rows.
_ADVISED_STEPS = 8
# Of a row's targets beyond their mean, so that inputs end it.
_TARGETS_SPARE = 1.1


class Example(NamedTuple):
    """Ids without padding, and the number of the task."""

    inputs: np.ndarray
    targets: np.ndarray
    task_id: int
    origin: Any = None  # Where its reader finds it again.


class Packer:
    """Puts examples into rows, first-fit."""

    def __init__(self, lengths: Mapping[str, int], num_rows: int, max_segments: int):
        self._lengths, self._max_segments = lengths, max_segments
        self._num_rows = num_rows
        self.left_over: list[Example] = []  # In their order: the first of the next step.
        # Steps so far, pairs of a row and an example left over, and those that only targets kept
        # apart; tokens and examples that were packed.
        self._num_steps = self._num_refused = self._num_refused_for_targets = 0
        self._packed = np.zeros(3, int)

    def next_rows(self, draw: Callable[[], Example]) -> list[list[Example]]:
        """The examples of each row of one step; `draw` gives the next example, endlessly.

        Raises ValueError for an example without inputs.
        """
        # Room for inputs, targets and one more segment, by row.
        room = np.array([[self._lengths["inputs"], self._lengths["targets"], self._max_segments]])
        room = np.repeat(room, self._num_rows, axis=0)
        rows: list[list[Example]] = [[] for _ in range(self._num_rows)]
        waiting, self.left_over = self.left_over[::-1], []
        most_left = min(WINDOW, self._num_rows)
        # Without a segment to spare no example fits, however short.
        while len(self.left_over) < most_left and room[:, 2].any():
            # There are no more of them than rows, so each finds room.
            example = waiting.pop() if waiting else draw()
            if not len(example.inputs):
                task, block, number = example.origin
                raise empty_inputs_error(f"example {number} of task {task!r}, epoch block {block}")
            needed = (len(example.inputs), len(example.targets), 1)
            fits = (room >= needed).all(axis=1)
            row = int(fits.argmax())
            if fits[row]:
                room[row] -= needed
                rows[row].append(example)
            else:
                self.left_over.append(example)
        self._count(room)
        return rows

    def _count(self, room: np.ndarray) -> None:
        needed = [(len(example.inputs), len(example.targets), 1) for example in self.left_over]
        lacks = room < np.array(needed, int).reshape(-1, 1, 3)  # [waiting, rows, 3]
        self._num_steps += 1
        self._num_refused += lacks.any(axis=-1).sum()
        self._num_refused_for_targets += (lacks == (False, True, False)).all(axis=-1).sum()
        size = (self._lengths["inputs"], self._lengths["targets"], self._max_segments)
        self._packed += self._num_rows * np.array(size) - room.sum(axis=0)

    def advice(self) -> str | None:
        """Which row lengths to set where targets end rows, not inputs; None in the first steps."""
        is_known = self._num_steps >= _ADVISED_STEPS
        if not is_known or self._num_refused_for_targets <= self._num_refused / 2:
            return None
        inputs, targets, count = self._packed
        most = min(self._lengths["inputs"] * count / inputs, self._max_segments)
        wanted = max(_TARGETS_SPARE * most * targets / count, self._lengths["targets"] + 1)
        lengths = {"inputs": self._lengths["inputs"], "targets": 8 * math.ceil(wanted / 8)}
        share = inputs / (self._num_rows * self._num_steps * self._lengths["inputs"])
        return (
            f"Targets end most packed rows, not inputs, of which {share:.0%} are filled. Set "
            f"ROW_LENGTHS = {lengths}, now {dict(self._lengths)}."
        )


def empty_inputs_error(which: str) -> ValueError:
    """The error about an example without inputs."""
    return ValueError(
        "An example must have at least one token of inputs to be packed, or its decoder would "
        f"read its neighbours; {which} has none. Append EOS to inputs, filter such examples out, "
        "or set PACK = False."
    )


def packed_batch(
    rows: Sequence[Sequence[Example]], lengths: Mapping[str, int], max_segments: int
) -> types.Batch:
    """A batch of packed rows; the decoder reads each segment's targets shifted right.

    >>> one = Example(np.array([5, 1]), np.array([7, 1]), 3)
    >>> two = Example(np.array([6, 1]), np.array([1]), 0)
    >>> batch = packed_batch([[one, two]], {"inputs": 5, "targets": 4}, max_segments=2)
    >>> batch.encoder_input_tokens, batch.encoder_segment_ids
    (array([[5, 1, 6, 1, 0]], dtype=int32), array([[1, 1, 2, 2, 0]], dtype=int32))
    >>> batch.decoder_input_tokens, batch.decoder_positions
    (array([[0, 7, 0, 0]], dtype=int32), array([[0, 1, 0, 0]], dtype=int32))
    >>> batch.task_ids
    array([[3, 0]], dtype=int32)
    """

    def zeros(length):
        return np.zeros((len(rows), length), np.int32)

    ids, segment_ids, positions = (
        {name: zeros(length) for name, length in lengths.items()} for _ in range(3)
    )
    decoder_inputs, task_ids = zeros(lengths["targets"]), zeros(max_segments)
    for i, row in enumerate(rows):
        for name in lengths:
            texts = [getattr(example, name) for example in row]
            sizes = [len(text) for text in texts]
            filled = slice(sum(sizes))
            if texts:
                ids[name][i, filled] = np.concatenate(texts)
                segment_ids[name][i, filled] = np.repeat(np.arange(1, len(row) + 1), sizes)
                positions[name][i, filled] = np.concatenate([np.arange(size) for size in sizes])
        task_ids[i, : len(row)] = [example.task_id for example in row]
    decoder_inputs[:, 1:] = ids["targets"][:, :-1]
    is_first = positions["targets"] == 0  # And padding, whose id it is, too.
    decoder_inputs[is_first] = types.DECODER_START_ID
    return types.Batch(
        encoder_input_tokens=ids["inputs"],
        decoder_input_tokens=decoder_inputs,
        decoder_target_tokens=ids["targets"],
        decoder_loss_weights=(segment_ids["targets"] > 0).astype(np.int32),
        task_ids=task_ids,
        encoder_segment_ids=segment_ids["inputs"],
        encoder_positions=positions["inputs"],
        decoder_segment_ids=segment_ids["targets"],
        decoder_positions=positions["targets"],
    )
