"""The training loop: a model, parameters, batches and an `evaluate` function give a run on disk.

After a step come, where due, its log line, its checkpoint and its evaluation: an interrupted
evaluation loses no steps, and the next start repeats it. A resumed run equals an unbroken one bit
for bit. A loss that is no longer finite ends the run, with its last good checkpoint kept.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
from absl import logging

from hyperdecoders_jax import errors
from hyperdecoders_jax.evaluation import averages
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.training import optimizer as optimizer_lib
from hyperdecoders_jax.training import partitioning, programs, schedules, train_state
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.training.checkpoints import agree
from hyperdecoders_jax.training.optimizer import OptimizerConfig
from hyperdecoders_jax.training.progress import Progress, describe_start
from hyperdecoders_jax.training.run_directory import RunDirectory
from hyperdecoders_jax.training.schedules import ScheduleConfig
from hyperdecoders_jax.training.stop_signals import StopAsked, StopSignals
from hyperdecoders_jax.training.train_state import TrainState
from hyperdecoders_jax.training.train_step import StepMetrics
from hyperdecoders_jax.types import Batch, Metrics, Params, WriteMetrics

# Steps that the devices may have queued before the host waits for the oldest. One step ahead hides
# the time of reading data and of dispatch; more would only delay the news of a loss that is NaN.
MAX_STEPS_IN_FLIGHT = 2

Evaluate = Callable[[Params, int], Metrics]


class Batches(Protocol):
    """An endless iterator with a position; `data.train_batches.TrainIterator` is one."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch:
        """This process's part of the next batch, as numpy arrays of the same shapes each time."""

    def position(self) -> Any:
        """The position after the last batch returned, as JSON."""

    def restore(self, position: Any) -> None:
        """Continues after such a position."""

    def packing(self) -> Mapping[str, float]:
        """Of packed rows: `fill` and `examples_per_step`, means so far; else nothing."""


