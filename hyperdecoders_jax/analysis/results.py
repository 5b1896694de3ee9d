"""Results of an analysis: examples with their vectors, and rows of its tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk

# Kinds of targets.
OUTPUT_TYPES = ("class label", "number", "span", "free text")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples by columns; every field has one entry per example.

    Attributes:
        ids: unique; task and index, such as "rte-17".
        tasks: names.
        inputs: texts.
        targets: texts; of several answers the first.
        predictions: texts.
        is_correct: whether the prediction equals the target, or one of the answers, exactly.
        output_types: each one of `OUTPUT_TYPES`.
        groups: shared by examples that reveal each other, such as the windows of a question; else
            unique.
        features: vectors by name: "pooled" (the encoder's states, mean over positions),
            "condition" (read by the hypernetwork), "parameters" (written by it, projected), and
            "backbone" (pooled states without adapters and gates; parameters of T5 itself that were
            trained, such as HyperFormer's layer norms, stay as trained).
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
    """The examples of a task."""

    name: str
    num_examples: int
    output_type: str
    num_labels: int  # 0 if targets are no class labels.
    correct: float  # Rate of predictions that are exactly right, in [0, 100].


@dataclasses.dataclass(frozen=True)
class Probe:
    """How well a vector separates groups of examples.

    The score is the balanced accuracy on held-out examples, in [0, 100] (chance is 100 / groups),
    or the mean silhouette over groups, in [-1, 1].
    """

    features: str  # Which vector, a key of `Examples.features`.
    # "label" (within a task), "task", "output type", or "output type of a new task": that of each
    # task, predicted from the other tasks.
    grouping: str
    task: str | None  # Of the labels; None for the other groupings.
    method: str  # "linear probe", "nearest neighbours" or "silhouette".
    score: float
    low: float  # 95 % interval of the score, by resampling examples within groups.
    high: float
    shuffled: float  # Score with shuffled groups; for few examples the mean of several shuffles.
    num_examples: int


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


@dataclasses.dataclass(frozen=True)
class Variance:
    """Shares of the variance of one layer's generated parameters; they add up to 1.

    All are 0 if all examples get the same parameters.
    """

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
