"""What an analysis found: examples with their vectors, and rows of its tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk

# What a target is, as far as its task tells.
OUTPUT_TYPES = ("class label", "number", "span", "free text")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples side by side; every field has one entry for each.

    Attributes:
      ids: unique; task and position, such as "rte-17".
      tasks: names.
      inputs: texts.
      targets: texts; of several answers the first.
      predictions: texts.
      is_correct: whether the prediction is the target, or one of the answers, word for word.
      output_types: each one of `OUTPUT_TYPES`.
      groups: names that examples share which know too much of each other, such as the windows of a
        question; else unique.
      features: vectors by what they are: "pooled" (the encoder's states, mean over positions),
        "condition" (what the hypernetwork reads), "parameters" (what it writes, projected), and
        "backbone" (pooled, of T5 without adapters and gates; what was trained of T5 itself, such as
        HyperFormer's layer norms, is as it was trained). Read in parts, or each alone.
    """

    ids: Sequence[str]
    tasks: Sequence[str]
    inputs: Sequence[str]
    targets: Sequence[str]
    predictions: Sequence[str]
    is_correct: Bool[np.ndarray, "examples"]
    output_types: Sequence[str]
    groups: Sequence[str]
    features: Mapping[str, Float[np.ndarray, "examples dim"] | RowsOnDisk]

    def __len__(self) -> int:
        return len(self.ids)


@dataclasses.dataclass(frozen=True)
class Task:
    """The examples of a task.

    Attributes:
      name: of the task.
      num_examples: all.
      output_type: one of `OUTPUT_TYPES`.
      num_labels: different targets, where they are class labels; else 0.
      correct: examples whose prediction is right word for word, in [0, 100].
    """

    name: str
    num_examples: int
    output_type: str
    num_labels: int
    correct: float


@dataclasses.dataclass(frozen=True)
class Probe:
    """How well a vector tells groups of examples apart.

    Attributes:
      features: which vector, a key of `Examples.features`.
      grouping: "label" (within a task), "task", "output type", or "output type of a new task": told
        for each task by what was learned of the others.
      task: within which the labels are told apart; None for the other groupings.
      method: "linear probe", "nearest neighbours" or "silhouette".
      score: balanced accuracy on examples held out, the mean over groups of the share of each that
        is told, in [0, 100], so that chance is 100 / groups; or the mean over groups of their
        examples' silhouettes, in [-1, 1].
      low, high: 95 % interval of the score, by resampling examples within groups.
      shuffled: the score when the groups are shuffled; of few examples the mean of several draws.
      num_examples: that were used.
    """

    features: str
    grouping: str
    task: str | None
    method: str
    score: float
    low: float
    high: float
    shuffled: float
    num_examples: int


@dataclasses.dataclass(frozen=True)
class Ablation:
    """A task's metric where examples are adapted by another condition than their own.

    Attributes:
      task: its name.
      condition: "own", "mean of the task", "mean of all", "shuffled within the task", "shuffled
        across tasks" or "zero".
      metric: its name.
      value: in the metric's unit, [0, 100] as a rule.
      difference: from the value with own conditions.
      low, high: 95 % interval of the difference, by resampling examples; NaN where it is unknown.
      num_changed: predictions that are another text than with own conditions.
      num_examples: predictions of the task.
    """

    task: str
    condition: str
    metric: str
    value: float
    difference: float
    low: float
    high: float
    num_changed: int
    num_examples: int

    @property
    def is_same(self) -> bool:
        """Whether not one prediction changes, nor what the metric makes of its log-likelihood."""
        return self.num_changed == 0 and self.difference == 0


@dataclasses.dataclass(frozen=True)
class Variance:
    """Where the variance of what a hypernetwork writes for one layer lies; shares of 1.

    All are 0 where it writes the same for all examples.

    Attributes:
      side: the key of the parameters that write, such as "decoder_adapters".
      layer: its number, from 0.
      between_tasks: of the means of tasks, without the noise of few examples.
      between_labels: of the means of labels within a task, without that noise.
      within_labels: of examples within a label.
    """

    side: str
    layer: int
    between_tasks: float
    between_labels: float
    within_labels: float

    @property
    def shares(self) -> tuple[float, float, float]:
        return self.between_tasks, self.between_labels, self.within_labels
