"""The results of a comparison: a row for each metric of each task, and of their average."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from hyperdecoders_jax.evaluation import averages
from hyperdecoders_jax.study import curves, example_scores, intervals, runs, settings
from hyperdecoders_jax.study.comparison import Comparison
from hyperdecoders_jax.study.curves import Curve
from hyperdecoders_jax.study.floors import Floors
from hyperdecoders_jax.study.intervals import Interval
from hyperdecoders_jax.trained import opened

AVERAGE = "average"
MIN_SEEDS = 3
# A mean loss of the last fifth of the steps that is lower than the fifth's before by more: falling.
_FALLING = 0.03
# Points that a validation average loses after its best: too wide, or too long.
_OVERFITTED = 1.0


@dataclasses.dataclass(frozen=True)
class Cell:
    """One method's values of a metric, and their difference from the baseline's."""

    values: Sequence[float]  # A value for each seed.
    difference: Interval | None = None  # None: the baseline itself, or a metric without scores.

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def sd(self) -> float:
        """Standard deviation over seeds; NaN of one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan


@dataclasses.dataclass(frozen=True)
class Row:
    """One metric of one task, or the average of the tasks' means."""

    task: str
    metric: str
    num_examples: int
    cells: Mapping[str, Cell]  # By method.
    floors: Mapping[str, float]  # By name, where the task has them.


@dataclasses.dataclass(frozen=True)
class Method:
    """What a method costs; equal for all its seeds, but for the time."""

    steps: float  # Mean over seeds, which may end early.
    examples: float
    parameters: Mapping[str, int]  # Trained ones, by top-level key.
    checkpoint_bytes: int
    secs: float | None  # Of all steps of a run.
    flops_per_example: float

    @property
    def num_parameters(self) -> int:
        return sum(self.parameters.values())


@dataclasses.dataclass(frozen=True)
class Results:
    """All that tables, pictures and the page show."""

    rows: Sequence[Row]
    methods: Mapping[str, Method]
    curves: Mapping[str, Mapping[str, Curve]]  # Method → title → curve.
    warnings: Sequence[str]
    about: Mapping[str, Any]


def collect(comparison: Comparison, floors: Floors, about: Mapping[str, Any]) -> Results:
    """The results of a comparison whose runs are all finished."""
    # Floors read the tasks, and perhaps no run of this process has.
    opened.use_vocabulary(comparison.run(*comparison.pairs[0]))
    found = {
        name: [runs.read(comparison.folder(name, seed)) for seed in comparison.seeds]
        for name in comparison.methods
    }
    folders = [comparison.folder(*pair) for pair in comparison.pairs]
    scores = itertools.chain.from_iterable(found.values())
    settings.check_contents(dict(zip(folders, scores, strict=True)))
    drawn = {
        name: curves.of_runs([comparison.folder(name, seed) for seed in comparison.seeds])
        for name in comparison.methods
    }
    rows = _rows(found, comparison, floors)
    num_corrected = _num_intervals(rows) if comparison.is_corrected else None
    if num_corrected:  # How many there are is known only now.
        rows = _rows(found, comparison, floors, num_corrected)
    methods = {name: _method(of_seeds) for name, of_seeds in found.items()}
    warnings = [
        *(
            f"{task}/{metric} is left out, and so is the average: {name} has no finite value of it "
            "in some run. See its predictions in eval_*."
            for (task, metric), name in _not_finite(found).items()
        ),
        *_warn_of_runs(comparison, found, drawn),
        *_warn_of_floors(rows),
    ]
    about = {
        "methods": list(found),
        "seeds": list(comparison.seeds),
        "baseline": comparison.first,
        "split": comparison.split,
        "chosen on": comparison.select_on or "nothing",
        "corrected for": num_corrected,
        **about,
    }
    return Results(rows, methods, drawn, warnings, about)


def _rows(
    found: Mapping[str, Sequence[Mapping]],
    comparison: Comparison,
    floors: Floors,
    num_intervals: int = 1,
) -> list[Row]:
    tasks = next(iter(found.values()))[0]["tasks"]
    left_out = _not_finite(found)
    rows = []
    for task, first in tasks.items():
        of_task = floors(task, comparison.split)
        for metric in first["metrics"]:
            if (task, metric) in left_out:
                continue
            cells = {
                name: Cell([run["tasks"][task]["metrics"][metric] for run in of_seeds])
                for name, of_seeds in found.items()
            }
            values = {name: x[metric] for name, x in of_task.items() if metric in x}
            rows.append(Row(task, metric, first["num_examples"], cells, values))
    by_metric = {
        (task, metric): {name: _scores(x, task, metric) for name, x in found.items()}
        for task, first in tasks.items()
        for metric in first["metrics"]
    }
    scored = [(row, [by_metric[row.task, row.metric]]) for row in rows]
    # Without one of its parts it would be another average.
    if len(tasks) > 1 and any(row.metric != averages.LENGTH for row in rows) and not left_out:
        scored.append(_average(rows, by_metric))
    return [_compared(*row, comparison.first, num_intervals) for row in scored]


def _not_finite(found: Mapping[str, Sequence[Mapping]]) -> dict[tuple[str, str], str]:
    """Tasks' metrics that some run has no finite value of, to a method with such a run."""
    tasks = next(iter(found.values()))[0]["tasks"]
    return {
        (task, metric): name
        for task, first in tasks.items()
        for metric in first["metrics"]
        for name, of_seeds in found.items()
        if any(run["tasks"][task]["metrics"].get(metric) is None for run in of_seeds)
    }


