"""The files that a training run writes about itself."""

from __future__ import annotations

from collections.abc import Mapping

import jax
from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.weights import run_folder
from hyperdecoders_jax.weights.run_folder import RunFile


class RunFiles:
    """The description, configuration and TensorBoard log in a model directory.

    None is made before the trainer asks for it: a run must leave another run's files as they are.
    `config_text` is gin; empty where Python made the run.
    """

    def __init__(self, model_dir: str, config_text: str, described: RunFile):
        self._model_dir = model_dir
        self._config_text = config_text
        self._described = described
        self._writer = None

    def write_config(self) -> None:
        """Writes `config.json`, and `config.gin` for people; before the first checkpoint stands."""
        run_folder.write(self._model_dir, self._described)
        if self._config_text:
            path = epath.Path(self._model_dir) / run_folder.SAVED_GIN
            files.write_text(path, self._config_text)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars of one step to the TensorBoard log, in one process of the run."""
        if jax.process_index():
            return
        with files.writing(f"{self._model_dir}/tensorboard"):
            if self._writer is None:
                from clu import metric_writers

                self._writer = metric_writers.SummaryWriter(f"{self._model_dir}/tensorboard")
            self._writer.write_scalars(step, dict(values))
            self._writer.flush()

    def close(self) -> None:
        """Ends the log."""
        if self._writer is not None:
            self._writer.close()
