"""A run as one value: what is trained, on what, from where, how and for how long.

Python makes one directly, gin makes the same (`gin_configs/runs/embedded/`), and every command
takes it whole.
"""

from __future__ import annotations

import dataclasses

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
    """What a run starts from.

    Attributes:
        initial_checkpoint_path: T5's own parameters, and perhaps others, in any format of
            `weights.formats`; None draws random ones.
        vocabulary: path, folder, URL or "bytes"; see `vocabulary.load_vocabulary`.
        random_seed: of parameters that are drawn, and of sampling.
        frozen_dtype: of parameters that are not trained, "float32" or "bfloat16".
    """

    initial_checkpoint_path: str | None
    vocabulary: str
    random_seed: int = 42
    frozen_dtype: str = "float32"

    def __post_init__(self):
        trainable_lib.check_frozen_dtype(self.frozen_dtype)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A training run; also what an evaluation or prediction needs to know of one.

    Attributes:
        model: sizes, adapters, loss and decoding.
        data: what is read, how long texts are, and in which order.
        start: weights and vocabulary.
        model_dir: gets everything that is written; a run that is in it is continued. None only
            where nothing is trained.
        trainable: which parameters are trained.
        optimizer: of the trained parameters.
        schedule: learning rate.
        trainer: number of steps, and what happens between them; None where nothing is trained.
        evaluation: split and sizes.
        partitioning: how devices share the work.

    Raises:
        ValueError: a part contradicts another; each part has checked itself.
    """

    model: Model
    data: PipelineConfig
    start: StartConfig
    model_dir: str | None = None
    trainable: TrainableConfig = TrainableConfig()
    optimizer: OptimizerConfig = AdamWConfig()
    schedule: ScheduleConfig = LinearConfig(learning_rate=3e-4, warmup_steps=500)
    trainer: TrainerConfig | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    partitioning: PartitioningConfig = PartitioningConfig()

    def __post_init__(self):
        placed.check_decoding(self.model, self.max_target_len, self.evaluation.generation)

    @property
    def max_target_len(self) -> int:
        """Most tokens of a target and of a prediction, EOS included."""
        return self.data.task_feature_lengths["targets"]

    @property
    def eval_batch_size(self) -> int:
        """Examples of one prediction step."""
        return self.evaluation.batch_size or self.data.batch_size
