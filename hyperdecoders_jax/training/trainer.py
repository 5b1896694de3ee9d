"""The loop: a model, parameters, batches and an `evaluate` function in; a trained run on disk out.

    <model_dir>/metrics.jsonl      a line of metrics every N steps, and one per evaluated task
               /checkpoints/STEP/  see `checkpoint`

After a step come, in this order and where they are due, its log line, its checkpoint and its
evaluation; so an evaluation that is interrupted costs no steps, and the next start makes it up. An
interrupted run that is started again equals an unbroken one bit for bit. A run stops by itself,
keeping its last good checkpoint, when a loss is no longer finite.
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
from etils import epath

from hyperdecoders_jax.evaluation import averages
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.training import checkpoint, metric_lines, partitioning, train_state
from hyperdecoders_jax.training import optimizer as optimizer_lib
from hyperdecoders_jax.training import train_step as train_step_lib
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.training.optimizer import OptimizerConfig
from hyperdecoders_jax.training.progress import Progress
from hyperdecoders_jax.training.schedules import ScheduleConfig
from hyperdecoders_jax.training.stop_signals import StopAsked, StopSignals
from hyperdecoders_jax.training.train_state import TrainState
from hyperdecoders_jax.types import Batch, Params

METRICS_FILE = "metrics.jsonl"
CHECKPOINTS_DIR = "checkpoints"
# Steps that may be under way on the devices before the host waits for the oldest.
MAX_STEPS_IN_FLIGHT = 2

Metrics = averages.Metrics
Evaluate = Callable[[Params, int], Metrics]
WriteMetrics = Callable[[int, Mapping[str, float]], None]


class Batches(Protocol):
    """An endless iterator that knows where it is; `data.train_batches.TrainIterator` is one."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch:
        """This process's part of the next batch, as numpy arrays of the same shapes each time."""

    def position(self) -> Any:
        """The place after the last batch returned, as JSON."""

    def restore(self, position: Any) -> None:
        """Goes to a place that `position` gave."""


