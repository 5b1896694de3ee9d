"""What a person is told of a run before it starts."""

import pytest

from hyperdecoders_jax.trained import summary
from hyperdecoders_jax.training import partitioning, schedules
from hyperdecoders_jax.training.trainer import TrainerConfig
from tests.commands import tiny_runs


@pytest.mark.parametrize(
    ("schedule", "is_told"),
    [
        (schedules.LinearConfig(1e-3, 400), True),
        (schedules.CosineConfig(1e-3, 500), True),
        (schedules.LinearConfig(1e-3, 399), False),
        (schedules.InverseSquareRootConfig(1.0, 500), False),  # Flat.
    ],
)
def test_a_learning_rate_that_is_never_reached_is_told(schedule, is_told):
    run = tiny_runs.make_config(schedule=schedule, trainer=TrainerConfig(num_train_steps=400))
    partitioner = partitioning.make_partitioner(run.partitioning)
    told = summary.summarize(run, run.model, {}, partitioner, {})
    assert ("of TRAIN_STEPS = 400: the learning rate rises until the end" in told) == is_told
