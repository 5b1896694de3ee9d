"""T5X trains on the batches of our pipeline, and continues where a checkpoint left them."""

import dataclasses
import json
import logging

import jax
import numpy as np
import pytest
import seqio

pytest.importorskip("t5x", reason="T5X is not installed")

from clu.data import dataset_iterator
from t5x import utils

from hyperdecoders_jax.config.run_config import StartConfig
from hyperdecoders_jax.data import train_batches
from hyperdecoders_jax.data.feature_converter import TaskIdFeatureConverter
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.losses import LossConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.t5x import data
from hyperdecoders_jax.training.trainer import BestCheckpointConfig, TrainerConfig
from tests import tiny
from tests.commands import tiny_runs
from tests.data.conftest import make_task, register

__all__ = ["make_task", "register"]

pytestmark = pytest.mark.t5x

LENGTHS = {"inputs": 9, "targets": 3}


@pytest.fixture
def config(make_task):
    tasks = [make_task("small", 5), make_task("large", 23)]
    mixture = seqio.Mixture("unequal", [(task, i + 1.0) for i, task in enumerate(tasks)])
    return PipelineConfig(mixture, LENGTHS, batch_size=6, seed=3, is_small_vocabulary_allowed=True)


def make_model(vocab_size=384, **config):
    return Model(tiny.make_config(vocab_size=vocab_size, **config))


def dataset_config(config, pack=False):
    mixture = config.mixture_or_task_name
    return utils.DatasetConfig(mixture, LENGTHS, "train", 4, shuffle=True, seed=0, pack=pack)


def assert_same(found, expected):
    assert list(found) == list(expected.features())
    for name, array in expected.features().items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_the_batches_are_those_of_our_own_runner(config):
    found = data.BatchIterator(config)
    spec = found.element_spec
    for _, expected in zip(range(3), train_batches.TrainIterator(config), strict=False):
        batch = next(found)
        assert_same(batch, expected)
        assert {name: x.shape for name, x in batch.items()} == {
            name: x.shape for name, x in spec.items()
        }
        assert {x.dtype for x in batch.values()} == {x.dtype for x in spec.values()}


def test_a_checkpoint_holds_the_place_behind_the_batches_of_its_steps(config, tmp_path):
    # As T5X wraps it: it peeks at the first batch, and saves before it is trained on.
    batches = dataset_iterator.PeekableDatasetIterator(data.BatchIterator(config))
    first = batches.peek()
    batches.save(tmp_path / "checkpoint_0")
    for _ in range(3):
        next(batches)
    batches.save(tmp_path / "checkpoint_3")
    fourth = next(batches)

    for name, expected in (("checkpoint_0", first), ("checkpoint_3", fourth)):
        other = dataset_iterator.PeekableDatasetIterator(data.BatchIterator(config))
        other.restore(tmp_path / name)
        found = next(other)
        for feature, array in expected.items():
            np.testing.assert_array_equal(found[feature], array)


def test_a_checkpoint_of_another_run_is_an_error(config, tmp_path):
    def batches_of(model=None, **changes):
        changed = dataclasses.replace(config, **changes)
        converter = TaskIdFeatureConverter
        model = model or make_model()
        return data.get_dataset(
            dataset_config(config), 0, 1, converter, pipeline_config=changed, model=model
        )

    path = tmp_path / "checkpoint_0"
    batches_of().save(path)
    batches_of(seed=3).restore(path)
    with pytest.raises(ValueError, match=r"other settings, .*checkpoint_0: seed is 3 there and 4"):
        batches_of(seed=4).restore(path)
    with pytest.raises(ValueError, match=r"task_names is \['large', 'small'\] there and \['small'"):
        batches_of(task_names=("small", "large")).restore(path)
    other = make_model(decoder="manual")
    with pytest.raises(ValueError, match=r"another model, .*decoder_adapter.source is"):
        batches_of(other).restore(path)


def test_changes_that_a_run_may_make_are_told_and_its_beginning_is_kept(config, tmp_path, caplog):
    def batches_of(num_train_steps=9, num_microbatches=1, **changes):
        changed = make_model(dropout_rate=changes.pop("dropout_rate", 0.1))
        steps = TrainerConfig(num_train_steps, num_microbatches=num_microbatches)
        start = StartConfig(None, "bytes", frozen_dtype=changes.pop("frozen_dtype", "float32"))
        run = tiny_runs.make_config(
            model=dataclasses.replace(changed, **changes), data=config, start=start, trainer=steps
        )
        return data.get_dataset(
            dataset_config(config), 0, 1, TaskIdFeatureConverter,
            pipeline_config=config, model=run.model, run=run,
        )  # fmt: skip

    path = tmp_path / "checkpoint_0"
    batches_of().save(path)
    with caplog.at_level(logging.WARNING, logger="absl"):
        other = batches_of(
            num_train_steps=12,
            num_microbatches=2,
            dropout_rate=0.0,
            frozen_dtype="bfloat16",
            loss_config=LossConfig(label_smoothing=0.1),
        )
        other.restore(path)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"Continuing {path}; changed since the run began: dropout_rate 0.1 -> 0.0, "
        "frozen_dtype float32 -> bfloat16, loss.label_smoothing 0.0 -> 0.1, "
        "trainer.num_microbatches 1 -> 2, "
        "trainer.num_train_steps 9 -> 12"
    )
    other.save(path)
    caplog.clear()
    batches_of().restore(path)
    assert not caplog.records


