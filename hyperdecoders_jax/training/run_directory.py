"""The directory of a run: its files' names, and what its checkpoints belong to.

<path>/metrics.jsonl      a line of metrics every N steps, and one per evaluated task
/checkpoints/STEP/  see `checkpoints`
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.training import metric_lines
from hyperdecoders_jax.training.checkpoints import Checkpoints
from hyperdecoders_jax.training.identity import UNKNOWN, Identity
from hyperdecoders_jax.training.metric_log import MetricLog
from hyperdecoders_jax.training.profiling import Profiler
from hyperdecoders_jax.types import WriteMetrics


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """The directory of one run, local or remote (gs://), and what its checkpoints belong to.

    They store `config_text` for people, and `identity` and `settings` (seeds, sizes and the like,
    as JSON), which are compared on restore. What of `recipe` (rates, steps and the like) changes
    on restore is told.
    """

    path: str
    identity: Identity = UNKNOWN
    config_text: str = ""
    settings: Mapping[str, Any] | None = None
    recipe: Mapping[str, Any] | None = None

    @property
    def metrics_path(self) -> epath.Path:
        return epath.Path(self.path) / "metrics.jsonl"

    def evaluated(self, step: int) -> dict[str, dict[str, float]]:
        """The metrics of each task, evaluated at a step; empty without any."""
        return metric_lines.evaluated(self.metrics_path, step)

    def check_writable(self) -> None:
        """Raises ValueError, and leaves no trace, if the directory cannot be written."""
        files.check_writable(self.path)

    def make(self) -> None:
        """Makes the directory, unless it is there."""
        epath.Path(self.path).mkdir(parents=True, exist_ok=True)

    def metric_log(self, writers: Sequence[WriteMetrics] = ()) -> MetricLog:
        """Returns what writes the run's metrics, to `metrics_path` and to the writers."""
        return MetricLog(self.metrics_path, writers)

    def profiler(self, steps: tuple[int, int] | None) -> Profiler:
        """Returns what traces these steps, into the folder where TensorBoard looks for traces."""
        return Profiler(epath.Path(self.path) / "tensorboard", steps)

    def checkpoints(
        self, keep_last: int | None = None, greater_is_better: bool = True
    ) -> Checkpoints:
        """Returns the run's checkpoints; to read them, the path of the directory is enough."""
        return Checkpoints(
            epath.Path(self.path) / "checkpoints",
            self.identity,
            config_text=self.config_text,
            settings=self.settings,
            recipe=self.recipe,
            keep_last=keep_last,
            greater_is_better=greater_is_better,
        )
