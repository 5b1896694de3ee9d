"""What the scores of a comparison's run depend on; a run that is continued must have the same."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.data import cache, mixtures
from hyperdecoders_jax.study import comparison as comparison_lib
from hyperdecoders_jax.study.comparison import Comparison
from hyperdecoders_jax.trained import describe
from hyperdecoders_jax.training import identity
from hyperdecoders_jax.weights import run_checkpoints, run_folder

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig
    from hyperdecoders_jax.data.preflight import TaskReport
    from hyperdecoders_jax.weights.run_folder import RunFile


def of_run(run: RunConfig, split: str | None) -> dict[str, Any]:
    """What the scores of a run depend on, except its seed and the contents of its data."""
    data, mixture = run.data, mixtures.get_mixture_or_task(run.data.mixture_or_task_name)
    # Its names alone are read: it may be a package's file, or lie in a bucket.
    initial = pathlib.PurePosixPath(run.start.initial_checkpoint_path or "")
    return comparison_lib.budgets(run) | {
        # Wherever it lies; many files have the same name.
        "T5": "/".join(initial.parts[-2:] if initial.suffix else initial.parts[-1:]),
        "tasks": ", ".join(task.name for task in mixtures.leaf_tasks(mixture)),
        "model": json.dumps(identity.describe_model(run.model.config), sort_keys=True),
        "trained": f"{run.trainable}",
        "lengths": f"{dict(data.task_feature_lengths)}",
        "packing": f"{data.max_segments} in {data.packed_lengths}" if data.pack else "none",
        "split": f"{split}",
        "split that chose": f"{run.evaluation.split}",
        "recipe": _recipe(run),
    }


def _recipe(run: RunConfig) -> dict[str, Any]:
    """What of the recipe changes results."""
    recipe = describe.recipe(run)
    del recipe["evaluation"]["batch_size"]
    return recipe


def check_splits(comparison: Comparison) -> None:
    """Raises ValueError if no task has a split that is read, before anything is trained."""
    for split in (comparison.split, comparison.select_on):
        if split is not None:
            mixtures.leaf_tasks(comparison.mixture, split)


def check_finished(comparison: Comparison) -> None:
    """Raises ValueError if a run was made with other settings than the comparison's."""
    for name in comparison.methods:
        check([comparison.run(name, x) for x in comparison.seeds], comparison.split)


def check(seeds: Sequence[RunConfig], split: str | None) -> None:
    """Raises ValueError if a run of a method is finished, or begun, with other settings."""
    there = {}
    for run in seeds:
        checkpoints = run_checkpoints.of_run(run.model_dir)
        scores = epath.Path(run.model_dir) / run_folder.SCORES_FILE
        if scores.exists():
            there[run.model_dir] = files.read_json(scores).get("settings")
        elif (step := checkpoints.newest_step()) is not None:
            there[run.model_dir] = {"recipe": checkpoints.read_run(step).get("recipe")}
    # Runs of earlier versions do not say it.
    there = {path: stored for path, stored in there.items() if stored}
    here = of_run(seeds[0], split) if there else {}
    for path, stored in there.items():
        check_same(stored, here, path)


def contents(
    run: RunConfig, described: RunFile, report: Mapping[str, TaskReport], split: str | None
) -> dict[str, Any]:
    """What a run reads, where names do not tell: fingerprints of its T5 and of its data."""
    backbone = described.description.backbone
    tasks = mixtures.leaf_tasks(mixtures.get_mixture_or_task(run.data.mixture_or_task_name))
    splits = [x for x in (run.data.split, run.evaluation.split, split) if x is not None]
    return {
        "T5": backbone and backbone.fingerprint,
        "trained on": {name: task.source for name, task in report.items() if task.source},
        "data": {
            task.name: {x: cache.fingerprint(task.source, x) for x in splits if x in task.splits}
            for task in tasks
        },
    }


def check_contents(of_runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ValueError if the scores of a comparison's runs, by folder, are of other data or T5.

    Names and paths are compared elsewhere; of runs of earlier versions nothing is known.
    """
    known: dict[str, tuple[Any, str]] = {}
    for path, scores in of_runs.items():
        found = dict(scores.get("contents") or {})
        # Methods may begin with different T5s, and points of a grid; the seeds of one may not.
        initial = scores.get("settings", {}).get("T5", "")
        found[f"T5 {initial} of {os.path.dirname(path)}"] = found.pop("T5", None)
        tasks = scores.get("tasks", {})  # None before it is scored.
        found["scored on"] = {name: task.get("examples") for name, task in tasks.items()}
        for what, value in identity.flatten(json.loads(json.dumps(found))).items():
            if value is None:
                continue
            theirs, other = known.setdefault(what, (value, path))
            if value != theirs:
                raise ValueError(
                    "Runs of a comparison must have read the same T5 and the same data; "
                    f"{what} is {theirs} in {other} and {value} in {path}, under the same name. "
                    "Undo what changed since, or give another --output."
                )


def check_same(there: Mapping[str, Any], here: Mapping[str, Any], path: str) -> None:
    """Raises ValueError if settings differ of which both sides say something."""
    differences = identity.changes(there, here)
    if differences:
        told = "; ".join(f"{x} {old} there and {new} here" for x, (old, new) in differences.items())
        raise ValueError(
            f"A run must have the settings of its comparison; {path} has {told}. Give another "
            "--output, or the settings that it had."
        )
