"""Analysis of a trained model: predictions, probes, ablations and variances over tasks.

Each task is predicted with its examples' own conditions, then read batch by batch into the table
and into sums; then every task is predicted again under each ablation. Memory is that of an
evaluation, whatever the number of examples: vectors are on disk, and probes and pictures show
`MAX_EXAMPLES`, drawn from each task.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from hyperdecoders_jax.analysis import (
    ablation_intervals,
    ablations,
    conditions,
    examples_reader,
    maps,
    probes,
    results,
    table,
)
from hyperdecoders_jax.analysis.predictor import Predictor
from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk
from hyperdecoders_jax.evaluation import evaluator
from hyperdecoders_jax.trained.placed import Placed

TABLE_FILE = "examples.parquet"
# Shown by probes and pictures; a page stays quick with so many.
MAX_EXAMPLES = 20_000
# Time for the intervals of one metric, task and ablation.
_RESAMPLING_SECS = 10.0
# With fewer examples or groups, intervals cover too little: with eight 87 %, with twelve 94 %.
_MIN_FOR_INTERVAL = 12


def run(
    model: Placed,
    tasks: evaluator.Evaluator,
    output_dir: epath.PathLike,
    batch_size: int,
    tell: Callable[[str], None] = logging.info,
) -> results.Study:
    """Analyses a model on all examples of `tasks`, and writes the table to `output_dir`.

    `tell` is called with a line when each part begins.

    Raises:
        ValueError: there are too few examples, or the model computes values that are not finite.
    """
    predictor = Predictor(model, batch_size)
    tell("Predicting with the examples' own conditions …")
    own = list(tasks.results(predictor.bind()))
    sizes = [len(result.predictions) for result in own]
    num_examples = sum(sizes)
    if num_examples < maps.MIN_EXAMPLES:
        raise ValueError(
            f"An analysis needs at least {maps.MIN_EXAMPLES} examples, of all tasks together; got "
            f"{num_examples}. Raise --num_examples, or name another --mixture or split."
        )
    tell(f"Reading {num_examples:,} examples …")
    reader = examples_reader.ExamplesReader(model)
    folder = epath.Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with table.Writer(folder / TABLE_FILE) as writer:
        for result, drawn in zip(
            own, examples_reader.draw(sizes, MAX_EXAMPLES, model.seed), strict=True
        ):
            reader.read(result, drawn, batch_size, writer)
        examples = reader.examples()
        tell("Probing …")
        # Before the ablations, which take long: it refuses vectors that are not finite.
        probed = probes.measure(examples, model.seed)
        # Inside the writer, so that a failure keeps an earlier study's table.
        return results.Study(
            examples,
            reader.tasks,
            probed,
            _ablate(predictor, tasks, own, reader.conditions, model.seed, tell),
            reader.variances.shares(),
            conditions.readers(model.model.config),
            model.step,
        )


def _ablate(
    predictor: Predictor,
    tasks: evaluator.Evaluator,
    own: Sequence[evaluator.TaskResult],
    own_conditions: Mapping[str, RowsOnDisk],
    seed: int,
    tell: Callable[[str], None],
) -> list[results.Ablation]:
    """Every metric under every ablation; those that equal another one are skipped."""
    of_examples = np.repeat(
        [result.examples.task.name for result in own], [len(result.predictions) for result in own]
    )
    compared = []
    for kind in ablations.KINDS:
        if kind in ablations.OF_SEVERAL_TASKS and len(own) == 1:
            continue
        ablated = own
        # Without conditions all ablations equal the own predictions, and rows say "same".
        if kind != ablations.OWN and own_conditions:
            tell(f"Predicting with other conditions: {kind} …")
            # Replaced over all tasks, because some kinds mix them.
            given = ablations.replace(kind, own_conditions, of_examples, seed)
            ablated = tasks.results(predictor.bind(given, of_examples))
        for before, after in zip(own, ablated, strict=True):
            compared += _compare(kind, before, after, seed)
    return compared


def _compare(
    kind: str, own: evaluator.TaskResult, ablated: evaluator.TaskResult, seed: int
) -> list[results.Ablation]:
    """Rows of one task under one ablation."""
    (targets, before), (_, after) = own.postprocessed, ablated.postprocessed
    task, groups = own.examples.task, examples_reader.groups_of(own.examples.examples, targets)
    compared = [(metric_fn, before, after) for metric_fn in task.predict_metric_fns]
    # The bootstrap draws rows of one sequence, so that a prediction and its values stay together.
    with_aux = [
        list(zip(texts, _rows(result.aux), strict=True))
        for texts, result in ((before, own), (after, ablated))
    ]
    compared += [(_takes_pairs(fn), *with_aux) for fn in task.predict_with_aux_metric_fns]
    differences: dict[str, ablation_intervals.Difference] = {}
    for metric_fn, *pair in compared:
        differences |= ablation_intervals.paired_bootstrap(
            metric_fn, targets, *pair, seed, max_secs=_RESAMPLING_SECS, groups=groups
        )
    texts = [[p.prediction for p in result.predictions] for result in (own, ablated)]
    num_changed = sum(x != y for x, y in zip(*texts, strict=True))
    # Equal predictions differ by 0, however few they are.
    is_known = not num_changed or len(set(groups or range(len(targets)))) >= _MIN_FOR_INTERVAL
    rows = []
    for name, value in ablated.metrics.items():
        interval = (math.nan, math.nan)
        if is_known and name in differences:
            interval = (differences[name].low, differences[name].high)
        difference = value - own.metrics[name]
        rows.append(
            results.Ablation(
                task.name, kind, name, value, difference, *interval, num_changed, len(targets)
            )
        )
    return rows


def _rows(columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """One dictionary for each example."""
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]


def _takes_pairs(metric_fn: Callable[..., Any]) -> ablation_intervals.Metric:
    """A metric of predictions and `aux_values` as one of (prediction, values) pairs."""

    def of_pairs(targets, pairs):
        # Arrays, as in an evaluation: metrics may compute with them.
        columns = {name: np.array([row[name] for _, row in pairs]) for name in pairs[0][1]}
        return metric_fn(targets, [prediction for prediction, _ in pairs], columns)

    return of_pairs
