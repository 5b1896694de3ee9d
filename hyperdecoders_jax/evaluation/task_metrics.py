"""The metrics of one task, computed from the outputs of a model as SeqIO's Evaluator does."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio

ModelOutputType = seqio.metrics.ModelOutputType

GENERATED = (ModelOutputType.PREDICTION, ModelOutputType.PREDICTION_WITH_AUX)


def check_supported(task: seqio.Task, has_scores: bool) -> set[ModelOutputType]:
    """The kinds of outputs that a task's metrics take; a ValueError if one is not to be had."""
    needed = {metric.model_output_type for metric in task.metric_objs}
    unsupported = sorted(kind.name for kind in needed - {*GENERATED, ModelOutputType.SCORE})
    if unsupported:
        raise ValueError(
            "A metric must take predictions, predictions with scores, or scores; one of "
            f"{task.name!r} takes {unsupported}. Write it as metric_fn(targets, predictions) or "
            "metric_fn(targets, scores)."
        )
    if ModelOutputType.SCORE in needed and not has_scores:
        raise ValueError(
            f"A metric that takes scores needs a score function; task {task.name!r} has one and "
            "none was given. Pass score_fn to Evaluator.evaluate."
        )
    return needed


def compute(
    task: seqio.Task,
    examples: Sequence[Mapping[str, Any]],
    outputs: Mapping[ModelOutputType, Any],
    targets: list[Any] | None = None,
) -> tuple[dict[str, float], list[Any] | None]:
    """The metrics that take one of `outputs`, and the postprocessed targets.

    `examples` are uncut, as SeqIO gives them; `outputs` have a row for each. `targets` are those
    postprocessed by an earlier call. Raises ValueError if two metrics have one name.
    """
    indices = np.arange(len(examples))
    results = {}
    for metric in task.metric_objs:
        if metric.model_output_type not in outputs:  # Such as scores, where none were computed.
            continue
        output = outputs[metric.model_output_type]
        arguments = (examples, output, task.output_features, "targets")
        if isinstance(metric, seqio.metrics.CollectingMetric):
            collected = metric.from_model_output(
                *arguments,
                # Given as numpy: the default makes them on the accelerator.
                mask=np.ones(len(examples), np.int32),
                indices_2d=np.stack([np.zeros_like(indices), indices], axis=1),
            )
            values, inferences = collected.actual_compute(
                examples, task.output_features, "targets", targets
            )
            targets = inferences["targets"]  # Postprocessed once for all of the task's metrics.
        else:
            values = metric.from_model_output(*arguments).compute()
        for name, value in values.items():
            if name in results:
                raise ValueError(
                    f"The metrics of a task must have different names; {task.name!r} has two "
                    f"called {name!r}. Rename the key that one of its metric functions returns."
                )
            if isinstance(value, seqio.metrics.Scalar):
                value = value.value
            if not isinstance(value, seqio.metrics.MetricValue):  # No text, image, histogram.
                results[name] = float(value)
    return results, targets
