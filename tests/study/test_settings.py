"""What runs of a comparison must have in common, and what methods that differ are told to."""

import dataclasses
import re

import pytest

from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig
from hyperdecoders_jax.losses import LossConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.study import runs, settings
from hyperdecoders_jax.tasks import mixtures  # noqa: F401 (registers the demo)
from hyperdecoders_jax.training.schedules import LinearConfig
from hyperdecoders_jax.training.trainable import TrainableConfig
from hyperdecoders_jax.training.trainer import BestCheckpointConfig, TrainerConfig
from tests import tiny
from tests.study import made


def test_what_is_equal_is_told_and_what_differs():
    run = made.make_run()
    other = made.make_run(model=Model(tiny.make_config("manual", "manual")))
    evaluation = dataclasses.replace(other.evaluation, generation={"rhyme": (8, 4)})
    methods = {"a": run, "b": dataclasses.replace(other, evaluation=evaluation)}
    assert "T5 from random weights, steps 40, examples a step 4" in settings.equal(methods)
    different = settings.differences(methods)
    assert list(different) == ["decoding", settings.NUM_PARAMETERS]
    told = "Different: decoding: a GreedyConfig(), b GreedyConfig() and {'rhyme': (8, 4)}."
    assert different["decoding"] == told


def test_whatever_changes_scores_is_among_the_differences():
    run = made.make_run()
    data, model, trainer = run.data, run.model, run.trainer
    packed = {"pack": True, "row_lengths": {"inputs": 32, "targets": 16}}
    best = BestCheckpointConfig("f1")
    for name, field in {
        "packing": {"data": dataclasses.replace(data, **packed)},
        "loss.z_loss": {"model": dataclasses.replace(model, loss_config=LossConfig(z_loss=0.5))},
        "trainer.eval_every_steps": {"trainer": TrainerConfig(40, eval_every_steps=10)},
        "trainer.best.metric": {"trainer": dataclasses.replace(trainer, best=best)},
        "frozen_dtype": {"start": dataclasses.replace(run.start, frozen_dtype="bfloat16")},
        "vocabulary": {"start": dataclasses.replace(run.start, vocabulary="spiece.model")},
        "shuffle": {"data": dataclasses.replace(data, shuffle=False)},
        "truncate_targets": {"data": dataclasses.replace(data, truncate_targets=True)},
        "emb_dim": {"model": Model(dataclasses.replace(model.config, emb_dim=32))},
    }.items():
        other = dataclasses.replace(run, **field)
        assert name in settings.differences({"a": run, "b": other}), name
        with pytest.raises(ValueError, match="must have the settings of its comparison"):
            settings.check_same(settings.of_run(run, "test"), settings.of_run(other, "test"), "x")
    # The comparison evaluates all of them on one split.
    other = dataclasses.replace(run, evaluation=dataclasses.replace(run.evaluation, split="train"))
    assert not settings.differences({"a": run, "b": other})
    # Rows are no examples.
    packed = dataclasses.replace(run, data=dataclasses.replace(data, **packed))
    assert "examples a step as many as fill 4 packed rows" in settings.equal({"a": packed})


class Schedule:
    """One of a user's own, which is no dataclass."""

    def __init__(self, peak):
        self.peak, self.shape = peak, object()

    def make(self, num_train_steps):
        return lambda step: self.peak


def test_equal_objects_of_a_users_classes_are_equal():
    one, same, other = (made.make_run(schedule=Schedule(peak)) for peak in (1.0, 1.0, 2.0))
    assert not settings.differences({"a": one, "b": same})
    told = settings.differences({"a": one, "b": other})["schedule"]
    assert re.search(r"a Schedule\(peak=1.0, .*\), b Schedule\(peak=2.0, ", told)
    settings.check_same(settings.of_run(one, "test"), settings.of_run(same, "test"), "x")


