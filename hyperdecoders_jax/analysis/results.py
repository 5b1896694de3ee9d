"""Results of an analysis: examples with their vectors, and rows of its tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk

OUTPUT_TYPES = ("class label", "number", "span", "free text")  # Kinds of targets.


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples by columns; every field has one entry per example.

    Features are vectors by name: "pooled" (the encoder's states, mean over positions), "condition"
    (read by the hypernetwork), "parameters" (written by it, projected) and "backbone" (pooled
    states without adapters and gates; trained parameters of T5 itself, such as HyperFormer's layer
    norms, stay as trained).
    """

    ids: Sequence[str]  # Unique; task and index, such as "rte-17".
    tasks: Sequence[str]
    inputs: Sequence[str]
    targets: Sequence[str]  # Of several answers the first.
    predictions: Sequence[str]
    is_correct: Bool[np.ndarray, "examples"]  # The prediction is the target, or one of the answers.
    output_types: Sequence[str]  # Of `OUTPUT_TYPES`.
    groups: Sequence[str]  # Shared by examples that reveal each other, else unique.
    features: Mapping[str, Float[np.ndarray, "examples dim"] | RowsOnDisk]

    def __len__(self) -> int:
        return len(self.ids)


@dataclasses.dataclass(frozen=True)
class Task:
    """The examples of a task."""

    name: str
    num_examples: int
    output_type: str
    num_labels: int  # 0 if targets are no class labels.
    correct: float  # Rate of predictions that are exactly right, in [0, 100].


@dataclasses.dataclass(frozen=True)
class Probe:
    """How well a vector separates groups of examples."""

    features: str  # Which vector, a key of `Examples.features`.
    # "label" (within a task), "task", "output type", or "output type of a new task": that of each
    # task, predicted from the other tasks.
    grouping: str
    task: str | None  # Of the labels; None for the other groupings.
    method: str  # "linear probe", "nearest neighbours" or "silhouette".
    # Mean silhouette of groups, in [-1, 1], or balanced accuracy of held-out examples, in [0, 100].
    score: float
    low: float  # 95 % interval of the score, by resampling examples within groups.
    high: float
    shuffled: float  # Score with shuffled groups; for few examples the mean of several shuffles.
    num_examples: int

    @property
    def rounded(self) -> list[str]:
        """The score, its interval's ends and the shuffled score, as tables show them."""
        digits = 2 if self.method == "silhouette" else 1
        return [f"{x:.{digits}f}" for x in (self.score, self.low, self.high, self.shuffled)]


@dataclasses.dataclass(frozen=True)
class Ablation:
    """A task's metric with other conditions than the examples' own."""

    task: str
    condition: str  # A key of `ablations.KINDS`.
    metric: str
    value: float  # In the metric's unit, usually [0, 100].
    difference: float  # From the value with own conditions.
    low: float  # 95 % interval of the difference, by resampling examples; NaN if unknown.
    high: float
    num_changed: int  # Predictions whose text differs from that with own conditions.
    num_examples: int

    @property
    def is_same(self) -> bool:
        """Whether no prediction changes, and no metric of log-likelihoods either."""
        return self.num_changed == 0 and self.difference == 0

    @property
    def change(self) -> str:
        """The difference and its interval in words: "same", "+1.0" or "+1.0 [+0.5, +1.5]"."""
        interval = "" if math.isnan(self.low) else f" [{self.low:+.1f}, {self.high:+.1f}]"
        return "same" if self.is_same else f"{self.difference:+.1f}{interval}"


@dataclasses.dataclass(frozen=True)
class Variance:
    """Shares of the variance of a layer's generated parameters: they add up to 1, or are 0."""

    side: str  # Key of the parameters that generate, such as "decoder_adapters".
    layer: int
    between_tasks: float  # Of tasks' means, without the noise of few examples.
    between_labels: float  # Of labels' means within a task, without that noise.
    within_labels: float

    @property
    def shares(self) -> tuple[float, float, float]:
        return self.between_tasks, self.between_labels, self.within_labels


@dataclasses.dataclass(frozen=True)
class Study:
    """All results of an analysis."""

    examples: Examples  # At most `study.MAX_EXAMPLES`.
    tasks: Sequence[Task]
    probes: Sequence[Probe]
    ablations: Sequence[Ablation]
    variances: Sequence[Variance]
    readers: Sequence[str]  # Keys of the parameters that read a condition.
    step: int  # Of the checkpoint; 0 if unknown.

    @property
    def num_examples(self) -> int:
        """Examples of all tasks."""
        return sum(task.num_examples for task in self.tasks)
