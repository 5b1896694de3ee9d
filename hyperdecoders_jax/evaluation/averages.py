"""Averages over tasks' metrics, to compare models and checkpoints by.

`task_average` is that of published tables: every task counts the same, lengths of texts do not
count. `average_metrics` is what the original Hyperdecoders chooses its checkpoint by: every metric
counts the same, so a task with two counts twice; lengths of summaries count unless excluded.
"""

import math
from collections.abc import Collection

from hyperdecoders_jax.types import Metrics

NAMES = ("average_metrics", "task_average")
LENGTH = "gen_len"  # The mean length of generated texts, in tokens: longer is not better.


def flatten(metrics: Metrics) -> dict[str, float]:
    """Returns {"task/metric": value}."""
    return {f"{task}/{name}": v for task, row in metrics.items() for name, v in row.items()}


def task_average(metrics: Metrics) -> float:
    """The mean over tasks of the mean of a task's metrics but lengths; NaN where there are none.

    >>> task_average({"mrpc": {"accuracy": 80.0, "f1": 90.0}, "rte": {"accuracy": 75.0}})
    80.0
    >>> task_average({"wmt": {"bleu": 27.5, "gen_len": 31.0}})
    27.5

    Source: Wang et al. 2019 (arXiv:1804.07461), the average of GLUE's table.
    """
    scores = [[v for name, v in row.items() if name != LENGTH] for row in metrics.values()]
    return _mean([_mean(row) for row in scores if row])


def average_metrics(metrics: Metrics, left_out: Collection[str] = ()) -> float:
    """The mean over all metrics of all tasks but "TASK/METRIC" pairs in `left_out`; NaN for none.

    >>> average_metrics({"mrpc": {"accuracy": 80.0, "f1": 90.0}, "rte": {"accuracy": 70.0}})
    80.0
    >>> average_metrics({"xsum": {"rouge1": 90.0, "rouge2": 30.0}}, left_out=["xsum/rouge1"])
    30.0

    Source: allenai/hyperdecoders, `average_metrics` and `ignore_metric_keys`.
    """
    return _mean([value for name, value in flatten(metrics).items() if name not in left_out])


def compute(metrics: Metrics, left_out: Collection[str] = ()) -> dict[str, float]:
    """Both averages under their names."""
    return {
        "average_metrics": average_metrics(metrics, left_out),
        "task_average": task_average(metrics),
    }


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values) if values else math.nan
