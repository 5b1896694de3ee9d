"""The metrics of an evaluation as a table of text."""

from collections.abc import Sequence

from hyperdecoders_jax.evaluation import averages


def format_table(metrics: averages.Metrics, left_out: Sequence[str] = ()) -> str:
    """Lays metrics out as text, a metric a line, with both averages of `averages`.

    >>> print(format_table({"mrpc": {"accuracy": 80.0, "f1": 90.0}, "rte": {"accuracy": 70.0}}))
    task  metric     value
    mrpc  accuracy   80.00
    mrpc  f1         90.00
    rte   accuracy   70.00
    task_average     77.50  (mean over tasks of the mean of a task's metrics)
    average_metrics  80.00  (mean of all metrics)
    """
    rows = [(task, name, v) for task, values in metrics.items() for name, v in values.items()]
    if not rows:
        return "No task has metrics."
    task_width = max(len("task"), *(len(task) for task, _, _ in rows))
    name_width = max(len("metric"), *(len(name) for _, name, _ in rows))
    # The names of the averages span both columns.
    name_width = max(name_width, len("average_metrics") - task_width - 2)
    lines = [f"{'task':<{task_width}}  {'metric':<{name_width}}  {'value':>6}"]
    lines += [f"{task:<{task_width}}  {name:<{name_width}}  {v:>6.2f}" for task, name, v in rows]
    but = f" but {', '.join(left_out)}" if left_out else ""
    has_lengths = any(name == averages.LENGTH for _, name, _ in rows)
    notes = {
        "task_average": "mean over tasks of the mean of a task's metrics"
        + f" but {averages.LENGTH}" * has_lengths,
        "average_metrics": f"mean of all metrics{but}",
    }
    values = averages.compute(metrics, left_out)
    width = task_width + 2 + name_width
    lines += [f"{name:<{width}}  {values[name]:>6.2f}  ({note})" for name, note in notes.items()]
    return "\n".join(lines)
