"""The configuration of a run under T5X in its folder, for whoever reads its checkpoints.

T5X's checkpoints hold parameters and not what they belong to. So `config.gin` says what was in fact
done: by which list tasks were numbered, and that frozen parameters were not cast.
"""

from __future__ import annotations

from collections.abc import Sequence

import gin
from clu import metric_writers
from t5x import gin_utils


def write(
    model_dir: str,
    summary_writer: metric_writers.MetricWriter | None,
    step: int,
    *,
    task_names: Sequence[str],
) -> None:
    """Writes `config.gin`; T5X's `summarize_config_fn`.

    Args:
      model_dir: of the run.
      summary_writer: gets the same text; None: there is none.
      step: of the run.
      task_names: the ordered list that numbers tasks.
    """
    done = {"TASK_NAMES": tuple(task_names), "FROZEN_DTYPE": "float32"}
    with gin.unlock_config():
        for name, value in done.items():
            gin.bind_parameter(f"{name}/gin.macro.value", value)
    gin_utils.summarize_gin_config(model_dir, summary_writer, step)
