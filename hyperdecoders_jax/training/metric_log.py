"""The metrics of a run as it trains: lines in its directory, and numbers for writers of others.

A writer gets names such as "train/loss" and "eval/TASK/METRIC"; see `trained.metric_writers`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import jax
from etils import epath

from hyperdecoders_jax.evaluation import averages
from hyperdecoders_jax.training import metric_lines
from hyperdecoders_jax.types import Metrics, WriteMetrics


class MetricLog:
    """The metrics of one run; only process 0 writes."""

    def __init__(self, path: epath.Path, writers: Sequence[WriteMetrics] = ()):
        self._path, self._writers = path, writers
        self._is_main = jax.process_index() == 0

    def resume(self, step: int, *, is_evaluated: bool) -> None:
        """Drops what a run that continues after `step` writes again; see `drop_after`."""
        if self._is_main:
            metric_lines.drop_after(self._path, step, is_evaluated=is_evaluated)

    def write(self, step: int, kind: str, values: Mapping[str, float], **labels: str) -> None:
        """Writes one line, with its labels, such as `task="cola"`, before the numbers."""
        if not self._is_main:
            return
        metric_lines.append(self._path, step, kind, {**labels, **values})
        prefix = "/".join((kind, *labels.values()))
        for write in self._writers:
            write(step, {f"{prefix}/{name}": value for name, value in values.items()})

    def write_evaluation(self, step: int, metrics: Metrics, left_out: Collection[str] = ()) -> None:
        """Writes a line for each task and, if there is any, one of their averages."""
        for task, values in metrics.items():
            self.write(step, "eval", values, task=task)
        if metrics:
            self.write(step, "average", averages.compute(metrics, left_out))
