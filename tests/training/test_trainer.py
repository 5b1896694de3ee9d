import contextlib
import io
import json
import os
import signal
import weakref

import jax
import numpy as np
import pytest

from hyperdecoders_jax.training import (
    optimizer,
    partitioning,
    schedules,
    trainable,
    trainer,
)
from hyperdecoders_jax.training.identity import Identity
from hyperdecoders_jax.training.progress import Progress
from hyperdecoders_jax.training.trainer import BestCheckpointConfig, TrainerConfig
from tests.training import tiny

IDENTITY = Identity(task_names=("a", "b"), vocabulary_fingerprint="cafe")


def run(
    model_dir,
    batches=None,
    evaluate=None,
    identity=IDENTITY,
    writers=(),
    settings=None,
    on_accepted=lambda: None,
    **options,
):
    # Runs of as many steps share their compiled programs.
    options = {"num_train_steps": 7, "log_every_steps": 1, "eval_every_steps": 3} | options
    loop = make_loop(
        model_dir, TrainerConfig(**options), identity, settings, evaluate, writers, on_accepted
    )
    loop.start(*tiny.make_params(tiny.make_model()), batches or tiny.Batches())
    return loop.run()


def make_loop(
    model_dir,
    config,
    identity=IDENTITY,
    settings=None,
    evaluate=None,
    writers=(),
    on_accepted=lambda: None,
):
    schedule = schedules.LinearConfig(1e-2, warmup_steps=2)
    return trainer.Trainer(
        trainer.TrainingRecipe(tiny.make_model(), optimizer.AdamWConfig(), schedule, config),
        partitioning.make_partitioner(devices=jax.devices()[:1]),
        trainer.RunDirectory(str(model_dir), identity, settings=settings or {"seed": 1}),
        evaluate=evaluate,
        writers=writers,
        on_accepted=on_accepted,
        progress=Progress(0, config.num_train_steps, io.StringIO()),
    )


def constant_metrics(params, step):
    return {"a": {"accuracy": 10.0 * step}}


def lines(model_dir, kind="train"):
    text = (model_dir / "metrics.jsonl").read_text()
    rates = ("steps_per_sec", "examples_per_sec")
    found = [json.loads(line) for line in text.splitlines()]
    return [
        {name: value for name, value in line.items() if name not in rates}
        for line in found
        if line["kind"] == kind
    ]


def assert_same_state(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.trainable, b.trainable)
    jax.tree.map(np.testing.assert_array_equal, a.opt_state, b.opt_state)


class Failing(tiny.Batches):
    """Batches that do `act` in place of the one numbered `at`, from 1."""

    def __init__(self, at, act):
        super().__init__()
        self.at, self.act = at, act

    def __next__(self):
        batch = super().__next__()
        return self.act(batch) if self.count == self.at else batch


def crash(batch):
    raise ConnectionError("the machine is gone")


def send(number):
    def act(batch):
        os.kill(os.getpid(), number)
        return batch

    return act


def poison(batch):
    return batch.replace(decoder_loss_weights=batch.decoder_loss_weights * np.nan)


def test_a_run_writes_its_metrics_and_checkpoints(tmp_path):
    written = []
    result = run(
        tmp_path,
        evaluate=constant_metrics,
        writers=[lambda step, values: written.append((step, values))],
        checkpoint_every_steps=2,
        keep_last=2,
    )
    assert result.is_finished
    assert result.metrics == {"a": {"accuracy": 70.0}}
    assert result.best_step == 7
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]
    assert lines(tmp_path, "eval") == [
        {"step": step, "kind": "eval", "task": "a", "accuracy": 10.0 * step} for step in (3, 6, 7)
    ]
    assert (3, {"eval/a/accuracy": 30.0}) in written
    assert {"train/loss", "train/learning_rate"} <= written[0][1].keys()
    assert trainer.RunDirectory(tmp_path).checkpoints().steps() == [6, 7]


def test_evaluation_sees_the_parameters_of_its_step_and_frozen_ones_stay(tmp_path):
    seen = {}

    def evaluate(params, step):
        seen[step] = jax.device_get(params)
        return {}

    result = run(tmp_path, evaluate=evaluate)
    assert sorted(seen) == [3, 6, 7]
    jax.tree.map(np.testing.assert_array_equal, seen[7], jax.device_get(result.params))
    _, frozen = tiny.make_params(tiny.make_model())
    _, still_frozen = trainable.split(seen[7], tiny.TRAINED)
    jax.tree.map(np.testing.assert_array_equal, still_frozen, frozen)


