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
    """The examples of a task.

    Attributes:
        name: of the task.
        num_examples: all of the task.
        output_type: one of `OUTPUT_TYPES`.
        num_labels: different class labels; 0 for other targets.
        correct: predictions that are exactly right, in [0, 100].
    """

    name: str
    num_examples: int
    output_type: str
    num_labels: int
    correct: float


@dataclasses.dataclass(frozen=True)
class Probe:
    """How well a vector separates groups of examples.

    Attributes:
        features: which vector, a key of `Examples.features`.
        grouping: "label" (within a task), "task", "output type", or "output type of a new task":
            that of each task, predicted from the other tasks.
        task: of the labels; None for the other groupings.
        method: "linear probe", "nearest neighbours" or "silhouette".
        score: balanced accuracy on held-out examples (the mean over groups, in [0, 100]; chance is
            100 / groups), or mean silhouette over groups, in [-1, 1].
        low, high: 95 % interval of the score, by resampling examples within groups.
        shuffled: score with shuffled groups; for few examples the mean of several shuffles.
        num_examples: used for it.
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
    """A task's metric with other conditions than the examples' own.

    Attributes:
        task: its name.
        condition: "own", "mean of the task", "mean of all", "shuffled within the task", "shuffled
            across tasks" or "zero".
        metric: its name.
        value: in the metric's unit, usually [0, 100].
        difference: from the value with own conditions.
        low, high: 95 % interval of the difference, by resampling examples; NaN if unknown.
        num_changed: predictions whose text differs from that with own conditions.
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
        """Whether no prediction changes, and no metric of log-likelihoods either."""
        return self.num_changed == 0 and self.difference == 0


@dataclasses.dataclass(frozen=True)
class Variance:
    """Shares of the variance of one layer's generated parameters; they add up to 1.

    All are 0 if all examples get the same parameters.

    Attributes:
        side: key of the parameters that generate, such as "decoder_adapters".
        layer: from 0.
        between_tasks: of tasks' means, without the noise of few examples.
        between_labels: of labels' means within a task, without that noise.
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


@dataclasses.dataclass(frozen=True)
class Study:
    """All results of an analysis.

    Attributes:
        examples: with their vectors; at most `study.MAX_EXAMPLES` of them.
        tasks: all that were analysed.
        probes, ablations, variances: the tables.
        readers: keys of the parameters that read a condition.
        step: of the checkpoint; 0 if unknown.
    """

    examples: Examples
    tasks: Sequence[Task]
    probes: Sequence[Probe]
    ablations: Sequence[Ablation]
    variances: Sequence[Variance]
    readers: Sequence[str]
    step: int

    @property
    def num_examples(self) -> int:
        """Examples of all tasks."""
        return sum(task.num_examples for task in self.tasks)