@dataclasses.dataclass(frozen=True)
class BestCheckpointConfig:
    """Which checkpoint is the best.

    Attributes:
        metric: "average_metrics" of all metrics, as in the original; "task_average", the mean over
            tasks (see `averages`); or "TASK/METRIC".
        greater_is_better: whether more of it is better.
        left_out: "TASK/METRIC" pairs that "average_metrics" leaves out (the original: ROUGE-1, -L
            and -Lsum of XSum).
    """

    metric: str = "average_metrics"
    greater_is_better: bool = True
    left_out: Sequence[str] = ()

    def check_tasks(self, task_names: Sequence[str]) -> None:
        """Checks that the metrics named are of these tasks.

        Raises:
            ValueError: one is not.
        """
        named = [("metric", self.metric)] if self.metric not in averages.NAMES else []
        for field, name in [*named, *(("left_out", name) for name in self.left_out)]:
            if not any(name.startswith(f"{task}/") for task in task_names):
                raise ValueError(
                    f"BestCheckpointConfig.{field} must name metrics as TASK/METRIC, of tasks that "
                    f"are trained; got {name!r}, and the tasks are {sorted(task_names)}. Correct "
                    "the name, or leave it out."
                )

    def value(self, metrics: Metrics) -> float | None:
        """Returns the number to compare checkpoints by, or None if it is not finite.

        >>> metrics = {"cola": {"mcc": 10.0}, "mrpc": {"f1": 80.0, "accuracy": 60.0}}
        >>> BestCheckpointConfig().value(metrics)
        50.0

        Raises:
            KeyError: the metric, or one that is left out of a task, is not among those computed.
        """
        flat = averages.flatten(metrics)
        values = averages.compute(metrics, self.left_out) | flat
        if self.metric not in values:
            raise KeyError(
                f"BestCheckpointConfig.metric must be one of {averages.NAMES} or a metric of a "
                f"task; got {self.metric!r}. Choose one of {sorted(flat)}."
            )
        for name in self.left_out:
            # A task without this split has none.
            if name not in flat and name.split("/")[0] in metrics:
                raise KeyError(
                    f"BestCheckpointConfig.left_out must name metrics that are computed; got "
                    f"{name!r}. Choose from {sorted(flat)}."
                )
        value = values[self.metric]
        return value if math.isfinite(value) else None


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """How long to train, and what to do in between.

    Attributes:
        num_train_steps: updates of the whole run, resumed parts included.
        eval_every_steps: None evaluates after the last step alone.
        checkpoint_every_steps: None saves after the last step, and the best, alone.
        log_every_steps: steps that one line of metrics is the mean of.
        keep_last: newest checkpoints to keep; None keeps all.
        best: which checkpoint is kept besides, and saved when it is found; None for neither.
        num_microbatches: parts that a batch is cut into, to save memory; see `train_step`.
        seed: of dropout.
    """

    num_train_steps: int
    eval_every_steps: int | None = 1000
    checkpoint_every_steps: int | None = 1000
    log_every_steps: int = 100
    keep_last: int | None = 3
    best: BestCheckpointConfig | None = BestCheckpointConfig()
    num_microbatches: int = 1
    seed: int = 42

    def __post_init__(self):
        can_be_none = ("eval_every_steps", "checkpoint_every_steps", "keep_last")
        for name in (*can_be_none, "num_train_steps", "log_every_steps", "num_microbatches"):
            value = getattr(self, name)
            if value is None and name in can_be_none:
                continue
            if not (isinstance(value, int) and value >= 1):
                hint = " or None" if name in can_be_none else ""
                raise ValueError(
                    f"TrainerConfig.{name} must be an integer of at least 1{hint}; got {value!r}. "
                    f"Set TrainerConfig.{name}."
                )


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a run is when `train` returns.

    Attributes:
        state: after the last step.
        params: trainable and frozen ones together, on the devices.
        metrics: task → metric → value, of the last evaluation; empty if there was none.
        best_step: step of the best checkpoint, or None.
        is_finished: False if a signal stopped the run; the next `train` continues it.
    """

    state: TrainState
    params: Params
    metrics: Metrics
    best_step: int | None
    is_finished: bool


def open_checkpoints(
    model_dir: str,
    identity: checkpoint.Identity = checkpoint.UNKNOWN,
    *,
    config: TrainerConfig | None = None,
    config_text: str = "",
    settings: Mapping[str, Any] | None = None,
) -> checkpoint.Checkpoints:
    """Returns the checkpoints of a model directory; without a config, to read them."""
    best = config.best if config else None
    return checkpoint.Checkpoints(
        epath.Path(model_dir) / CHECKPOINTS_DIR,
        identity,
        config_text=config_text,
        settings=settings,
        keep_last=config.keep_last if config else None,
        greater_is_better=best.greater_is_better if best else True,
    )


def train(
    *,
    model: Model,
    trainable: Params,
    frozen: Params,
    batches: Batches,
    evaluate: Evaluate | None,
    config: TrainerConfig,
    optimizer: OptimizerConfig,
    schedule: ScheduleConfig,
    partitioner: partitioning.Partitioner,
    model_dir: str,
    identity: checkpoint.Identity,
    config_text: str = "",
    settings: Mapping[str, Any] | None = None,
    on_accepted: Callable[[], None] | None = None,
    writers: Sequence[WriteMetrics] = (),
    progress: Progress | None = None,
) -> TrainResult:
    """Trains until `config.num_train_steps`, or until a signal; continues what `model_dir` holds.

    Checks that the directory is writable before anything else, then reads its newest whole
    checkpoint, if there is one, in place of `trainable`. SIGTERM (and one SIGINT) ends the run
    after the step in progress with a checkpoint, or in the middle of an evaluation; `train` then
    returns with `is_finished` False, and the caller exits with 0.

    Args:
        model: whose `loss` is minimised, and whose `param_axes` place its parameters.
        trainable: from `trainable.split`; the start of a new run. Not changed.
        frozen: the rest, cast if wished; not changed either. Both whole in every process.
        batches: this process's parts of the batches, `partitioner.data_shard()` tells which.
        evaluate: called with all parameters (sharded, on the devices) and the step; gives task →
            metric → value. All processes call it. None: no evaluation.
        config: of the loop.
        optimizer: `AdamWConfig` or `AdafactorConfig`.
        schedule: a class of `schedules`; told `config.num_train_steps`.
        partitioner: from `partitioning.make_partitioner`.
        model_dir: local or remote (gs://).
        identity: what checkpoints belong to; compared on restore.
        config_text: stored in checkpoints, for people.
        settings: seeds, sizes and the like, as JSON, that must stay as they are when a run is
            continued; stored in checkpoints, and compared on restore.
        on_accepted: called in process 0 when the directory is found to hold this run or none,
            before anything is written into it.
        writers: called in process 0 with a step and numbers such as "train/loss" and
            "eval/TASK/METRIC".
        progress: by default on the error stream.

    Raises:
        ValueError: the directory cannot be written, holds a checkpoint of another model or of
            other settings, or only damaged ones; a batch does not divide over the devices, or
            changes its shape; the data end; a loss is not finite.
        KeyError: `config.best` names a metric that `evaluate` does not give.
    """
    checkpoint.check_writable(model_dir)
    rate = schedule.make(config.num_train_steps)
    tx = optimizer_lib.make_optimizer(optimizer, rate)
    axes = model.param_axes()
    placements = partitioner.param_shardings(trainable, axes)

    def create(params):
        return train_state.create(params, tx, jax.random.key(config.seed))

    shapes = jax.eval_shape(create, dict(trainable))
    shardings = partitioner.state_shardings(shapes, tx, placements)
    checkpoints = open_checkpoints(
        model_dir, identity, config=config, config_text=config_text, settings=settings
    )
    restored = checkpoints.restore(
        jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            shardings,
        )
    )
    if restored is None:
        placed = partitioner.put_params(trainable, placements)
        state = jax.jit(create, out_shardings=shardings)(placed)
        del placed
    else:
        state = restored.state
        batches.restore(restored.position)
    step = int(state.step)
    logging.info("Trained from step %d: %s", step, trainable_lib.list_paths(trainable))
    logging.info("Whole on every device: %s", partitioning.list_replicated(placements))
    frozen_on_devices = partitioner.put_params(frozen, partitioner.param_shardings(frozen, axes))
    # A caller that hands them over and keeps no reference gets their memory back.
    del trainable, frozen

    is_main = jax.process_index() == 0
    metrics_path = epath.Path(model_dir) / METRICS_FILE
    if is_main:
        metrics_path.parent.mkdir(parents=True, exist_ok=True)
        if on_accepted is not None:
            on_accepted()
        is_evaluated = restored is not None and restored.metrics is not None
        metric_lines.drop_after(metrics_path, step, is_evaluated=is_evaluated)
    run = _Run(
        config=config,
        train_step=train_step_lib.make_train_step(
            model,
            tx,
            rate,
            num_microbatches=config.num_microbatches,
            state_shardings=shardings,
        ),
        frozen=frozen_on_devices,
        batches=batches,
        evaluate=evaluate,
        partitioner=partitioner,
        checkpoints=checkpoints,
        metrics_path=metrics_path,
        writers=writers if is_main else (),
        # Compiled, so that the zeros lie where the step leaves its sums, and nothing recompiles.
        make_zero_metrics=jax.jit(
            train_state.RunningMetrics.zeros, out_shardings=partitioner.replicated
        ),
        progress=progress or Progress(step, config.num_train_steps, is_shown=is_main),
        state=state,
        step=step,
    )
    with contextlib.closing(run.progress), run.signals:
        if restored is not None:
            run.resume(restored.metrics)
        run.train()
    return run.result()


@dataclasses.dataclass
class _Run:
    """A run in progress."""

    config: TrainerConfig
    train_step: train_step_lib.TrainStep
    frozen: Params
    batches: Batches
    evaluate: Evaluate | None
    partitioner: partitioning.Partitioner
    checkpoints: checkpoint.Checkpoints
    metrics_path: epath.Path
    writers: Sequence[WriteMetrics]
    make_zero_metrics: Callable[[], train_state.RunningMetrics]
    progress: Progress
    state: TrainState
    step: int
    signals: StopSignals = dataclasses.field(default_factory=StopSignals)
    is_stopped: bool = False
    saved_step: int | None = None
    # Of the evaluation of `step`; None if it was not evaluated.
    metrics: Metrics | None = None
    best_value: float | None = None
    batch_size: int = 0
    batch_shapes: list[tuple[int, ...]] | None = None

    def resume(self, metrics: Metrics | None) -> None:
        """Takes up a run after its checkpoint of `step`, which had `metrics`."""
        self.progress.say(f"continuing from step {self.step} of {self.checkpoints.directory}")
        self.best_value = self.checkpoints.best_value()
        self.metrics = metrics
        self.saved_step = self.step
        if self._is_eval_due() and metrics is None:
            # Something came between the checkpoint and its evaluation.
            self._evaluate()

    def train(self) -> None:
        in_flight = collections.deque()
        while self.step < self.config.num_train_steps and not self.is_stopped:
            in_flight.append(self._make_step())
            if len(in_flight) > MAX_STEPS_IN_FLIGHT:
                self._wait_for(in_flight.popleft())
            self.is_stopped = self.signals.is_stop_asked(self.step)
            is_last = self.step == self.config.num_train_steps
            if is_last or _is_due(self.step, self.config.log_every_steps):
                self._log()
            every = self.config.checkpoint_every_steps
            if self.is_stopped or is_last or _is_due(self.step, every):
                self._save()
            if self._is_eval_due() and not self.is_stopped:
                self._evaluate()

    def result(self) -> TrainResult:
        is_at_end = self.step >= self.config.num_train_steps
        return TrainResult(
            state=self.state,
            params=self._params(),
            metrics=self.metrics or {},
            best_step=self.checkpoints.best_step(),
            is_finished=is_at_end and (self.evaluate is None or self.metrics is not None),
        )

    def _params(self) -> Params:
        return trainable_lib.merge(self.state.trainable, self.frozen)

    def _make_step(self) -> train_step_lib.StepMetrics:
        """Makes one step, without waiting for it."""
        batch = self._next_batch()
        is_first = self.batch_shapes is None
        if is_first:
            self._check_first(batch)
            self.progress.say("compiling the train step …")
            start = time.perf_counter()
        else:
            self._check_shapes(batch)
            self.progress.start_clock()
        placed = self.partitioner.put_batch(batch)
        self.state, of_step = self.train_step(self.state, self.frozen, placed)
        self.step += 1
        self.metrics = None
        self.progress.advance()
        if is_first:
            of_step["loss"].block_until_ready()
            secs = time.perf_counter() - start
            self.progress.say(f"compiled it and made the first step in {secs:.1f} s")
        return of_step

    def _wait_for(self, of_step: train_step_lib.StepMetrics) -> None:
        """Waits until a step is made; no step follows one that is not finite for long."""
        if not all(math.isfinite(value) for value in jax.device_get(of_step).values()):
            self._check_finite()

    def _next_batch(self) -> Batch:
        try:
            return next(self.batches)
        except StopIteration:
            raise ValueError(
                f"batches must last for {self.config.num_train_steps} steps; got their end after "
                f"step {self.step}. Repeat the data, or lower TrainerConfig.num_train_steps."
            ) from None

    def _check_first(self, batch: Batch) -> None:
        self.batch_shapes = _shapes(batch)
        _, num_shards = self.partitioner.data_shard()
        self.batch_size = self.batch_shapes[0][0] * num_shards
        self.partitioner.check_batch_size(self.batch_size, self.config.num_microbatches)

    def _check_shapes(self, batch: Batch) -> None:
        if _shapes(batch) != self.batch_shapes:
            raise ValueError(
                "all batches must have the same shapes, or the step is compiled again; got "
                f"{_shapes(batch)} after {self.batch_shapes}. Pad to fixed lengths, and drop the "
                "last part of the data."
            )

    def _is_eval_due(self) -> bool:
        is_last = self.step == self.config.num_train_steps
        is_due = is_last or _is_due(self.step, self.config.eval_every_steps)
        return self.evaluate is not None and is_due

    def _check_finite(self) -> None:
        bad_step = int(self.state.metrics.first_bad_step)
        if bad_step == train_state.NO_BAD_STEP:
            return
        newest = self.checkpoints.newest_step()
        kept = "There is no checkpoint yet"
        if newest is not None:
            kept = (
                f"The newest checkpoint in {self.checkpoints.directory}, of step {newest}, is good"
            )
        raise ValueError(
            "the loss and the gradient of every step must be finite; got NaN or infinity at step "
            f"{bad_step}. {kept}. Lower the learning rate, or clip the gradient's norm; then start "
            "again."
        )

    def _log(self) -> None:
        self._check_finite()  # waits for the step
        values = self.state.metrics.summarize()
        rate = self.progress.take_rate()
        if rate is not None:
            values |= {"steps_per_sec": rate, "examples_per_sec": rate * self.batch_size}
        self.progress.report(self.step, values)
        self._write("train", values)
        self.state = self.state.replace(metrics=self.make_zero_metrics())

    def _evaluate(self) -> None:
        """Evaluates; saves this step if it is the best; notes the result beside its checkpoint."""
        self._check_finite()
        self.progress.stop_clock()
        start = time.perf_counter()
        try:
            with self.signals.interrupting():
                metrics = self.evaluate(self._params(), self.step)
        except StopAsked:
            self.is_stopped = True
            self.progress.say(f"step {self.step}  stopped in the middle of its evaluation")
            self._save()
            return
        self.metrics = {
            task: {name: float(value) for name, value in row.items()}
            for task, row in metrics.items()
        }
        for task, row in self.metrics.items():
            self._write("eval", row, task=task)
        if self.metrics:
            left_out = self.config.best.left_out if self.config.best else ()
            self._write("average", averages.compute(self.metrics, left_out))
        secs = time.perf_counter() - start
        shown = "  ".join(
            f"{name} {value:.2f}" for name, value in averages.flatten(self.metrics).items()
        )
        self.progress.say(f"step {self.step}  evaluated in {secs:.1f} s  {shown}".rstrip())
        value = self._value()
        # Hosts whose libraries or data differ may disagree, and a checkpoint needs all of them.
        if checkpoint.agree(value is not None and self._is_best(value)):
            self.best_value = value
            self._save()
        if self.saved_step == self.step:
            self.checkpoints.record(self.step, self.metrics, value)

    def _is_best(self, value: float) -> bool:
        sign = 1 if self.config.best.greater_is_better else -1
        return self.best_value is None or sign * value > sign * self.best_value

    def _value(self) -> float | None:
        return self.config.best.value(self.metrics) if self.config.best and self.metrics else None

    def _save(self) -> None:
        if self.saved_step == self.step:
            return
        self._check_finite()
        self.progress.stop_clock()
        self.checkpoints.save(self.state, self.batches.position())
        self.saved_step = self.step

    def _write(self, kind: str, values: Mapping[str, float], **labels: str) -> None:
        if jax.process_index() == 0:
            metric_lines.append(self.metrics_path, self.step, kind, {**labels, **values})
        prefix = "/".join((kind, *labels.values()))
        for write in self.writers:
            write(self.step, {f"{prefix}/{name}": value for name, value in values.items()})


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _shapes(batch: Batch) -> list[tuple[int, ...]]:
    return [x.shape for x in jax.tree.leaves(batch)]
