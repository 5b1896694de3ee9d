"""Files that describe a run under T5X, in its folder.

T5X's checkpoints hold parameters, and not what they belong to. So `config.gin` says what was in
fact done: by which list tasks were numbered, and that frozen parameters were not cast.
"""

from __future__ import annotations

from collections.abc import Sequence

import gin
from clu import metric_writers
from etils import epath
from t5x import gin_utils


def write(
    model_dir: str,
    summary_writer: metric_writers.MetricWriter | None,
    step: int,
    *,
    task_names: Sequence[str],
) -> None:
    """Writes the files that describe the run; T5X's `summarize_config_fn`.

    T5X calls it once in every process, before the first step; process 0 writes. Any further file
    that describes a run, beside `config.gin`, is to be written here.
    `task_names` is the ordered list that numbers tasks; the other arguments are T5X's.
    """
    # Macros that the user may have left at None, so that the file alone tells what was done.
    done = {"TASK_NAMES": tuple(task_names), "FROZEN_DTYPE": "float32"}
    with gin.unlock_config():
        for name, value in done.items():
            gin.bind_parameter(f"{name}/gin.macro.value", value)
    gin_utils.summarize_gin_config(model_dir, summary_writer, step)


def write_beside_predictions(
    model_dir: str, summary_writer: metric_writers.MetricWriter | None, step: int
) -> None:
    """Writes `config.gin`; T5X's `summarize_config_fn` for inference.

    T5X continues predictions that it finds in `model_dir`, so they must be of one configuration.

    Raises:
        ValueError: there are some of another configuration.
    """
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
