"""Trains: a configuration in; checkpoints, metrics, predictions and a table out.

`train` is bound by gin_configs/runs/embedded/train.gin. It checks whatever can be checked before it
writes anything, the cheapest first, and continues what its model directory holds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hyperdecoders_jax.commands import cli

if TYPE_CHECKING:
    from hyperdecoders_jax.data.pipeline import PipelineConfig
    from hyperdecoders_jax.decoding.decode import Generation
    from hyperdecoders_jax.model import Model
    from hyperdecoders_jax.training.optimizer import OptimizerConfig
    from hyperdecoders_jax.training.partitioning import PartitioningConfig
    from hyperdecoders_jax.training.schedules import ScheduleConfig
    from hyperdecoders_jax.training.trainable import TrainableConfig
    from hyperdecoders_jax.training.trainer import TrainerConfig


def train(
    *,
    model: Model,
    model_dir: str,
    vocabulary: str,
    initial_checkpoint_path: str | None,
    data: PipelineConfig,
    eval_split: str | None,
    eval_batch_size: int | None,
    eval_examples: int | None,
    generation: Generation | None,
    pack: bool,
    trainable: TrainableConfig,
    frozen_dtype: str,
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    trainer_config: TrainerConfig,
    partitioning_config: PartitioningConfig,
    random_seed: int,
    config_text: str = "",
) -> int:
    """Trains a model as configured; returns the exit code, 0 also after SIGTERM.

    Args:
      model: what is trained.
      model_dir: gets everything that is written; a run that is in it is continued.
      vocabulary: path, folder, URL or "bytes"; see `vocabulary.load_vocabulary`.
      initial_checkpoint_path: T5's own parameters, in any format of `conversion`; None draws
        random ones.
      data: what is trained on.
      eval_split: what is evaluated on; None for no evaluation.
      eval_batch_size: examples of one prediction step; None: as many as of a training step.
      eval_examples: of each task, from the beginning; None: all.
      generation: of tasks whose texts are decoded otherwise: (most tokens, beams).
      pack: must be False; each example has its own adapters.
      trainable: which parameters are trained.
      frozen_dtype: of the others, "float32" or "bfloat16".
      optimizer: of the trained ones.
      schedule: its learning rate.
      trainer_config: how long, and what in between.
      partitioning_config: how devices share the work.
      random_seed: of parameters that are drawn.
      config_text: the whole configuration; stored beside what it made.

    Raises:
      ValueError: something in all this does not fit together; nothing was written.
    """
    import jax

    from hyperdecoders_jax import files
    from hyperdecoders_jax.data import feature_converter, mixtures, preflight, train_batches
    from hyperdecoders_jax.evaluation import evaluator, table
    from hyperdecoders_jax.evaluation.config import EvaluationConfig
    from hyperdecoders_jax.trained import preparation
    from hyperdecoders_jax.training import partitioning, trainer
    from hyperdecoders_jax.training import trainable as trainable_lib

    # Checks, the cheapest first.
    feature_converter.TaskIdFeatureConverter(pack=pack)
    trainable_lib.check_frozen_dtype(frozen_dtype)
    preparation.check_decoding(model, data.task_feature_lengths["targets"], generation)
    files.check_writable(model_dir)
    partitioner = partitioning.make_partitioner(partitioning_config)
    partitioner.check_batch_size(data.batch_size, trainer_config.num_microbatches)
    eval_batch_size = eval_batch_size or data.batch_size
    partitioner.check_batch_size(eval_batch_size)
    task_names = mixtures.resolve_task_names(data.mixture_or_task_name, data.task_names)
    model = model.for_tasks(task_names)
    preparation.check_start(initial_checkpoint_path, model, task_names)
    trainable_lib.split(model.param_shapes(), trainable)
    fingerprint = preparation.use_vocabulary(vocabulary, initial_checkpoint_path)
    report = preflight.preflight(data, vocab_size=model.config.vocab_size)
    batches = train_batches.TrainIterator(data, *partitioner.data_shard())
    evaluate = None
    if eval_split is not None:
        if trainer_config.best is not None:
            trainer_config.best.check_tasks(batches.task_names)
        evaluate_tasks = evaluator.Evaluator(
            data,
            EvaluationConfig(eval_split, eval_batch_size, eval_examples),
            batches.task_names,
            output_dir=f"{model_dir}/eval",
            shard=partitioner.data_shard(),
        )
        rehearsed = evaluate_tasks.rehearse()
        if trainer_config.best is not None:
            trainer_config.best.value(rehearsed)
        predictor = preparation.Predictor(
            model, partitioner, data.task_feature_lengths["targets"], random_seed, generation
        )

        def evaluate(params, step):
            predict_fn, score_fn = predictor.bind(params)
            return evaluate_tasks(predict_fn, step, score_fn)

    order = preflight.order_settings(data, report)
    settings = {**order, "dropout_seed": trainer_config.seed}
    preparation.check_newest_checkpoint(model_dir, model, batches.task_names, fingerprint, settings)

    start = preparation.load_start(model, trainable, initial_checkpoint_path, random_seed)
    is_first_process = jax.process_index() == 0
    if is_first_process:
        about = preparation.describe_run(model, start, partitioner, report, generation)
        print(about, file=sys.stderr, flush=True)
    run_files = RunFiles(model_dir, config_text)
    identity = preparation.identity(model, start, batches.task_names, fingerprint)
    loop = trainer.Trainer(
        trainer.TrainingRecipe(model, optimizer, schedule, trainer_config),
        partitioner,
        trainer.RunDirectory(model_dir, identity, config_text, settings),
        evaluate=evaluate,
        on_accepted=run_files.write_config,
        writers=[run_files.write],
    )
    trained, frozen = start.trainable, trainable_lib.cast_frozen(start.frozen, frozen_dtype)
    del start  # Before the copies on the devices are made.
    with batches:
        loop.start(trained, frozen, batches)
        del trained, frozen  # They are on the devices now.
        result = loop.run()
    run_files.close()
    if not is_first_process:
        return 0
    if not result.is_finished:
        step = int(result.state.step)
        print(f"Stopped after step {step}, saved. The same command continues.", file=sys.stderr)
        return 0
    if result.metrics:
        left_out = trainer_config.best.left_out if trainer_config.best else ()
        print(table.format_table(result.metrics, left_out))
    if result.best_step is not None:
        print(f"Best checkpoint: step {result.best_step}, in {model_dir}/checkpoints.")
    return 0


class RunFiles:
    """The configuration and the TensorBoard log in a model directory.

    Neither is made before the trainer asks for it: a run that finds another run's checkpoints there
    must leave them as they are.
    """

    def __init__(self, model_dir: str, config_text: str):
        self._model_dir = model_dir
        self._config_text = config_text
        self._writer = None

    def write_config(self) -> None:
        """Writes the configuration, for eval and infer; before the first checkpoint stands."""
        from etils import epath

        from hyperdecoders_jax import files

        files.write_text(epath.Path(self._model_dir) / cli.SAVED_CONFIG, self._config_text)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scalars of one step to the log, in one process of the run."""
        import jax

        if jax.process_index():
            return
        if self._writer is None:
            from clu import metric_writers

            self._writer = metric_writers.SummaryWriter(f"{self._model_dir}/tensorboard")
        self._writer.write_scalars(step, dict(values))
        self._writer.flush()

    def close(self) -> None:
        """Ends the log."""
        if self._writer is not None:
            self._writer.close()


if __name__ == "__main__":
    sys.exit(cli.main(["train", *sys.argv[1:]]))
