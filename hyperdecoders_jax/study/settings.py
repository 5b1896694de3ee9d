"""What the scores of a comparison's run depend on; a run that is continued must have the same."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.data import cache, mixtures, preflight
from hyperdecoders_jax.study import matching
from hyperdecoders_jax.study.comparison import Comparison
from hyperdecoders_jax.trained import describe
from hyperdecoders_jax.training import identity
from hyperdecoders_jax.weights import run_checkpoints, run_folder

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig
    from hyperdecoders_jax.data.pipeline import PipelineConfig
    from hyperdecoders_jax.weights.run_folder import RunFile

NUM_PARAMETERS = "trained parameters"
_READING = (
    "shuffle", "shuffle_buffer_size", "examples_per_turn", "truncate_targets", "use_cached",
)  # fmt: skip
# Fields of a model in which methods differ by what they are.
_OF_METHODS = ("encoder_adapter", "decoder_adapter", "encoder_hyper", "decoder_hyper", "num_tasks")


def of_run(run: RunConfig, split: str | None) -> dict[str, Any]:
    """What the scores of a run depend on, except its seed and the contents of its data."""
    data, mixture = run.data, mixtures.get_mixture_or_task(run.data.mixture_or_task_name)
    # Its names alone are read: it may be a package's file, or lie in a bucket.
    initial = pathlib.PurePosixPath(run.start.initial_checkpoint_path or "")
    return _budgets(run) | {
        # Wherever it lies; many files have the same name.
        "T5": "/".join(initial.parts[-2:] if initial.suffix else initial.parts[-1:]),
        "vocabulary": pathlib.PurePosixPath(run.start.vocabulary or "").name,
        "tasks": ", ".join(task.name for task in mixtures.leaf_tasks(mixture)),
        "model": json.dumps(identity.describe_model(run.model.config), sort_keys=True),
        "trained": f"{run.trainable}",
        "lengths": f"{dict(data.task_feature_lengths)}",
        "packing": _packing(run),
        "reading": _reading(run),
        "split": f"{split}",
        "split that chose": f"{run.evaluation.split}",
        "recipe": _recipe(run),
    }


def _recipe(run: RunConfig) -> dict[str, Any]:
    """What of the recipe changes results."""
    recipe = describe.recipe(run)
    del recipe["evaluation"]["batch_size"]
    return recipe


def equal(methods: Mapping[str, RunConfig]) -> str:
    """A line on what makes a comparison fair and is the same for all methods."""
    different = differences(methods)
    budgets = _budgets(next(iter(methods.values())))
    told = (f"{what} {value}" for what, value in budgets.items() if what not in different)
    return f"Equal for all methods: {', '.join(told)}."


def differences(methods: Mapping[str, RunConfig]) -> dict[str, str]:
    """What differs between methods beside their adapters, each with a line on it."""
    of_methods = {name: _told(run) for name, run in methods.items()}
    lines = {}
    for what in dict.fromkeys(x for told in of_methods.values() for x in told):
        values = {name: told.get(what, "none") for name, told in of_methods.items()}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{name} {value}" for name, value in values.items())
            lines[what] = f"Different: {what}: {told}."
    return lines


def _told(run: RunConfig) -> dict[str, str]:
    """Budgets, T5's sizes, reading, and all of the recipe that these do not say, in words."""
    recipe = _recipe(run)
    model = identity.describe_model(run.model.config)
    for name in ("dropout_rate", "optimizer", "schedule", "decoding"):
        del recipe[name]
    del recipe["trainer"]["num_train_steps"], recipe["evaluation"]["generation"]
    del recipe["evaluation"]["split"]  # The comparison's.
    others = {
        **{name: value for name, value in model.items() if not name.startswith(_OF_METHODS)},
        "vocabulary": run.start.vocabulary,
        "packing": _packing(run),
        **_reading(run),
        **recipe,
    }
    told = {what: f"{value}" for what, value in identity.flatten(others).items()}
    return _budgets(run) | told


def _budgets(run: RunConfig) -> dict[str, str]:
    return {what: value(run) for what, value in _BUDGETS.items()}


def _packing(run: RunConfig) -> str:
    return f"{run.data.max_segments} in {run.data.packed_lengths}" if run.data.pack else "none"


