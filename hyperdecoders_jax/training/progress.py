"""Progress of a run, as a bar on a terminal or as lines in a log.

Rates count only the time of steps, without compilation, evaluation and saving. (clu's
`ReportProgress` counts all time since its last report, and has no bar.)
"""

import datetime
import os
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import tqdm

from hyperdecoders_jax.evaluation import averages
from hyperdecoders_jax.types import Metrics


class Progress:
    """Progress of a run: a bar if `stream` is a terminal, otherwise a line for each `report`.

    `first_step` steps are done already; the stream is by default the error stream; `is_shown` is
    False in all processes but one.
    """

    def __init__(
        self,
        first_step: int,
        num_train_steps: int,
        stream: TextIO | None = None,
        *,
        is_shown: bool = True,
    ):
        self._is_shown = is_shown
        self._stream = sys.stderr if stream is None else stream
        self._num_train_steps = num_train_steps
        self._num_timed = 0
        self._secs = 0.0
        self._started: float | None = None
        self._bar = None
        self._values: Mapping[str, float] = {}  # The newest ones, for the bar.
        self._metric = ""
        # In a log file a bar would be one endless line.
        if is_shown and self._stream.isatty():
            self._bar = tqdm.tqdm(
                initial=first_step,
                total=num_train_steps,
                file=self._stream,
                # Its own rate and ETA would count evaluations, and stand beside ours.
                bar_format="{n_fmt}/{total_fmt} |{bar}|{desc}",
                dynamic_ncols=True,
            )

    def start_clock(self) -> None:
        """Starts timing steps, unless it is started."""
        if self._started is None:
            self._started = time.perf_counter()

    def stop_clock(self) -> None:
        """Stops timing steps, before anything that is not a step."""
        if self._started is not None:
            self._secs += time.perf_counter() - self._started
            self._started = None

    def advance(self) -> None:
        """Counts one step; it is timed if the clock runs."""
        # The first step is not timed, since it contains the compilation.
        self._num_timed += self._started is not None
        if self._bar is not None:
            self._bar.update()

    def take_rate(self) -> float | None:
        """Returns the steps per second since the last call; None if no step was timed."""
        # The caller has waited for the last step, so this is the devices' time, not the dispatch's.
        self.stop_clock()
        rate = self._num_timed / self._secs if self._num_timed and self._secs else None
        self._num_timed, self._secs = 0, 0.0
        return rate

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Shows metrics: after the bar, or as a line."""
        if self._bar is None:
            self.say(describe(step, self._num_train_steps, values))
        else:
            self._values = values
            self._describe_bar()

    def report_evaluation(self, step: int, secs: float, metrics: Metrics) -> None:
        """Shows all metrics of an evaluation in one line."""
        flat = averages.flatten(metrics)
        if self._bar is not None and flat:
            self._metric = f"{'average ' * (len(flat) > 1)}{averages.average_metrics(metrics):.2f}"
            self._describe_bar()
        shown = "  ".join(f"{name} {value:.2f}" for name, value in flat.items())
        self.say(f"step {step}  evaluated in {secs:.1f} s  {shown}".rstrip())

    def _describe_bar(self) -> None:
        """Shows the newest loss and metric, one rate and one ETA; at 80 columns they fit."""
        parts = [f"loss {self._values['loss_per_token']:.4f}"] if self._values else []
        parts += [f"eval {self._metric}"] if self._metric else []
        if "steps_per_sec" in self._values:
            rate = self._values["steps_per_sec"]
            left = (self._num_train_steps - self._bar.n) / rate
            parts += [f"{rate:.2f} steps/s", f"ETA {datetime.timedelta(seconds=round(left))}"]
        self._bar.set_description_str(f" {'  '.join(parts)}")

    def say(self, text: str) -> None:
        """Shows one line, above the bar if there is one."""
        if not self._is_shown:
            return
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            # tqdm's own, since `print` would break the bar.
            self._bar.write(text, file=self._stream)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def describe(step: int, num_train_steps: int, values: Mapping[str, float]) -> str:
    """Returns a log line; without a rate, as after a run's first step, there is no ETA.

    >>> values = {"loss_per_token": 2.5, "learning_rate": 3e-4, "steps_per_sec": 4.0}
    >>> describe(100, 1000, values | {"examples_per_sec": 32.0})
    'step 100/1000  loss/token 2.5000  lr 3.00e-04  4.00 steps/s  32.0 examples/s  ETA 0:03:45'
    """
    parts = [
        f"step {step}/{num_train_steps}",
        f"loss/token {values['loss_per_token']:.4f}",
        f"lr {values['learning_rate']:.2e}",
    ]
    if "fill" in values:
        parts.append(f"fill {values['fill']:.2f}")
        parts.append(f"{values['examples_per_step']:.1f} examples/step")
    if "steps_per_sec" in values:
        left = (num_train_steps - step) / values["steps_per_sec"]
        parts += [
            f"{values['steps_per_sec']:.2f} steps/s",
            f"{values['examples_per_sec']:.1f} examples/s",
            f"ETA {datetime.timedelta(seconds=round(left))}",
        ]
    return "  ".join(parts)


def describe_start(directory: str | os.PathLike, step: int, num_train_steps: int) -> str:
    """Returns what becomes of the run that a directory of checkpoints holds.

    >>> describe_start("model/checkpoints", 300, 1000)
    'continuing from step 300 of model/checkpoints'
    """
    if step < num_train_steps:
        return f"continuing from step {step} of {directory}"
    is_all = step == num_train_steps
    which = "that is all" if is_all else f"more than the {num_train_steps} wanted"
    return (
        f"nothing is left to train: {directory} has made {step} steps, {which}. To train on, raise "
        "TRAIN_STEPS (TrainerConfig.num_train_steps); to begin anew, name another folder."
    )
