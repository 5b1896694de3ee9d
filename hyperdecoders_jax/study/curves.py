"""Curves of runs, from their metrics.jsonl, with bands over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from hyperdecoders_jax.training.run_directory import RunDirectory

# What the table's curves are: name, kind of line, field.
KINDS = (
    ("training loss per token", "train", "loss_per_token"),
    ("average of the tasks", "average", "task_average"),
)


class Curve(NamedTuple):
    """One number over steps, for each seed."""

    steps: Int[np.ndarray, "steps"]
    values: Float[np.ndarray, "seeds steps"]


def read(model_dir: str) -> list[dict[str, Any]]:
    """The lines of metrics that a run has written."""
    path = RunDirectory(model_dir).metrics_path
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def thinned(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What of a run's lines curves are drawn from.

    >>> thinned([{"step": 20, "kind": "train", "loss_per_token": 1.23456, "grad_norm": 2.0}])
    [{'step': 20, 'kind': 'train', 'loss_per_token': 1.2346}]
    """
    return [
        {"step": step, "kind": kind, field: value}
        for _, kind, field in KINDS
        for step, value in _series(lines, kind, field).items()
    ]


def of_runs(folders: Sequence[str]) -> dict[str, Curve]:
    """The curves of a method, whose runs are in these folders; steps that all seeds have."""
    lines = [read(folder) for folder in folders]
    found = {}
    for title, kind, field in KINDS:
        series = [_series(of_run, kind, field) for of_run in lines]
        steps = sorted(set.intersection(*(set(of_run) for of_run in series)))
        if steps:
            values = np.array([[of_run[step] for step in steps] for of_run in series])
            found[title] = Curve(np.array(steps), values)
    return found


def _series(lines: Sequence[Mapping[str, Any]], kind: str, field: str) -> dict[int, float]:
    return {
        line["step"]: round(line[field], 4)  # As tables have it, and archives.
        for line in lines
        if line["kind"] == kind and line.get(field) is not None
    }