@dataclasses.dataclass(frozen=True)
class BestCheckpointConfig:
    """Which checkpoint is the best."""

    metric: str = "average_metrics"  # "task_average" (see `averages`) or "TASK/METRIC".
    greater_is_better: bool = True
    left_out: Sequence[str] = ()  # Not in "average_metrics"; in the original ROUGE-1, -L, -Lsum.

    def __post_init__(self):
        errors.check_bools(self)

    def check_tasks(self, task_names: Sequence[str]) -> None:
        """Raises ValueError unless the metrics named are of these tasks."""
        named = [("metric", self.metric)] if self.metric not in averages.NAMES else []
        for field, name in [*named, *(("left_out", name) for name in self.left_out)]:
            if not any(name.startswith(f"{task}/") for task in task_names):
                raise ValueError(
                    f"BestCheckpointConfig.{field} must name metrics as TASK/METRIC, of tasks that "
                    f"are trained; got {name!r}, and the tasks {sorted(task_names)}. Correct it."
                )

    def value(self, metrics: Metrics) -> float | None:
        """The number to compare checkpoints by; None if not finite, KeyError for unknown names.

        >>> metrics = {"cola": {"mcc": 10.0}, "mrpc": {"f1": 80.0, "accuracy": 60.0}}
        >>> BestCheckpointConfig().value(metrics)
        50.0
        """
        flat = averages.flatten(metrics)
        values = averages.compute(metrics, self.left_out) | flat
        if self.metric not in values:
            raise KeyError(
                f"BestCheckpointConfig.metric must be one of {averages.NAMES} or a metric of a "
                f"task; got {self.metric!r}. Choose one of {sorted(flat)}."
            )
        for name in self.left_out:
            # A task without the evaluated split has no metrics, and that is no misspelling.
            if name not in flat and name.split("/")[0] in metrics:
                raise KeyError(
                    "BestCheckpointConfig.left_out must name metrics that are computed; got "
                    f"{name!r}. Choose from {sorted(flat)}."
                )
        value = values[self.metric]
        return value if math.isfinite(value) else None

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether a value beats the best so far; the first of equal ones stays the best."""
        sign = 1 if self.greater_is_better else -1
        return best is None or sign * value > sign * best


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """How long to train, and what to do in between."""

    num_train_steps: int  # Updates of the run, those before it was resumed included.
    eval_every_steps: int | None = 1000  # None: only after the last step.
    checkpoint_every_steps: int | None = 1000  # None: only the last step and the best.
    log_every_steps: int = 100  # A line of metrics is their mean over these steps.
    keep_last: int | None = 3  # Newest checkpoints to keep; None keeps all.
    best: BestCheckpointConfig | None = BestCheckpointConfig()  # Saved when found; kept.
    num_microbatches: int = 1  # Parts of a batch, to save memory; see `train_step`.
    seed: int = 42  # Of dropout.
    profile_steps: tuple[int, int] | None = None  # First and last step that are traced.
    early_stopping_patience: int | None = None  # Evaluations without a better one; None: all steps.

    def __post_init__(self):
        can_be_none = (
            "eval_every_steps", "checkpoint_every_steps", "keep_last", "early_stopping_patience",
        )  # fmt: skip
        for name in (*can_be_none, "num_train_steps", "log_every_steps", "num_microbatches"):
            if name in can_be_none and getattr(self, name) is None:
                continue
            advice = f"Set TrainerConfig.{name}{', or None' if name in can_be_none else ''}."
            # Steps are counted in 32 bits.
            errors.check_whole(self, name, 1, schedules.MAX_STEPS, advice)
        errors.check_seed(self, "seed")
        steps = self.profile_steps
        # The last step, too, is checked to be there: a trace that never comes is missed late.
        is_range = isinstance(steps, tuple | list) and len(steps) == 2
        is_range = is_range and errors.is_whole(steps[1], 1, self.num_train_steps)
        is_valid = steps is None or (is_range and errors.is_whole(steps[0], 1, steps[1]))
        must = f"be None or a first and a last step, from 1 to {self.num_train_steps:,}"
        errors.check_field(self, "profile_steps", is_valid, must, "Write (10, 15).")
        is_valid = self.early_stopping_patience is None or (self.eval_every_steps and self.best)
        must = "come with eval_every_steps and best"
        errors.check_field(self, "early_stopping_patience", is_valid, must, "Set EVAL_PERIOD.")


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """Result of `Trainer.run`."""

    state: TrainState  # After the last step.
    params: Params  # All parameters, on the devices.
    metrics: Metrics  # Task → metric → value of the last evaluation; empty if there was none.
    best_step: int | None  # Of the best checkpoint, or None.
    is_finished: bool  # False if a signal stopped the run; the next start continues it.


@dataclasses.dataclass(frozen=True)
class TrainingRecipe:
    """What is trained and how, apart from data, devices and directory."""

    model: Model  # Its `loss` is minimised; its `param_axes` say how parameters are sharded.
    optimizer: OptimizerConfig  # `AdamWConfig` or `AdafactorConfig`.
    schedule: ScheduleConfig  # A class of `schedules`; it is given `config.num_train_steps`.
    config: TrainerConfig


class Trainer:
    """The training loop of one run, in two calls, `start` and `run`.

    In between the caller drops its parameters, so that the host holds no second copy of them:

        loop = Trainer(recipe, partitioner, directory, evaluate=evaluate)
        loop.start(trainable, frozen, batches)
        del trainable, frozen
        result = loop.run()

    SIGTERM (and one SIGINT) ends the run after the step in progress, with a checkpoint, or in the
    middle of an evaluation; `run` then returns with `is_finished` False.

    The directory gets metrics and checkpoints; a run that is in it is continued. `evaluate` is
    given all parameters (sharded, on the devices) and the step, in all processes, and returns task
    → metric → value. `on_accepted` is called before anything is written, once the directory is
    known to hold this run or none, and the `writers` with a step and numbers such as "train/loss"
    and "eval/TASK/METRIC", both in process 0.
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        partitioner: partitioning.Partitioner,
        directory: RunDirectory,
        *,
        evaluate: Evaluate | None = None,
        on_accepted: Callable[[], None] = lambda: None,
        writers: Sequence[WriteMetrics] = (),
        progress: Progress | None = None,
    ):
        self._config = recipe.config
        self._model = recipe.model
        self._recipe = recipe
        rate = recipe.schedule.make(recipe.config.num_train_steps)
        self._tx = optimizer_lib.make_optimizer(recipe.optimizer, rate)
        self._partitioner = partitioner
        self._directory = directory
        best = recipe.config.best
        self._checkpoints = directory.checkpoints(
            recipe.config.keep_last, best.greater_is_better if best else True
        )
        self._evaluate_params = evaluate
        self._on_accepted = on_accepted
        self._metric_log = directory.metric_log(writers)
        self._is_main = jax.process_index() == 0
        self._progress = progress
        self._profiler = directory.profiler(recipe.config.profile_steps)
        self._signals = StopSignals()
        self._is_stopped = False
        self._is_exhausted = False  # By its evaluations; see `early_stopping_patience`.
        self._changes: str | None = None  # Since the run's beginning, in words.
        # A step is saved once, though its checkpoint and its evaluation may both want it.
        self._saved_step: int | None = None
        # Of the evaluation of the current step; None if it was not evaluated.
        self._metrics: Metrics | None = None
        self._best_value: float | None = None
        self._batch_check = partitioning.BatchCheck(partitioner, recipe.config.num_microbatches)

    def start(self, trainable: Params, frozen: Params, batches: Batches) -> None:
        """Puts the run's state on the devices: its newest intact checkpoint, or `trainable`.

        Writes nothing. `trainable` is a new run's, from `trainable.split`, `frozen` the rest, cast
        if wished; neither is changed, and every process has both in full. `batches` are this
        process's, see `data_shard()`. Raises ValueError if the directory cannot be written (checked
        first), holds a checkpoint of another model or settings, or only damaged ones.
        """
        self._directory.check_writable()
        axes = self._model.param_axes()
        placements = self._partitioner.param_shardings(trainable, axes)
        # Shapes alone: a resumed run reads its arrays straight into their shardings.
        shapes = jax.eval_shape(self._create_state, dict(trainable))
        shardings = self._partitioner.state_shardings(shapes, self._tx, placements)
        wanted = jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            shardings,
        )
        self._batches = batches
        self._programs = programs.of(
            self._model,
            self._recipe.optimizer,
            self._recipe.schedule,
            self._config.num_train_steps,
            self._config.num_microbatches,
            shardings,
        )
        state = self._restore(wanted)
        self._state = self._new_state(trainable, shardings) if state is None else state
        self._step = int(self._state.step)
        logging.info("Trained from step %d: %s", self._step, trainable_lib.list_paths(trainable))
        logging.info("Replicated on every device: %s", partitioning.list_replicated(placements))
        self._frozen = self._partitioner.put_params(
            frozen, self._partitioner.param_shardings(frozen, axes)
        )

    def _create_state(self, params: Params) -> TrainState:
        return train_state.create(params, self._tx, jax.random.key(self._config.seed))

    def _new_state(self, trainable: Params, shardings: TrainState) -> TrainState:
        placed = self._partitioner.put_params(trainable, shardings.trainable)
        return self._programs.create_state(placed, jax.random.key(self._config.seed))

    def _restore(self, wanted: TrainState) -> TrainState | None:
        if (restored := self._checkpoints.restore(wanted)) is None:
            return None
        self._batches.restore(restored.position)
        self._metrics, self._changes = restored.metrics, restored.changes
        self._saved_step = int(restored.state.step)
        self._best_value = self._checkpoints.best_value()
        self._step = self._saved_step
        self._is_exhausted = self._metrics is not None and self._find_exhausted()
        return restored.state

    def run(self) -> TrainResult:
        """Trains until `TrainerConfig.num_train_steps`, or until a signal.

        Raises ValueError if a batch does not divide over the devices or changes its shape, the data
        end, or a loss is not finite; KeyError as `BestCheckpointConfig.value` does.
        """
        if self._is_main:
            self._directory.make()
            # More steps than are wanted now would be described wrongly.
            if self._step <= self._config.num_train_steps:
                self._on_accepted()
        self._metric_log.resume(self._step, is_evaluated=self._metrics is not None)
        self._progress = self._progress or Progress(
            self._step, self._config.num_train_steps, is_shown=self._is_main
        )
        with contextlib.closing(self._progress), contextlib.closing(self._profiler), self._signals:
            self._profiler.begin(self._step)
            if self._saved_step is not None:
                here = self._checkpoints.directory
                self._progress.say(describe_start(here, self._step, self._config.num_train_steps))
                if self._changes is not None:
                    self._progress.say(self._changes)
                if self._is_eval_due() and self._metrics is None:
                    # The run was killed between the checkpoint and its evaluation.
                    self._evaluate()
            self._train()
        is_at_end = self._step >= self._config.num_train_steps
        is_evaluated = self._metrics is not None or self._evaluate_params is None
        return TrainResult(
            state=self._state,
            params=self._params(),
            metrics=self._metrics or {},
            best_step=self._checkpoints.best_step(),
            is_finished=(is_at_end or self._is_exhausted) and is_evaluated,
        )

    def _train(self) -> None:
        in_flight = collections.deque()
        last = self._config.num_train_steps
        while self._step < last and not (self._is_stopped or self._is_exhausted):
            in_flight.append(self._make_step())
            # JAX returns before a step is done. Without a limit the host would queue batches in
            # device memory, and a signal or a NaN would be noticed many steps late.
            if len(in_flight) > MAX_STEPS_IN_FLIGHT:
                oldest = jax.device_get(in_flight.popleft())
                if not all(map(math.isfinite, oldest.values())):
                    self._check_finite()
            self._is_stopped = self._signals.is_stop_asked(self._step)
            is_last = self._step == self._config.num_train_steps
            if is_last or self._is_due(self._config.log_every_steps):
                self._log()
            if self._is_stopped or is_last or self._is_due(self._config.checkpoint_every_steps):
                self._save()
            if self._is_eval_due() and not self._is_stopped:
                self._evaluate()

    def _find_exhausted(self) -> bool:
        """Whether the last evaluations found no better checkpoint, and the run is to end."""
        patience, best = self._config.early_stopping_patience, self._checkpoints.best_step()
        if patience is None or best is None:
            return False
        # From steps alone, so that a run that was resumed ends where an unbroken one does.
        return bool(agree(int(self._step - best >= patience * self._config.eval_every_steps)))

    def _params(self) -> Params:
        return trainable_lib.merge(self._state.trainable, self._frozen)

    def _make_step(self) -> StepMetrics:
        """Starts one step, without waiting for it."""
        is_first = self._batch_check.batch_size is None
        batch = self._next_batch()
        if is_first:
            self._progress.say("compiling the train step …")
            start = time.perf_counter()
        else:
            self._progress.start_clock()
        self._profiler.before(self._step + 1, self._state)
        placed = self._partitioner.put_batch(batch)
        # The step donates the old state, whose buffers nobody may read any more.
        self._state, of_step = self._programs.train_step(self._state, self._frozen, placed)
        self._step += 1
        self._metrics = None
        self._profiler.after(self._step, self._state)
        self._progress.advance()
        if is_first:
            # Waits, so that the rate of the following steps contains no compilation.
            of_step["loss"].block_until_ready()
            secs = time.perf_counter() - start
            self._progress.say(f"compiled it and made the first step in {secs:.1f} s")
        return of_step

    def _next_batch(self) -> Batch:
        try:
            batch = next(self._batches)
        except StopIteration:
            raise ValueError(
                f"Batches must last for {self._config.num_train_steps} steps; got their end after "
                f"step {self._step}. Repeat the data, or lower TrainerConfig.num_train_steps."
            ) from None
        except ValueError:  # Of an example, perhaps after hours.
            # What was trained is kept where no other process would wait for this one.
            if self._step and jax.process_count() == 1:
                self._save()
            raise
        self._batch_check.check(batch)
        return batch

    def _is_due(self, every_steps: int | None) -> bool:
        return every_steps is not None and self._step % every_steps == 0

    def _is_eval_due(self) -> bool:
        is_last = self._step == self._config.num_train_steps
        is_due = is_last or self._is_due(self._config.eval_every_steps)
        return is_due and self._evaluate_params is not None

    def _check_finite(self) -> None:
        # The step that was bad, also where the host learns of it a few steps later.
        bad_step = int(self._state.metrics.first_bad_step)
        if bad_step == train_state.NO_BAD_STEP:
            return
        kept = "There is no checkpoint yet"
        if (newest := self._checkpoints.newest_step()) is not None:
            where = self._checkpoints.directory
            kept = f"The newest checkpoint in {where}, of step {newest}, is good"
        raise ValueError(
            "The loss and the gradient of every step must be finite; got NaN or infinity at step "
            f"{bad_step}. {kept}. Lower the learning rate, or clip the gradient, and start again."
        )

    def _log(self) -> None:
        self._check_finite()  # Waits for the step, so the log line costs a bubble on the devices.
        # Fill and examples of packed rows: nothing where a row is an example.
        packing = self._batches.packing()
        values = self._state.metrics.summarize() | packing
        if (rate := self._progress.take_rate()) is not None:
            examples = packing.get("examples_per_step", self._batch_check.batch_size)
            values |= {"steps_per_sec": rate, "examples_per_sec": rate * examples}
        self._progress.report(self._step, values)
        self._metric_log.write(self._step, "train", values)
        self._state = self._state.replace(metrics=self._programs.zero_metrics())

    def _evaluate(self) -> None:
        """Evaluates this step; saves it if it is the best; records the result in its checkpoint."""
        self._check_finite()
        self._progress.stop_clock()
        start = time.perf_counter()
        try:
            with self._signals.interrupting():
                metrics = self._evaluate_params(self._params(), self._step)
        except StopAsked:
            self._is_stopped = True
            self._progress.say(f"step {self._step}  stopped in the middle of its evaluation")
            self._save()
            return
        self._metrics = {
            task: {name: float(value) for name, value in row.items()}
            for task, row in metrics.items()
        }
        best = self._config.best
        left_out = best.left_out if best else ()
        self._metric_log.write_evaluation(self._step, self._metrics, left_out)
        self._progress.report_evaluation(self._step, time.perf_counter() - start, self._metrics)
        value = best.value(self._metrics) if best and self._metrics else None
        # Hosts whose libraries differ may compute different scores, but all must save, or none.
        if agree(value is not None and best.is_better(value, self._best_value)):
            self._best_value = value
            self._save()
        elif self._find_exhausted():
            self._is_exhausted = True
            self._progress.say(f"step {self._step}  ended early: no evaluation was better of late")
            self._save()
        if self._saved_step == self._step:
            self._checkpoints.record(self._step, self._metrics, value)

    def _save(self) -> None:
        if self._saved_step == self._step:
            return
        self._check_finite()
        self._progress.stop_clock()
        self._checkpoints.save(self._state, self._batches.position())
        self._saved_step = self._step