def _scores(of_seeds: Sequence[Mapping], task: str, metric: str) -> list | None:
    found = [run["tasks"][task]["scores"].get(metric) for run in of_seeds]
    return None if None in found else [np.array(scores) for scores in found]


def _compared(
    row: Row, parts: Sequence[Mapping[str, list | None]], baseline: str, num_intervals: int
) -> Row:
    """The row with differences; a part is a task's scores by method."""
    cells = {}
    for name, cell in row.cells.items():
        difference = None
        if name != baseline and not any(p[name] is None or p[baseline] is None for p in parts):
            subtracted = [_subtract(p[name], p[baseline]) for p in parts]
            difference = intervals.paired(subtracted, num_intervals)
        cells[name] = dataclasses.replace(cell, difference=difference)
    return dataclasses.replace(row, cells=cells)


def _subtract(ours: list, theirs: list) -> Float[np.ndarray, "seeds examples"]:
    both = example_scores.alike([*ours, *theirs])
    return both[: len(ours)] - both[len(ours) :]


def _average(rows: Sequence[Row], by_metric) -> tuple[Row, list[dict[str, list | None]]]:
    """The mean over tasks of the mean of their metrics, lengths apart; and each task's scores."""
    metrics: dict[str, list[Row]] = {}
    for row in rows:
        if row.metric != averages.LENGTH:
            metrics.setdefault(row.task, []).append(row)
    names = rows[0].cells
    seeds = range(len(next(iter(names.values())).values))

    def mean(value: Callable[[Row], float]) -> float:
        return float(
            np.mean([np.mean([value(row) for row in of_task]) for of_task in metrics.values()])
        )

    cells = {
        name: Cell([mean(lambda row, n=name, s=seed: row.cells[n].values[s]) for seed in seeds])
        for name in names
    }
    shared = set.intersection(*(set(row.floors) for of_task in metrics.values() for row in of_task))
    floors = {floor: mean(lambda row, f=floor: row.floors[f]) for floor in sorted(shared)}
    parts = [
        {
            name: _task_scores([by_metric[task, row.metric][name] for row in of_task])
            for name in names
        }
        for task, of_task in metrics.items()
    ]
    count = sum(of_task[0].num_examples for of_task in metrics.values())
    return Row(AVERAGE, "", count, cells, floors), parts


def _task_scores(of_metrics: Sequence[list | None]) -> list | None:
    """Scores of the mean of a task's metrics, for each seed."""
    if None in [None if x is None else 0 for x in of_metrics]:
        return None
    return [example_scores.alike(of_seed).mean(axis=0) for of_seed in zip(*of_metrics, strict=True)]


def _num_intervals(rows: Sequence[Row]) -> int:
    return sum(x.difference is not None for row in rows for x in row.cells.values())


def _method(of_seeds: Sequence[Mapping[str, Any]]) -> Method:
    first = of_seeds[0]
    secs = [x["secs_per_step"] * x["steps"] for x in of_seeds if x["secs_per_step"] is not None]
    return Method(
        float(np.mean([x["steps"] for x in of_seeds])),
        float(np.mean([x["steps"] * x["batch_size"] for x in of_seeds])),
        first["parameters"],
        first["checkpoint_bytes"],
        float(np.mean(secs)) if secs else None,
        first["flops_per_example"],
    )


def _warn_of_runs(comparison: Comparison, found, drawn) -> list[str]:
    lines = []
    if len(comparison.seeds) < MIN_SEEDS:
        count = len(comparison.seeds)
        lines.append(
            f"{count} seed{'s'[: count > 1]}: too few to tell methods apart. Give --seeds=1-5."
        )
    for task, (num_cut, num_checked, longest) in next(iter(found.values()))[0]["cut"].items():
        lines.append(
            f"{task}: {num_cut} of {num_checked} inputs are cut; the longest has {longest} tokens. "
            f"Set TASK_FEATURE_LENGTHS['inputs'] = {longest}."
        )
    titles = [kind[0] for kind in curves.KINDS]
    for name, of_method in drawn.items():
        loss, average = (of_method.get(title) for title in titles)
        if loss is not None and len(loss.steps) >= 10:
            # A run that logs its first and its last step has other distances there.
            fifths = np.ceil(5 * loss.steps / loss.steps[-1])
            before, after = (loss.values[:, fifths == fifth].mean() for fifth in (4, 5))
            if before - after > _FALLING * before:
                lines.append(
                    f"{name}: the training loss is still falling at the end ({before:.3f} to "
                    f"{after:.3f} over the last fifth). Raise TRAIN_STEPS."
                )
        if average is not None and len(average.steps) > 1:
            means = average.values.mean(axis=0)
            if means.max() - means[-1] > _OVERFITTED:
                best = f"{means.max():.1f} (step {average.steps[means.argmax()]})"
                lines.append(
                    f"{name} overfits: {comparison.select_on} falls from {best} to "
                    f"{means[-1]:.1f}. Give it a smaller width, dropout, or "
                    "EARLY_STOPPING_PATIENCE."
                )
    return lines


def _warn_of_floors(rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        for floor, value in row.floors.items():
            below = [f"{x} ({c.mean:.1f})" for x, c in row.cells.items() if c.mean <= value]
            if below:
                what = f"{row.task} {row.metric}".strip()
                lines.append(f"{what}: {floor} ({value:.1f}) is as good as {', '.join(below)}.")
    return lines
