"""What a text classifier scores without any T5: the floors of a comparison."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.data import mixtures
from hyperdecoders_jax.study import runs
from hyperdecoders_jax.study.comparison import Comparison

# (task, split) → {name: {metric: value}}, such as of always giving the most frequent target.
Floors = Callable[[str, str], Mapping[str, Mapping[str, float]]]


def of(comparison: Comparison) -> Floors:
    """Scores without any T5, of tasks by name; kept, since large data take a while."""
    # By name: the package imports no task module of itself.
    baselines = importlib.import_module("hyperdecoders_jax.tasks.baselines")
    tasks = {task.name: task for task in mixtures.leaf_tasks(comparison.mixture)}
    scores = runs.read(comparison.folder(*comparison.pairs[0]))
    path = epath.Path(comparison.output) / "floors.json"
    known = json.loads(path.read_text()) if path.exists() else {}

    def of_task(name: str, split: str) -> Mapping[str, Mapping[str, float]]:
        key = _key(name, scores)
        found = known.get(key, known.get(name))  # Earlier versions kept them by name.
        if found is None:
            try:
                found = baselines.floors(tasks[name], split)
            except Exception as error:  # Of a user's task or metric: the runs' results come first.
                told = f"{type(error).__name__}: {error}"
                print(f"Mind: {name} has no floors, which gave: {told}", file=sys.stderr)
                return {}
            known[key] = found
            files.write_text(path, json.dumps(known, indent=1) + "\n")
        return found

    return of_task


def _key(name: str, scores: Mapping[str, Any]) -> str:
    """A task and fingerprints of its examples, as far as a run's scores have them."""
    trained_on = (scores.get("contents") or {}).get("trained on", {}).get(name, {})
    found = (trained_on.get("train_examples"), scores["tasks"][name].get("examples"))
    return " ".join([name, *filter(None, found)])
