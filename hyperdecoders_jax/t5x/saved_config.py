"""What a run under T5X says of itself, in its folder, for whoever reads its checkpoints.

These hold parameters alone; `config.json` says what they belong to. `config.gin` is to train again,
and says by which list tasks were numbered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import gin
import jax
from clu import metric_writers
from etils import epath
from t5x import gin_utils

from hyperdecoders_jax.trained import describe
from hyperdecoders_jax.training import trainable
from hyperdecoders_jax.weights import run_folder

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig


def write(
    model_dir: str,
    summary_writer: metric_writers.MetricWriter | None,
    step: int,
    *,
    task_names: Sequence[str],
    run: RunConfig,
) -> None:
    """T5X's `summarize_config_fn`: config.gin, and config.json of `run` as we would train it."""
    # The user may have left it at None, and the file alone is to tell what was done.
    with gin.unlock_config():
        gin.bind_parameter("TASK_NAMES/gin.macro.value", tuple(task_names))
    gin_utils.summarize_gin_config(model_dir, summary_writer, step)
    if jax.process_index() == 0:
        model = run.model.for_tasks(task_names)
        trained, _ = trainable.split(model.param_shapes(), run.trainable)
        described = describe.describe(run, model, task_names, trained, runner=run_folder.T5X_RUNNER)
        run_folder.write(model_dir, described)


def write_beside_predictions(
    model_dir: str, summary_writer: metric_writers.MetricWriter | None, step: int
) -> None:
    """T5X's `summarize_config_fn` for inference; ValueError beside another config's predictions."""
    folder = epath.Path(model_dir)
    file = folder / "config.gin"
    # T5X names its files "<task>-…-of-…": without one, a config.gin alone is harmless.
    is_another = file.exists() and file.read_text() != gin_utils.get_gin_config_str()
    if is_another and any("-of-" in path.name for path in folder.iterdir()):
        raise ValueError(
            "T5X adds to predictions of the same configuration; those in "
            f"{model_dir} are of another one, see config.gin there. Remove the folder, or name "
            "another with --gin.INFER_OUTPUT_DIR=…."
        )
    gin_utils.summarize_gin_config(model_dir, summary_writer, step)
