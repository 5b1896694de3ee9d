"""Metric writers: a run's scalars for TensorBoard, Weights & Biases or MLflow.

`METRIC_WRITERS = ('tensorboard', 'wandb')` names them, beside `metrics.jsonl`. A service that fails
while a run trains is a warning, and the run goes on without it: `metrics.jsonl` has all that it
missed. A continued run goes on in the service's own run, whose id `metric_runs.json` in the model
directory keeps.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from absl import logging
from etils import epath

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.weights import run_folder

RUNS_FILE = "metric_runs.json"


class Writer(Protocol):
    """One run's log in one place; made when the run starts."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    """Event files in the model directory, made with the first scalars."""

    def __init__(self, model_dir: str, settings: Mapping[str, Any], run_id: str | None):
        del settings
        self._folder, self._writer = f"{model_dir}/tensorboard", None
        self.run_id = run_id

    def write(self, step, values):
        with files.writing(self._folder):
            if self._writer is None:
                from clu import metric_writers

                self._writer = metric_writers.SummaryWriter(self._folder)
            self._writer.write_scalars(step, dict(values))
            self._writer.flush()

    def close(self):
        if self._writer is not None:
            self._writer.close()


class _WandB:
    """A run of Weights & Biases; its own variables choose project, entity and mode."""

    def __init__(self, model_dir: str, settings: Mapping[str, Any], run_id: str | None):
        import wandb

        # "create_new": a run of the same process that is still open is another's.
        options = {"id": run_id, "resume": "allow", "reinit": "create_new"}
        self._run = wandb.init(name=_name(model_dir), config=dict(settings), **options)
        self.run_id = self._run.id

    def write(self, step, values):
        self._run.log(dict(values), step=step)

    def close(self):
        self._run.finish()


class _MLflow:
    """A run of MLflow; its own variables choose server and experiment."""

    def __init__(self, model_dir: str, settings: Mapping[str, Any], run_id: str | None):
        import mlflow

        self._mlflow = mlflow
        started = mlflow.start_run(run_id=run_id, run_name=_name(model_dir))
        self.run_id = started.info.run_id
        try:
            mlflow.log_dict(dict(settings), "config.json")
        except Exception:
            mlflow.end_run("FAILED")  # Or the next run of the process could not start.
            raise

    def write(self, step, values):
        self._mlflow.log_metrics(dict(values), step=step, run_id=self.run_id)

    def close(self):
        self._mlflow.end_run()


WRITERS: dict[str, Callable[[str, Mapping[str, Any], str | None], Writer]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WandB,
    "mlflow": _MLflow,
}
_PACKAGES = {"tensorboard": "clu"}


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError unless writers are known and their packages installed."""
    for name in names:
        if name not in WRITERS:
            raise ValueError(
                f"METRIC_WRITERS must name writers of {tuple(WRITERS)}; got {name!r}."
                f"{errors.suggestion(name, WRITERS)}"
            )
        package = _PACKAGES.get(name, name)
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"METRIC_WRITERS names {name!r}, which needs the package {package}; it is not "
                f"installed. Run: pip install {package}"
            )


class MetricWriters:
    """The writers of one run, for process 0 alone; none is made before `open`."""

    def __init__(self, names: Sequence[str], model_dir: str):
        self._names, self._model_dir = names, model_dir
        self._writers: dict[str, Writer] = {}

    def open(self) -> None:
        """Begins or continues the run in each place, with what its `config.json` says.

        ValueError if a service refuses, as without a login: before hours of training, not after.
        """
        folder = epath.Path(self._model_dir)
        path, settings = folder / RUNS_FILE, files.read_json(folder / run_folder.CONFIG_FILE)
        known = files.read_json(path) if path.exists() else {}
        ids = dict(known)
        for name in self._names:
            try:
                writer = WRITERS[name](self._model_dir, settings, known.get(name))
            except Exception as error:
                raise ValueError(
                    f"METRIC_WRITERS names {name!r}, which must accept the run; it said: "
                    f"{str(error).rstrip('.')}. Do what it asks for, or remove the name. If "
                    f"its run was deleted there, remove {path}."
                ) from error
            self._writers[name] = writer
            if writer.run_id:
                ids[name] = writer.run_id
        if ids != known:
            files.write_text(path, json.dumps(ids) + "\n")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars of one step."""
        for name, writer in list(self._writers.items()):
            try:
                writer.write(step, values)
            except files.NotWrittenError:  # Of the model directory, like all that the run writes.
                raise
            except Exception:
                logging.exception(
                    "Metrics no longer go to %s, which failed at step %d; metrics.jsonl has them.",
                    name,
                    step,
                )
                self._close(name)

    def close(self) -> None:
        """Ends the logs."""
        for name in list(self._writers):
            self._close(name)

    def _close(self, name: str) -> None:
        # Also of one that failed: services have one open run in a process.
        try:
            self._writers.pop(name).close()
        except Exception:
            logging.exception("%s did not end the log of this run.", name)


def _name(model_dir: str) -> str:
    # Runs of a comparison are folders such as METHOD/seed-1.
    return "/".join(epath.Path(model_dir).parts[-2:])
