"""Mixing of tasks: which task an example is of is drawn by a generator that counts steps.

So a position is one step and two numbers for each task, see `task_stream`; of packed rows, also
where the examples were read that wait for the next step.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio

from hyperdecoders_jax import types
from hyperdecoders_jax.data import feature_converter, mixtures, packing, task_stream
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.data.task_stream import TaskStream


def make(config: PipelineConfig, process_index: int = 0, process_count: int = 1) -> Mixer:
    """The mixer that `PipelineConfig.pack` asks for."""
    kind = PackedMixer if config.pack else Mixer
    return kind(config, process_index, process_count)


class Mixer:
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
        self._streams = [TaskStream(task, config, shard) for task in tasks]
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
        draws = task_stream.generator(self._config.seed, "mixing", self._shard.index, self._step)
        choices = np.searchsorted(self._cumulative, draws.random(self._batch_size), side="right")
        sizes = {name: (self._batch_size, lengths[name]) for name in types.FEATURES}
        ids = {name: np.zeros(size, np.int32) for name, size in sizes.items()}
        task_ids = np.zeros(self._batch_size, np.int32)
        truncated = {}
        for choice in np.unique(choices):
            stream = self._streams[choice]
            indices = np.flatnonzero(choices == choice)
            task_ids[indices] = self._numbers[choice]
            rows = stream.take(len(indices))
            for name in types.FEATURES:
                ids[name][indices] = rows[name]
            count = int(np.sum(rows["inputs_len"] > lengths["inputs"]))
            if count:
                truncated[stream.task.name] = count
        self._step += 1
        batch = feature_converter.task_batch(ids["inputs"], ids["targets"], task_ids)
        return batch, self.position(), truncated

    def advice(self) -> str | None:
        """What would fill rows better, once that shows; None for rows of one example."""
        return None

    def position(self) -> dict[str, Any]:
        """Where the last batch ended; goes through JSON unchanged."""
        return {
            "step": self._step,
            "process_index": self._shard.index,
            "process_count": self._shard.num_shards,
            "tasks": {stream.task.name: stream.position() for stream in self._streams},
        }

    def check(self, position: Mapping[str, Any]) -> None:
        """Raises ValueError for a position of other processes, another mixture or packing."""
        ours = self.position()
        if ("packed" in position) != ("packed" in ours):
            was, here = ("packed" in x for x in (position, ours))
            raise ValueError(
                "A run must be continued with rows packed as they were; the checkpoint has "
                f"PACK={was}, this run PACK={here}. Set PACK (PipelineConfig.pack) as it was, or "
                "use a new model directory."
            )
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
        """Continues after a position that `check` accepts."""
        self._step = position["step"]
        for stream in self._streams:
            stream.restore(position["tasks"][stream.task.name])


class PackedMixer(Mixer):
    """Draws examples as `Mixer` does, and packs them into the rows of a batch."""

    def __init__(self, config: PipelineConfig, process_index: int, process_count: int):
        super().__init__(config, process_index, process_count)
        self._lengths = config.packed_lengths
        self._packer = packing.Packer(self._lengths, self._batch_size, config.max_segments)
        self._sums = {"examples": 0, "tokens": 0}

    def next_batch(self) -> tuple[types.Batch, dict[str, Any], dict[str, int]]:
        draws = task_stream.generator(self._config.seed, "mixing", self._shard.index, self._step)
        truncated = collections.Counter()
        rows = self._packer.next_rows(lambda: self.draw(draws, truncated))
        batch = packing.packed_batch(rows, self._lengths, self._config.max_segments)
        self._step += 1
        self._sums["examples"] += sum(map(len, rows))
        real = (batch.encoder_segment_ids, batch.decoder_segment_ids)
        self._sums["tokens"] += sum(int(np.count_nonzero(ids)) for ids in real)
        return batch, self.position(), dict(truncated)

    def draw(
        self, draws: np.random.Generator, truncated: collections.Counter[str]
    ) -> packing.Example:
        """The next example of a task that is drawn; counts it in `truncated` if inputs are cut."""
        choice = int(np.searchsorted(self._cumulative, draws.random(), side="right"))
        return self._take(choice, truncated)

    def _take(self, choice: int, truncated: collections.Counter[str]) -> packing.Example:
        stream = self._streams[choice]
        origin = (stream.task.name, *stream.position().values())
        rows = stream.take(1)
        ids = {}
        for name in self._lengths:
            length = self._config.task_feature_lengths[name]
            num_tokens = int(rows[f"{name}_len"][0])
            ids[name] = rows[name][0, : min(num_tokens, length)]
            if name == "inputs" and num_tokens > length:
                truncated[stream.task.name] += 1
        return packing.Example(**ids, task_id=self._numbers[choice], origin=origin)

    def advice(self) -> str | None:
        return self._packer.advice()

    def position(self) -> dict[str, Any]:
        left_over = [list(example.origin) for example in self._packer.left_over]
        return {**super().position(), "left_over": left_over, "packed": dict(self._sums)}

    def restore(self, position: Mapping[str, Any]) -> None:
        super().restore(position)
        self._sums = dict(position["packed"])
        origins = [tuple(origin) for origin in position["left_over"]]
        read = {}
        for choice, stream in enumerate(self._streams):
            name = stream.task.name
            wanted = {origin for origin in origins if origin[0] == name}
            end = stream.position()
            if wanted:
                _, turn, offset = min(wanted, key=lambda origin: origin[1:])
                stream.restore({"turn": turn, "offset": offset})
            # From the first that waits to where the stream was: less than a step's examples.
            while wanted and stream.position() != end:
                if tuple(stream.position().values()) > tuple(end.values()):
                    raise task_stream.outside_error(name, end)
                example = self._take(choice, collections.Counter())
                read[example.origin] = example
        self._packer.left_over = [read[origin] for origin in origins]
