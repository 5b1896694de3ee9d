"""The evaluation of a run as it trains."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax

from hyperdecoders_jax.evaluation.evaluator import Evaluator
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.trained import placed
from hyperdecoders_jax.trained.shared import Shared
from hyperdecoders_jax.training import trainer

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig
    from hyperdecoders_jax.training.partitioning import Partitioner


def make(
    run: RunConfig,
    model: Model,
    task_names: Sequence[str],
    partitioner: Partitioner,
    shared: Shared | None = None,
) -> trainer.Evaluate | None:
    """What evaluates the parameters of a step, rehearsed; None without a split to evaluate on."""
    evaluate_tasks = _evaluator(run, task_names, partitioner, shared or Shared())
    if evaluate_tasks is None:
        return None
    verbs = placed.Verbs(model, partitioner, run.max_target_len, run.evaluation.generation)

    def evaluate(params, step):
        found = placed.Placed(verbs, params, step, seed=run.start.random_seed)
        return evaluate_tasks(found.predict_fn(), step, found.score)

    return evaluate


def _evaluator(
    run: RunConfig, task_names: Sequence[str], partitioner: Partitioner, shared: Shared
) -> Evaluator | None:
    """The evaluator of the run, rehearsed: what would stop its first evaluation stops it now."""
    best = run.trainer.best
    if best is not None:
        best.check_tasks(task_names)
    if run.evaluation.split is None:
        if run.trainer.early_stopping_patience is not None:
            raise ValueError(
                "EARLY_STOPPING_PATIENCE must come with evaluations, which tell when to stop; got "
                f"{run.trainer.early_stopping_patience} and EVAL_SPLIT = None. Give an EVAL_SPLIT "
                "(own data: --validation_file; compare: --select_on), or leave it out."
            )
        is_chosen = best is not None and best.metric != trainer.BestCheckpointConfig.metric
        if is_chosen and jax.process_index() == 0:
            about = f"{best.metric!r} chooses no checkpoint, for EVAL_SPLIT is None"
            # Which metrics a task has is known once they were computed.
            name = best.metric.partition("/")[2]
            unchecked = f", and whether the task has a metric {name!r} is not known" if name else ""
            print(f"BEST_METRIC = {about}: nothing is evaluated{unchecked}.", file=sys.stderr)
        return None
    shard, data = partitioner.data_shard(), dataclasses.replace(run.data, seed=0)
    evaluate_tasks = shared.get(
        f"evaluator of {run.evaluation.split}",
        (data, run.evaluation, tuple(task_names), shard, run.start.vocabulary),
        lambda: Evaluator(data, run.evaluation, task_names, shard=shard),
    ).writing_to(f"{run.model_dir}/eval")
    rehearsed = evaluate_tasks.rehearse()
    if best is not None:
        best.value(rehearsed)
    return evaluate_tasks
