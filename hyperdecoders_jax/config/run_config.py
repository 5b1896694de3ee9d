"""A run as one value, made by Python directly or by gin (`gin_configs/runs/embedded/`)."""

import dataclasses
from collections.abc import Sequence

from hyperdecoders_jax import errors
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.evaluation.config import EvaluationConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.trained import placed
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.training.optimizer import AdamWConfig, OptimizerConfig
from hyperdecoders_jax.training.partitioning import PartitioningConfig
from hyperdecoders_jax.training.schedules import LinearConfig, ScheduleConfig
from hyperdecoders_jax.training.trainable import TrainableConfig
from hyperdecoders_jax.training.trainer import TrainerConfig


@dataclasses.dataclass(frozen=True)
class StartConfig:
    """What a run starts from."""

    # T5's own parameters, and perhaps others, in any format of `weights.formats`; None: random.
    initial_checkpoint_path: str | None
    vocabulary: str  # Path, folder, URL or "bytes"; see `vocabulary.load_vocabulary`.
    random_seed: int = 42  # Of parameters that are drawn, and of sampling.
    frozen_dtype: str = "float32"  # Of untrained parameters, "float32" or "bfloat16".

    def __post_init__(self):
        trainable_lib.check_frozen_dtype(self.frozen_dtype)
        errors.check_seed(self, "random_seed")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A training run, or what a prediction needs of one; a ValueError if parts disagree."""

    model: Model  # Sizes, adapters, loss and decoding.
    data: PipelineConfig  # What is read, how long texts are, and in which order.
    start: StartConfig  # Weights and vocabulary.
    # Gets all that is written; a run in it is continued. None only where nothing is trained.
    model_dir: str | None = None
    trainable: TrainableConfig = TrainableConfig()  # Which parameters are trained.
    optimizer: OptimizerConfig = AdamWConfig()  # Of the trained parameters.
    schedule: ScheduleConfig = LinearConfig(learning_rate=3e-4, warmup_steps=500)
    trainer: TrainerConfig | None = None  # Steps, and what happens between; None: no training.
    evaluation: EvaluationConfig = EvaluationConfig()  # Split and sizes.
    partitioning: PartitioningConfig = PartitioningConfig()  # How devices share the work.
    metric_writers: Sequence[str] = ("tensorboard",)  # Of `trained.metric_writers.WRITERS`.

    def __post_init__(self):
        for field, method, example in (
            ("optimizer", "precondition", "optimizer.AdamWConfig()"),
            ("schedule", "make", "schedules.LinearConfig(learning_rate=1e-3)"),
        ):  # Users may have classes of their own, so methods count, not types.
            must, advice = f"have a method {method}", f"Give an object such as {example}."
            errors.check_field(self, field, hasattr(getattr(self, field), method), must, advice)
        self.partitioning.check_attention_heads(
            self.model.config.compute.attention_heads, self.model.config.num_heads
        )
        placed.check_decoding(self.model, self.max_target_len, self.evaluation.generation)

    @property
    def max_target_len(self) -> int:
        """Most tokens of a target and of a prediction, EOS included."""
        return self.data.task_feature_lengths["targets"]

    @property
    def eval_batch_size(self) -> int:
        """Examples of one prediction step."""
        # Of packed rows the batch size counts rows, and evaluation does not pack.
        data = self.data
        return self.evaluation.batch_size or data.examples_per_step or data.batch_size
