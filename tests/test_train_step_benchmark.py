import dataclasses

import pytest

from benchmarks import measurement, train_step
from hyperdecoders_jax.training.optimizer import AdamWConfig
from hyperdecoders_jax.training.schedules import ConstantConfig
from tests.training import tiny


def test_the_flops_of_all_microbatches_count():
    experiment = measurement.Experiment(
        model=tiny.make_model(dropout_rate=0.0),
        trainable=tiny.TRAINED,
        frozen_dtype="float32",
        optimizer=AdamWConfig(),
        schedule=ConstantConfig(1e-3),
        num_train_steps=5,
        num_microbatches=1,
        batch_size=16,
        task_feature_lengths={"inputs": 7, "targets": 5},
        data=None,
        model_parallel=1,
    )
    parts = dataclasses.replace(experiment, num_microbatches=4)
    whole, cut = (train_step.measure(x, None, 1)[2].gflops for x in (experiment, parts))
    assert cut == pytest.approx(whole, rel=0.1)