def test_the_start_of_a_run_is_not_changed(tmp_path):
    model = tiny.make_model()
    before = tiny.make_params(model)
    run(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, before, tiny.make_params(model))


# A log line is the mean of five steps, and runs are broken off between two.
BETWEEN_LINES = {"log_every_steps": 5, "evaluate": constant_metrics}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a run that nothing broke off, and its result."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, run(folder, **BETWEEN_LINES)


def assert_same_run(folder, result, unbroken):
    """The same state, bit for bit, and each line once."""
    unbroken_folder, unbroken_result = unbroken
    assert_same_state(result.state, unbroken_result.state)
    for kind in ("train", "eval"):
        assert lines(folder, kind) == lines(unbroken_folder, kind)


def test_a_killed_run_continues_bit_for_bit(tmp_path, unbroken):
    options = BETWEEN_LINES | {"checkpoint_every_steps": 3}
    with pytest.raises(ConnectionError):
        run(tmp_path, Failing(6, crash), **options)
    assert_same_run(tmp_path, run(tmp_path, **options), unbroken)


def test_a_run_stopped_by_sigterm_continues_bit_for_bit(tmp_path, unbroken):
    # Step 3 is one that is evaluated: the evaluation is made up for at the next start.
    stopped = run(tmp_path, Failing(3, send(signal.SIGTERM)), **BETWEEN_LINES)
    assert not stopped.is_finished
    assert trainer.RunDirectory(tmp_path).checkpoints().steps() == [3]
    resumed = run(tmp_path, **BETWEEN_LINES)
    assert resumed.is_finished
    assert_same_run(tmp_path, resumed, unbroken)


@pytest.mark.parametrize("act", ["fail", "signal"])
def test_an_evaluation_that_is_broken_off_costs_no_step(tmp_path, unbroken, act):
    evaluated = []

    def break_off(params, step):
        evaluated.append(step)
        if act == "fail":
            raise ConnectionError("the machine is gone")
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal ends the evaluation")

    options = BETWEEN_LINES | {"checkpoint_every_steps": 3}
    with pytest.raises(ConnectionError) if act == "fail" else contextlib.nullcontext():
        stopped = run(tmp_path, **(options | {"evaluate": break_off}))
        assert not stopped.is_finished
    assert evaluated == [3]
    assert trainer.RunDirectory(tmp_path).checkpoints().steps() == [3]
    resumed = run(tmp_path, **options)
    assert resumed.best_step == 7
    assert_same_run(tmp_path, resumed, unbroken)


def test_a_signal_in_an_evaluation_without_a_checkpoint_saves_its_step(tmp_path):
    def stop(params, step):
        os.kill(os.getpid(), signal.SIGTERM)

    stopped = run(tmp_path, evaluate=stop, checkpoint_every_steps=None)
    assert not stopped.is_finished
    assert trainer.RunDirectory(tmp_path).checkpoints().steps() == [3]


def test_lines_of_an_evaluation_that_was_not_noted_are_written_once(tmp_path):
    options = {"evaluate": constant_metrics, "eval_every_steps": None}
    run(tmp_path, **options)
    # As if the run was killed between writing the lines and noting the evaluation.
    (tmp_path / "checkpoints" / "7" / "evaluation.json").unlink()
    assert run(tmp_path, **options).best_step == 7
    assert len(lines(tmp_path, "eval")) == 1


def test_a_damaged_newest_checkpoint_costs_steps_but_changes_nothing(tmp_path, unbroken, caplog):
    options = BETWEEN_LINES | {"checkpoint_every_steps": 2}
    with pytest.raises(ConnectionError):
        run(tmp_path, Failing(6, crash), **(options | {"evaluate": None}))
    file = next((tmp_path / "checkpoints/4/trainable").rglob("manifest.ocdbt"))
    file.write_bytes(file.read_bytes()[:10])
    resumed = run(tmp_path, **options)
    assert "Skipping checkpoint" in caplog.text
    assert_same_run(tmp_path, resumed, unbroken)


def test_a_finished_run_is_not_run_again(tmp_path):
    run(tmp_path, evaluate=constant_metrics)
    result = run(tmp_path, Failing(1, crash), evaluate=None)
    assert result.metrics == {"a": {"accuracy": 70.0}}
    assert result.is_finished