def test_a_finished_run_with_other_settings_is_refused(tmp_path):
    comparison = made.make_comparison(tmp_path, seeds=(1,))
    run = comparison.run("adapter", 1)
    there = settings.of_run(run, "test")
    made.write_scores(run.model_dir, {}, settings=there)
    settings.check_finished(comparison)
    runs.write(run.model_dir, {"settings": there | {"lengths": "8", "steps": "9"}})
    with pytest.raises(ValueError, match=r"seed-1 has lengths 8 there.*; steps 9 there and 40"):
        settings.check_finished(comparison)


def test_settings_are_all_that_changes_scores(tmp_path):
    run = made.make_comparison(tmp_path, seeds=(1,)).run("adapter", 1)
    there = settings.of_run(run, "test")
    model, evaluation = run.model, run.evaluation
    for other in (
        dataclasses.replace(run, model=dataclasses.replace(model, decoding=BeamSearchConfig(4))),
        dataclasses.replace(run, schedule=LinearConfig(0.5, 1)),
        dataclasses.replace(run, evaluation=dataclasses.replace(evaluation, split="test")),
        dataclasses.replace(run, trainable=TrainableConfig(backbone=True)),
        dataclasses.replace(run, start=dataclasses.replace(run.start, frozen_dtype="bfloat16")),
    ):
        with pytest.raises(ValueError, match="must have the settings of its comparison"):
            settings.check_same(there, settings.of_run(other, "test"), "here")
    same = dataclasses.replace(run, evaluation=dataclasses.replace(evaluation, batch_size=7))
    settings.check_same(there, settings.of_run(same, "test"), "here")


def test_runs_of_other_data_or_another_t5_under_the_same_names_are_refused():
    def scores(examples="a", named="t5", **contents):
        tasks = {"demo_find": {"examples": examples}}
        return {"settings": {"T5": named}, "contents": contents, "tasks": tasks}

    first = {"out/x/seed-1": scores(T5="1", **{"trained on": {"own": {"train_examples": "5"}}})}
    earlier = {"out/x/seed-2": {"tasks": {"demo_find": {}}}, "out/y/seed-1": scores(T5="2")}
    settings.check_contents(first | earlier)
    # Names of metrics may depend on predictions; those of rehearsals do not.
    named = [scores(metrics={"demo_find": ["em"]}), scores(metrics={"demo_find": ["em"]})]
    named[0]["tasks"]["demo_find"]["metrics"] = {"em": 1.0, "recall_of_yes": 2.0}
    settings.check_contents({"out/x/seed-1": named[0], "out/x/seed-2": named[1]})
    settings.check_contents(first | {"out/x/seed-2": scores(T5="2", named="another of a grid")})
    for other, told in (
        (scores(metrics={"demo_find": ["f1"]}), r"metrics\.demo_find is \['em'\] in out/x/seed-0"),
        (scores("b"), r"scored on\.demo_find is a in out/x/seed-1 and b in out/x/seed-3"),
        (scores(T5="2"), "T5 t5 of out/x is 1 in"),
        (scores(**{"trained on": {"own": {"train_examples": "6"}}}), r"trained on\.own\.train_exa"),
    ):
        of_runs = {**first, **earlier, "out/x/seed-0": named[1], "out/x/seed-3": other}
        with pytest.raises(ValueError, match=f"metrics behind the same names; {told}"):
            settings.check_contents(of_runs)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("package://tasks/demo_data/demo_t5.safetensors", "demo_data/demo_t5.safetensors"),
        ("gs://bucket/models/t5_base", "t5_base"),
        (None, ""),
    ],
)
def test_a_t5_is_named_wherever_it_lies(tmp_path, path, named):
    run = made.make_comparison(tmp_path, seeds=(1,)).run("adapter", 1)
    start = dataclasses.replace(run.start, initial_checkpoint_path=path)
    run = dataclasses.replace(run, start=start)
    assert settings.of_run(run, "test")["T5"] == named
