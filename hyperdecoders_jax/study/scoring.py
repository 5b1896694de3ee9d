"""The scores of a trained model on every example of a split."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath

from hyperdecoders_jax import types
from hyperdecoders_jax.analysis import examples_reader
from hyperdecoders_jax.analysis import study as analysis
from hyperdecoders_jax.data import mixtures
from hyperdecoders_jax.evaluation import evaluator, predictions
from hyperdecoders_jax.study import example_scores
from hyperdecoders_jax.trained import placed
from hyperdecoders_jax.trained.shared import Shared
from hyperdecoders_jax.training import partitioning

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig
    from hyperdecoders_jax.data.eval_batches import TaskExamples


def rehearse(run: RunConfig, split: str, shared: Shared) -> dict[str, dict[str, Any]]:
    """What is scored, of each task: a digest of its examples, and names of its metrics.

    The names are those that some targets as their own predictions give: a metric may have others
    of real ones. Raises what would stop `score`: examples that cannot be read, metrics that fail.
    What it read is kept.
    """
    tasks = _evaluator(run, split, shared)
    metrics = {name: sorted(found) for name, found in tasks.rehearse().items() if found}
    digests = {x.task.name: _digest(x) for x in tasks.examples() if x.task.name in metrics}
    return {"scored on": digests, "metrics": metrics}


def score(
    run: RunConfig, split: str, found: placed.Placed, shared: Shared
) -> dict[str, dict[str, Any]]:
    """Metrics of each task, with the scores of its examples; predictions are written."""
    tasks = _evaluator(run, split, shared)
    folder = epath.Path(run.model_dir) / f"eval_{split}"
    scored = {}
    for result in tasks.results(found.predict_fn(), found.score):
        task = result.examples.task
        if not result.metrics:
            continue
        predictions.write(folder / task.name / f"{found.step}.jsonl", result.predictions)
        scored[task.name] = {
            "num_examples": len(result.predictions),
            "examples": _digest(result.examples),
            "metrics": {name: _rounded(value) for name, value in result.metrics.items()},
            "scores": {name: np.round(x, 4).tolist() for name, x in _scores(result).items()},
        }
    return scored


def _evaluator(run: RunConfig, split: str, shared: Shared) -> evaluator.Evaluator:
    # Whole, however few examples are evaluated on the way.
    config = dataclasses.replace(run.evaluation, split=split, num_examples=None)
    data = dataclasses.replace(run.data, seed=0)
    names = mixtures.resolve_task_names(data.mixture_or_task_name, data.task_names)
    shard = partitioning.make_partitioner(run.partitioning).data_shard()
    return shared.get(
        f"evaluator of {split}",
        (data, config, names, shard, run.start.vocabulary),
        lambda: evaluator.Evaluator(data, config, names, shard=shard),
    )


def _digest(examples: TaskExamples) -> str:
    """Differs once a text of the examples does."""
    rows = [[examples.text(x, name) for name in types.FEATURES] for x in examples.examples]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _scores(result: evaluator.TaskResult) -> dict[str, np.ndarray]:
    """Scores of the examples for each metric that has some."""
    targets, texts = result.postprocessed
    groups = examples_reader.groups_of(result.examples.examples, targets)
    task, found = result.examples.task, {}
    metrics: list[tuple[Callable[..., Any], Any]] = [(fn, texts) for fn in task.predict_metric_fns]
    metrics += [
        (analysis.takes_pairs(fn), analysis.with_values(texts, result.aux))
        for fn in task.predict_with_aux_metric_fns
    ]
    for metric_fn, answers in metrics:
        found |= example_scores.of_metric(metric_fn, targets, answers, groups)
    return {name: found[name] for name in result.metrics if name in found}


def _rounded(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None