def test_runs_that_are_trained_alike_compile_one_step_and_can_be_made_longer(tmp_path, caplog):
    # No other test makes as many steps: here the program is new.
    options = dict(evaluate=constant_metrics, num_train_steps=5, log_every_steps=2)
    compiled = []
    for seed in (0, 1):
        caplog.clear()
        with jax.log_compiles():
            run(tmp_path / str(seed), seed=seed, **options)
        step = "Compiling jit(train_step)"
        compiled.append(sum(message.startswith(step) for message in caplog.messages))
    assert compiled == [1, 0]
    assert lines(tmp_path / "0") != lines(tmp_path / "1")

    longer = run(tmp_path / "0", seed=0)
    assert [line["step"] for line in lines(tmp_path / "0")] == [2, 4, 5, 6, 7]
    assert longer.is_finished


def test_nan_stops_the_run_before_its_next_log_line(tmp_path):
    batches = Failing(2, poison)
    with pytest.raises(ValueError, match=r"NaN or infinity at step 2\. There is no checkpoint yet"):
        run(tmp_path, batches, log_every_steps=100)
    assert batches.count <= 2 + trainer.MAX_STEPS_IN_FLIGHT


@pytest.mark.parametrize("log_every_steps", [1, 100])
def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, log_every_steps):
    with pytest.raises(ValueError, match=r"NaN or infinity at step 5. .*of step 4, is good"):
        run(
            tmp_path,
            Failing(5, poison),
            checkpoint_every_steps=2,
            log_every_steps=log_every_steps,
        )
    assert trainer.RunDirectory(tmp_path).checkpoints().newest_step() == 4
    if log_every_steps == 1:
        assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]


def test_the_best_checkpoint_is_saved_when_it_is_found(tmp_path):
    def evaluate(params, step):
        return {"a": {"accuracy": {2: 10.0, 4: 30.0, 6: 20.0, 7: 5.0}[step]}}

    result = run(
        tmp_path, evaluate=evaluate, eval_every_steps=2, checkpoint_every_steps=None, keep_last=1
    )
    assert result.best_step == 4
    assert trainer.RunDirectory(tmp_path).checkpoints().steps() == [4, 7]


def test_the_best_of_a_stopped_run_is_still_the_best(tmp_path):
    def evaluate(params, step):
        return {"a": {"accuracy": {2: 30.0, 4: 20.0, 6: 10.0, 7: 5.0}[step]}}

    options = {"evaluate": evaluate, "eval_every_steps": 2, "keep_last": 1}
    run(tmp_path, Failing(3, send(signal.SIGTERM)), **options)
    assert run(tmp_path, **options).best_step == 2


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_run_ends_early_when_evaluations_find_nothing_better(tmp_path, is_killed):
    values = {2: 30.0, 4: 20.0, 6: 30.0, 7: 99.0}

    def evaluate(params, step):
        return {"a": {"accuracy": values[step]}}

    options = {"evaluate": evaluate, "eval_every_steps": 2}
    options |= {"early_stopping_patience": 2, "checkpoint_every_steps": 3}
    if is_killed:
        run(tmp_path, Failing(5, send(signal.SIGTERM)), **options)
    for _ in range(2):  # The second finds it finished.
        result = run(tmp_path, **options)
        assert result.is_finished
        assert (int(result.state.step), result.best_step) == (6, 2)


def test_a_run_that_is_not_evaluated_in_between_cannot_end_early():
    with pytest.raises(ValueError, match=r"early_stopping_patience must come with .*got 1"):
        TrainerConfig(num_train_steps=4, eval_every_steps=None, early_stopping_patience=1)


def test_the_average_counts_every_metric_once_but_those_left_out():
    metrics = {"xsum": {"rouge1": 90.0, "rouge2": 30.0}, "cola": {"mcc": 10.0}}
    assert BestCheckpointConfig(left_out=["xsum/rouge1"]).value(metrics) == 20.0
    assert BestCheckpointConfig(metric="cola/mcc").value(metrics) == 10.0
    assert BestCheckpointConfig().value({"stsb": {"pearson": float("nan")}}) is None


def test_a_best_metric_that_nobody_computes_is_refused():
    with pytest.raises(KeyError, match=r"got 'cola/f1'. Choose one of \['cola/mcc'\]"):
        BestCheckpointConfig(metric="cola/f1").value({"cola": {"mcc": 10.0}})
    with pytest.raises(KeyError, match=r"left_out .* got 'cola/f1'. Choose from \['cola/mcc'\]"):
        BestCheckpointConfig(left_out=["cola/f1"]).value({"cola": {"mcc": 10.0}})
    assert BestCheckpointConfig(left_out=["rte/f1"]).value({"cola": {"mcc": 10.0}}) == 10.0