def _reading(run: RunConfig) -> dict[str, Any]:
    """What of the data's order and of their cuts changes results."""
    return {name: getattr(run.data, name) for name in _READING}


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


def contents(run: RunConfig, described: RunFile, split: str | None) -> dict[str, Any]:
    """What a run reads, where names do not tell: fingerprints of its T5 and of its data."""
    backbone = described.description.backbone
    return {"T5": backbone and backbone.fingerprint, **of_data(run, split)}


def of_data(run: RunConfig, split: str | None) -> dict[str, Any]:
    """Fingerprints of what a run reads, and shares; None where data are not here."""
    data = run.data
    tasks = mixtures.leaf_tasks(mixtures.get_mixture_or_task(data.mixture_or_task_name))
    splits = [x for x in (data.split, run.evaluation.split, split) if x is not None]
    told = {task.name: _if_here(preflight.describe_source, task.source) for task in tasks}
    own = {task.name: task.source.describe() for task in tasks if hasattr(task.source, "describe")}
    return {
        "trained on": {name: x for name, x in told.items() if x},
        "scored by": {name: sorted(x["metrics"]) for name, x in own.items() if "metrics" in x},
        "shares": mixtures.known_shares(data.mixture_or_task_name, data.split, data.use_cached),
        "data": {
            task.name: {
                x: _if_here(cache.fingerprint, task.source, x) for x in splits if x in task.splits
            }
            for task in tasks
        },
    }


def _if_here(describe: Callable[..., Any], *args: Any) -> Any:
    """What is said of data, None where they are not here."""
    try:
        return describe(*args)
    except (ValueError, OSError, tf.errors.OpError):
        return None


def check_data(run: RunConfig, split: str | None, finished: Mapping[str, Mapping]) -> None:
    """Raises ValueError if finished runs, their scores by folder, read other data than are here."""
    if finished:
        check_contents(dict(finished) | {"what is here now": {"contents": of_data(run, split)}})


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
        tasks = scores.get("tasks", {})  # None of a point of a grid.
        of_scores = {name: task.get("examples") for name, task in tasks.items()}
        found["scored on"] = of_scores or found.get("scored on", {})
        for what, value in identity.flatten(json.loads(json.dumps(found))).items():
            if value is None:
                continue
            theirs, other = known.setdefault(what, (value, path))
            if value != theirs:
                raise ValueError(
                    "Runs of a comparison must have the same T5, data, shares of tasks and metrics "
                    f"behind the same names; {what} is {theirs} in {other} and {value} in {path}. "
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


def _changed(config: Any) -> str:
    """A configuration's fields that are not at their defaults, so that later ones change nothing.

    >>> from hyperdecoders_jax.training.optimizer import AdamWConfig
    >>> _changed(AdamWConfig(b1=0.8))
    'AdamWConfig(b1=0.8)'
    """
    if not dataclasses.is_dataclass(config):  # Of a user's module.
        told = describe.plain(config)
        name = told.pop("type")
        return f"{name}({', '.join(f'{field}={value!r}' for field, value in told.items())})"
    fields = ((x, getattr(config, x.name)) for x in dataclasses.fields(config))
    changed = (f"{x.name}={value!r}" for x, value in fields if value != x.default)
    return f"{type(config).__name__}({', '.join(changed)})"


def _decoding(run: RunConfig) -> str:
    generation = run.evaluation.generation  # Of tasks that have a way of their own.
    return f"{_changed(run.model.decoding)}{f' and {dict(generation)}' if generation else ''}"


def _examples(data: PipelineConfig) -> str:
    if data.pack and data.examples_per_step is None:
        return f"as many as fill {data.batch_size} packed rows"
    return f"{data.examples_per_step or data.batch_size}"


_BUDGETS = {
    "T5": lambda run: run.start.initial_checkpoint_path or "from random weights",
    "steps": lambda run: f"{run.trainer.num_train_steps:,}",
    "examples a step": lambda run: _examples(run.data),
    "optimizer": lambda run: _changed(run.optimizer),
    "schedule": lambda run: _changed(run.schedule),
    "dropout": lambda run: f"{run.model.config.dropout_rate}",
    "decoding": _decoding,
    NUM_PARAMETERS: lambda run: f"{matching.num_parameters(run):,}",
}
