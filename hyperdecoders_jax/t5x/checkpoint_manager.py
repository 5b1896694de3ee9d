"""Which checkpoints a run under T5X keeps: the newest, and the best.

T5X's own `SaveBestCheckpointer` watches one metric of one task, and keeps every checkpoint between
two evaluations. Here the best is found by any metric or average, as in our own runner. The values
are in the files that T5X writes for each task, `MODEL_DIR/inference_eval/TASK-metrics.jsonl`, and
are read when a checkpoint is saved and when the run ends.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from absl import logging
from etils import epath
from t5x import checkpoints, utils

from hyperdecoders_jax.training import checkpoints as own_checkpoints
from hyperdecoders_jax.training.trainer import BestCheckpointConfig
from hyperdecoders_jax.types import Metrics
from hyperdecoders_jax.weights import t5x_checkpoint

_Manager = checkpoints.OrbaxCheckpointManagerInterface._CheckpointManagerImpl


class KeepsBest(_Manager):
    """T5X's part of Orbax's manager, which removes every checkpoint but the newest and the best."""

    def __init__(self, *args: Any, best: BestCheckpointConfig, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._best = best

    def close(self) -> None:
        """Ends the manager, and writes which of the checkpoints is the best."""
        super().close()
        self._find_best()

    def _get_old_steps_to_remove(self) -> list[int]:
        best = self._find_best()
        return [step for step in super()._get_old_steps_to_remove() if step != best]

    def _find_best(self) -> int | None:
        """The best step of those whose checkpoint is there; written, and equal in all processes."""
        best_step = -1
        if jax.process_index() == 0:
            found = find_best(self.directory, self.all_steps(), self._best)
            if found is not None:
                t5x_checkpoint.write_best(self.directory, found, self._best.metric)
                best_step = found
        best_step = own_checkpoints.agree(best_step)
        return None if best_step == -1 else best_step


def keep_best(
    save: utils.SaveCheckpointConfig, best: BestCheckpointConfig
) -> utils.SaveCheckpointConfig:
    """Returns `save`, and makes T5X keep the best checkpoint besides, in all runs of the process.

    For `utils.CheckpointConfig.save`.
    """
    # A run that is continued takes T5X's own manager, whatever `checkpoint_manager_cls` says.
    made = functools.partial(KeepsBest, best=best)
    checkpoints.OrbaxCheckpointManagerInterface._CheckpointManagerImpl = staticmethod(made)
    return save


def find_best(
    model_dir: epath.Path, steps: Sequence[int], best: BestCheckpointConfig
) -> int | None:
    """The best of the steps that were evaluated; None, and an error in the log, without a value."""
    by_step = read_metrics(model_dir / "inference_eval")
    best_step = best_value = None
    try:
        for step in sorted(by_step.keys() & set(steps)):
            value = best.value(by_step[step])
            if value is not None and best.is_better(value, best_value):
                best_step, best_value = step, value
    except KeyError as error:  # Saving must not fail; an evaluation raises it.
        logging.error("No checkpoint is kept as the best: %s", error)
        return None
    return best_step


def read_metrics(folder: epath.Path) -> dict[int, Metrics]:
    """Step -> task -> metric -> number, of the steps at which all tasks were evaluated."""
    suffix, by_task = "-metrics.jsonl", {}
    for file in sorted(folder.glob(f"*{suffix}")):
        lines = map(json.loads, file.read_text().splitlines())
        # The last line of a step that was evaluated again.
        by_task[file.name.removesuffix(suffix)] = {line.pop("step"): line for line in lines}
    if not by_task:
        return {}
    steps = set.intersection(*map(set, by_task.values()))
    return {step: {task: _numbers(rows[step]) for task, rows in by_task.items()} for step in steps}


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    # SeqIO writes texts and lists, too.
    return {name: x for name, x in metrics.items() if isinstance(x, int | float)}
