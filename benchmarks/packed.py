"""Packed batches for benchmarks: of an experiment's own data, or of made lengths."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable

import numpy as np

from hyperdecoders_jax import types
from hyperdecoders_jax.data import packing
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.types import Batch

Draw = Callable[[], packing.Example]


def make_reader(data: PipelineConfig, lengths: str | None) -> tuple[Draw, tuple[str, ...] | None]:
    """What draws the next example, and the names of the tasks."""
    if lengths is not None:
        return _made(data, lengths), None
    from hyperdecoders_jax.data import mixer  # SeqIO's import takes seconds.

    reader = mixer.PackedMixer(dataclasses.replace(data, pack=True, examples_per_step=None), 0, 1)
    rng = np.random.default_rng(data.seed)
    return lambda: reader.draw(rng, collections.Counter()), reader.task_names


def _made(data: PipelineConfig, lengths: str) -> Draw:
    """Tokens of log-normal lengths, whose deviation is half of the mean, as those of GLUE."""
    means, shares = parse_lengths(lengths)
    rng = np.random.default_rng(data.seed)
    sigma = np.sqrt(np.log(1.25))

    def draw():
        task = int(rng.choice(len(means), p=shares))
        ids = []
        for mean, name in zip(means[task], types.FEATURES, strict=True):
            longest = data.task_feature_lengths[name]
            length = mean * np.exp(sigma * rng.standard_normal() - sigma**2 / 2)
            ids.append(rng.integers(2, 30, int(np.clip(round(length), 1, longest))))
        return packing.Example(*ids, task_id=task)

    return draw


def parse_lengths(lengths: str) -> tuple[list[tuple[float, float]], list[float]]:
    """Each task's mean tokens of inputs and targets, and its share of the examples.

    >>> parse_lengths("45x3,60x2@3")
    ([(45.0, 3.0), (60.0, 2.0)], [0.25, 0.75])
    """
    parts = [text.partition("@") for text in lengths.split(",")]
    means = [tuple(map(float, mean.split("x"))) for mean, _, _ in parts]
    sizes = [float(size or 1) for _, _, size in parts]
    if any(
        len(mean) != 2 or min(*mean, size) <= 0 for mean, size in zip(means, sizes, strict=True)
    ):
        raise ValueError(
            "--pack_lengths must be INPUTSxTARGETS of each task, mean tokens above 0, with @SIZE "
            f"behind it where tasks are not drawn alike; got {lengths!r}. Write 45x3,60x2@3."
        )
    return means, [size / sum(sizes) for size in sizes]


def make_batch(
    data: PipelineConfig, num_examples: int, multiple: int, draw: Draw
) -> tuple[Batch, int, float]:
    """The second step of rows for about so many examples; their number, the share of real tokens.

    The rows are as many as hold them on average, rounded to a `multiple`.
    """
    lengths = data.packed_lengths
    trial = packing.Packer(lengths, 64, data.max_segments)
    per_row = sum(map(len, trial.next_rows(draw))) / 64
    num_rows = max(1, round(num_examples / per_row / multiple)) * multiple
    packer = packing.Packer(lengths, num_rows, data.max_segments)
    packer.next_rows(draw)
    rows = packer.next_rows(draw)
    batch = packing.packed_batch(rows, lengths, data.max_segments)
    real = (batch.encoder_segment_ids > 0).sum() + (batch.decoder_segment_ids > 0).sum()
    return batch, sum(map(len, rows)), real / (len(rows) * sum(lengths.values()))