def test_a_checkpoint_of_before_recipes_continues(config, tmp_path):
    path = tmp_path / "checkpoint_0"
    data.BatchIterator(config).save(path)
    run = json.loads(path.read_text())
    del run["recipe"]
    path.write_text(json.dumps(run))
    again = data.BatchIterator(config, recipe={"dropout_rate": 0.0})
    again.restore(path)
    again.save(path)
    assert json.loads(path.read_text())["recipe"] == {"dropout_rate": 0.0}


def test_a_checkpoint_of_another_step_is_an_error(config, tmp_path):
    batches = data.BatchIterator(config)
    next(batches)
    with pytest.raises(ValueError, match=r"is of step 7, and 1 batches were read\. Start"):
        batches.save(tmp_path / "checkpoint_7")


def test_the_batch_size_is_t5x_s_and_data_are_checked(config):
    converter = TaskIdFeatureConverter
    options = {"pipeline_config": config, "model": make_model()}
    found = data.get_dataset(dataset_config(config), 1, 2, converter, **options)
    assert found.element_spec["encoder_input_tokens"].shape == (2, 9)
    options["model"] = make_model(vocab_size=20)
    with pytest.raises(ValueError, match="vocab_size=20"):
        data.get_dataset(dataset_config(config), 0, 1, converter, **options)


def test_packed_batches_are_those_of_our_own_runner(config):
    options = {"pipeline_config": config, "model": make_model()}
    found = data.get_dataset(dataset_config(config, True), 0, 1, TaskIdFeatureConverter, **options)
    ours = dataclasses.replace(config, batch_size=4, pack=True)
    for _, expected in zip(range(3), train_batches.TrainIterator(ours), strict=False):
        batch = next(found)
        assert_same(batch, expected)
        assert {k: x.shape for k, x in batch.items()} == {
            k: x.shape for k, x in found.element_spec.items()
        }


def test_rows_for_a_number_of_examples_are_told(config):
    options = {"pipeline_config": dataclasses.replace(config, pack=True, examples_per_step=64)}
    with pytest.raises(ValueError, match=r"BATCH_SIZE=4, and EXAMPLES_PER_STEP=64 needs"):
        data.get_dataset(
            dataset_config(config, True),
            0,
            1,
            TaskIdFeatureConverter,
            model=make_model(),
            **options,
        )


def test_processes_that_share_rows_must_know_the_run(config, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(ValueError, match=r"must be told which run they continue; got none\. Bind"):
        data.get_dataset(
            dataset_config(config), 0, 2, TaskIdFeatureConverter,
            pipeline_config=config, model=make_model(),
        )  # fmt: skip


def test_rounded_weights_are_not_continued_as_exact_ones(config, tmp_path):
    path = tmp_path / "checkpoint_0"
    data.BatchIterator(config, recipe={"frozen_dtype": "bfloat16"}).save(path)
    data.BatchIterator(config, recipe={"frozen_dtype": "bfloat16"}).restore(path)
    with pytest.raises(ValueError, match=r"as they were rounded; .* Continue it with 'bfloat16'"):
        data.BatchIterator(config, recipe={"frozen_dtype": "float32"}).restore(path)


def test_a_best_metric_of_another_task_is_told_before_training(config):
    best = BestCheckpointConfig("tiny/accuracy")
    run = tiny_runs.make_config(data=config, trainer=TrainerConfig(9, best=best))
    with pytest.raises(ValueError, match=r"of tasks that are trained; got 'tiny/accuracy'"):
        data.get_dataset(
            dataset_config(config), 0, 1, TaskIdFeatureConverter,
            pipeline_config=config, model=make_model(), run=run,
        )  # fmt: skip


def test_what_is_evaluated_on_has_a_batch_size_of_its_own():
    found = data.eval_dataset("glue", LENGTHS, "validation", batch_size=8, eval_batch_size=3)
    assert (found.batch_size, found.split) == (3, "validation")
    assert not found.shuffle
    assert not found.pack
    assert data.eval_dataset("glue", LENGTHS, "validation", batch_size=8).batch_size == 8
    assert data.eval_dataset("glue", LENGTHS, None, batch_size=8) is None