@pytest.mark.parametrize(
    ("best", "field"),
    [
        (BestCheckpointConfig(metric="coal/mcc"), "metric"),
        (BestCheckpointConfig(left_out=["cola/mcc", "coal/mcc"]), "left_out"),
    ],
)
def test_a_best_metric_of_another_task_is_refused(best, field):
    best.check_tasks(["cola", "coal"])
    with pytest.raises(ValueError, match=rf"Config.{field} must .* got 'coal/mcc', .*\['cola'\]"):
        best.check_tasks(["cola"])


def test_a_best_metric_that_is_neither_an_average_nor_of_a_task_is_refused():
    with pytest.raises(ValueError, match=r"Config.metric must name .* got 'average_metric', "):
        BestCheckpointConfig(metric="average_metric").check_tasks(["cola"])


def test_the_first_of_equal_values_stays_the_best():
    highest, lowest = BestCheckpointConfig(), BestCheckpointConfig(greater_is_better=False)
    assert highest.is_better(2.0, 1.0)
    assert lowest.is_better(1.0, 2.0)
    for best in (highest, lowest):
        assert best.is_better(1.0, None)
        assert not best.is_better(1.0, 1.0)


def to_copied(x):
    """The same where JAX must copy it: on a CPU it uses arrays at multiples of 64 bytes itself."""
    room = np.empty(x.nbytes + 64, np.uint8)
    start = (16 - room.ctypes.data) % 64
    found = room[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    found[:] = x
    return found


def test_start_parameters_that_are_handed_over_are_not_kept(tmp_path):
    alive = []
    parts = [jax.tree.map(to_copied, part) for part in tiny.make_params(tiny.make_model())]
    starts = [weakref.ref(jax.tree.leaves(part)[0]) for part in parts]

    def evaluate(params, step):
        alive.extend(start() is not None for start in starts)
        return {}

    loop = make_loop(tmp_path, TrainerConfig(num_train_steps=7), evaluate=evaluate)
    loop.start(*parts, tiny.Batches())
    parts.clear()
    loop.run()
    assert alive == [False, False]


def test_nothing_is_written_before_a_directory_is_accepted(tmp_path):
    seen = []

    def look():
        seen.append(sorted(path.name for path in tmp_path.iterdir()))

    run(tmp_path, on_accepted=look)
    assert seen == [[]]
    with pytest.raises(ValueError, match="a checkpoint of another model"):
        run(tmp_path, identity=Identity(task_names=("c",)), on_accepted=look)
    with pytest.raises(
        ValueError, match=r"a checkpoint of other settings, .*seed is 1 there and 2"
    ):
        run(tmp_path, settings={"seed": 2}, on_accepted=look)
    assert seen == [[]]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path)
    other = Identity(task_names=("b", "a"), vocabulary_fingerprint="cafe")
    with pytest.raises(ValueError, match=r"a checkpoint of another model, .*task_names is"):
        run(tmp_path, identity=other)


def test_an_unwritable_directory_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="The model directory must be writable"):
        run(tmp_path / "file" / "run", Failing(1, crash))


def test_data_that_end_are_refused(tmp_path):
    def end(batch):
        raise StopIteration

    with pytest.raises(ValueError, match="Batches must last for 7 steps; got their end after"):
        run(tmp_path, Failing(3, end))


def test_what_was_trained_before_a_wrong_example_is_kept(tmp_path):
    class Refusing(tiny.Batches):
        def __next__(self):
            if self.count == 4:
                raise ValueError("A target must fit.")
            return super().__next__()

    with pytest.raises(ValueError, match="A target must fit"):
        run(tmp_path / "broken", Refusing())
    assert_same_state(run(tmp_path / "broken").state, run(tmp_path / "whole").state)
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")


def test_a_batch_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"All batches must have the same shapes, .*\(4, 7\)"):
        run(tmp_path, Failing(2, lambda _: tiny.make_batch(batch_size=4)))


def test_microbatches_that_do_not_divide_are_refused(tmp_path):
    with pytest.raises(ValueError, match="The batch size must divide by 3"):
        run(tmp_path, num_microbatches=3)


@pytest.mark.parametrize("name", ["num_train_steps", "log_every_steps", "eval_every_steps"])
def test_zero_steps_are_refused(name):
    with pytest.raises(ValueError, match=rf"TrainerConfig.{name} must be an integer of at least 1"):
        TrainerConfig(**{"num_train_steps": 1, name: 0})
