"""Evaluates: a configuration and a training run's checkpoint in; metrics, predictions, a table out.

`evaluate` is bound by gin_configs/runs/embedded/eval.gin.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hyperdecoders_jax.commands import cli

if TYPE_CHECKING:
    from hyperdecoders_jax.decoding.decode import Generation
    from hyperdecoders_jax.trained.preparation import TrainedConfig


def evaluate(
    *,
    trained: TrainedConfig,
    mixture_or_task_name: str,
    task_feature_lengths: Mapping[str, int],
    split: str | None,
    batch_size: int,
    eval_batch_size: int | None,
    num_examples: int | None,
    generation: Generation | None,
    left_out_metrics: Sequence[str],
    output_dir: str | None,
    use_cached: bool = False,
    config_text: str = "",
) -> int:
    """Evaluates a checkpoint on every task of a mixture that has the split; returns the exit code.

    Args:
      trained: the run, and which of its checkpoints.
      mixture_or_task_name: what is evaluated: the run's mixture, or any of its tasks.
      task_feature_lengths: tokens of inputs and targets.
      split: "validation", "test", …
      batch_size: examples of one training step.
      eval_batch_size: examples of one step here; None: as many as of a training step.
      num_examples: of each task, from the beginning; None: all.
      generation: of tasks whose texts are decoded otherwise: (most tokens, beams).
      left_out_metrics: "TASK/METRIC" pairs that `average_metrics` leaves out.
      output_dir: gets TASK/STEP.jsonl with the predictions, and metrics-STEP.json; None:
        eval_SPLIT in the run's model directory, or nowhere where there is no such directory.
      use_cached: reads text from SeqIO's caches, not from the data.
      config_text: the whole configuration; printed nowhere, since the run has stored its own.

    Raises:
      ValueError: something in all this does not fit together.
    """
    del config_text
    if split is None:
        raise ValueError(
            "An evaluation needs a split; got EVAL_SPLIT = None, with which the run was trained "
            "without one. Name it with --gin.EVAL_SPLIT=validation, or files of your own with "
            "--validation_file=FILE or --test_file=FILE."
        )
    import jax
    from etils import epath

    from hyperdecoders_jax import files
    from hyperdecoders_jax.data.pipeline import PipelineConfig
    from hyperdecoders_jax.evaluation import evaluator, table
    from hyperdecoders_jax.evaluation.config import EvaluationConfig
    from hyperdecoders_jax.trained import preparation

    batch_size = eval_batch_size or batch_size
    if output_dir is None and trained.model_dir is not None:
        output_dir = f"{trained.model_dir}/eval_{split}"
    if output_dir is not None:
        files.check_writable(output_dir)
    evaluate_tasks = evaluator.Evaluator(
        PipelineConfig(mixture_or_task_name, task_feature_lengths, use_cached=use_cached),
        EvaluationConfig(split, batch_size, num_examples),
        preparation.task_names_of(trained),
        output_dir=output_dir,
        shard=preparation.data_shard(trained),
        accepts_unseen_tasks=trained.model.config.accepts_unseen_tasks,
    )
    preparation.use_vocabulary(trained.vocabulary, trained.initial_checkpoint_path)
    evaluate_tasks.rehearse()
    model = preparation.open_trained(
        trained, task_feature_lengths["targets"], batch_size, generation
    )
    metrics = evaluate_tasks(model.predict, model.step, model.score)
    if jax.process_index() == 0:
        if output_dir is not None:
            path = epath.Path(output_dir) / f"metrics-{model.step}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(metrics, indent=1) + "\n")
        where = f"predictions are in {output_dir}" if output_dir else "predictions were not kept"
        print(f"Step {model.step} on {split}; {where}.", file=sys.stderr)
        print(table.format_table(metrics, left_out_metrics))
    return 0


if __name__ == "__main__":
    sys.exit(cli.main(["eval", *sys.argv[1:]]))
