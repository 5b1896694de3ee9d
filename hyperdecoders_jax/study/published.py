"""A paper's numbers beside those of a comparison."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

from hyperdecoders_jax import errors
from hyperdecoders_jax.study.results import AVERAGE, Results, Row

_FILE = "published.json"


def read(name: str | None) -> dict[str, Any] | None:
    """A paper's numbers: its source, and {method: {"TASK/METRIC": value}}; None for None."""
    if name is None:
        return None
    file = importlib.resources.files("hyperdecoders_jax.study") / _FILE
    known = json.loads(file.read_text("utf-8"))
    if name not in known:
        raise errors.UsageError(
            f"--published must be one of {sorted(known)}; got {name!r}."
            f"{errors.suggestion(name, known)} Correct it, or leave it out."
        )
    return known[name]


def table(found: Results) -> list[list[str]] | None:
    """Published numbers beside the means of this comparison; None if none were asked for."""
    paper = found.about.get("published")
    if paper is None:
        return None
    lines = [["task", "metric", *found.methods, *(f"{x} (paper)" for x in paper["methods"])]]
    keys = dict.fromkeys(key for values in paper["methods"].values() for key in values)
    parts = [key.partition("/")[::2] for key in keys]
    rows = [next((row for row in found.rows if _is_of(row, *part)), None) for part in parts]
    has_all = all(row for row, (task, _) in zip(rows, parts, strict=True) if task != AVERAGE)
    for key, (task, metric), row in zip(keys, parts, rows, strict=True):
        if task == AVERAGE and not has_all:
            row = None  # Of other tasks.
        ours = [f"{row.cells[x].mean:.1f}" if row else "-" for x in found.methods]
        theirs = [str(values.get(key, "-")) for values in paper["methods"].values()]
        lines.append([task, metric, *ours, *theirs])
    return lines


def _is_of(row: Row, task: str, metric: str) -> bool:
    """Whether a row is of a published task; glue_cola_v200 is of glue_cola."""
    return (row.task == task or row.task.startswith(f"{task}_v")) and metric in ("", row.metric)
