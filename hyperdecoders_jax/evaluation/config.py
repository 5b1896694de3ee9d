"""Which examples are evaluated, and how. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyperdecoders_jax.decoding.decode import Generation

_MAX_BATCH_SIZE = 2**20


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """The examples of an evaluation, and how it decodes and averages."""

    split: str | None = "validation"  # Evaluated for tasks that have it; None: no evaluation.
    # Examples of one prediction step, over all processes; None: as many as of a training step.
    batch_size: int | None = None
    num_examples: int | None = None  # Of each task, from the beginning; None: all.
    # {task: (most tokens of a text, beams)} where not as the model's configuration says.
    generation: Generation | None = None
    left_out_metrics: Sequence[str] = ()  # "TASK/METRIC" that `average_metrics` does not count.

    def __post_init__(self):
        if self.num_examples is not None and self.num_examples < 1:
            raise ValueError(
                "An evaluation must read at least one example of each task; got "
                f"{self.num_examples}. Raise EVAL_EXAMPLES, or leave it None: all."
            )
        if self.batch_size is not None and not 1 <= self.batch_size <= _MAX_BATCH_SIZE:
            raise ValueError(
                f"An evaluation step must have at least one example, at most {_MAX_BATCH_SIZE:,}; "
                f"got {self.batch_size}. Correct EVAL_BATCH_SIZE, or leave it None: BATCH_SIZE."
            )
        if isinstance(self.left_out_metrics, str):
            raise TypeError(
                "EvaluationConfig.left_out_metrics must be a list of 'TASK/METRIC' pairs; got "
                f"{self.left_out_metrics!r}, one text. Write LEFT_OUT_METRICS = "
                f"({self.left_out_metrics!r},)."
            )
