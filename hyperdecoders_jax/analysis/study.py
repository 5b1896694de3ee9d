"""Analysis of a trained model: predictions, probes, ablations and variances over tasks.

Each task is predicted with its examples' own conditions, read batch by batch into the table and
into sums, and predicted again under each ablation. Memory is that of an evaluation for any number
of examples: vectors are on disk, and probes and pictures show `MAX_EXAMPLES`.
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
MAX_EXAMPLES = 20_000  # Of probes and pictures; a page stays quick with so many.
_RESAMPLING_SECS = 10.0  # For the intervals of one metric, task and ablation.
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
    Raises ValueError for too few examples, or a model whose values are not finite.
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
        drawn = examples_reader.draw(sizes, MAX_EXAMPLES, model.seed)
        for result, of_task in zip(own, drawn, strict=True):
            reader.read(result, of_task, batch_size, writer)
        examples = reader.examples()
        tell("Probing …")
        # Before the ablations, which take long: it refuses vectors that are not finite.
        probed = probes.measure(examples, model.seed)
        # Inside the writer, so that a failure keeps an earlier study's table.
        ablated = _ablate(predictor, tasks, own, reader.conditions, model.seed, tell)
        shares, readers = reader.variances.shares(), conditions.readers(model.model.config)
        return results.Study(examples, reader.tasks, probed, ablated, shares, readers, model.step)


def _ablate(
    predictor: Predictor,
    tasks: evaluator.Evaluator,
    own: Sequence[evaluator.TaskResult],
    own_conditions: Mapping[str, RowsOnDisk],
    seed: int,
    tell: Callable[[str], None],
) -> list[results.Ablation]:
    """Every metric under every ablation; those that equal another one are skipped."""
    names = [result.examples.task.name for result in own]
    of_examples = np.repeat(names, [len(result.predictions) for result in own])
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
    with_aux = [with_values(before, own.aux), with_values(after, ablated.aux)]
    compared += [(takes_pairs(fn), *with_aux) for fn in task.predict_with_aux_metric_fns]
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
        low = high = math.nan
        if is_known and name in differences:
            _, _, low, high = differences[name]
        numbers = (value, value - own.metrics[name], low, high, num_changed, len(targets))
        rows.append(results.Ablation(task.name, kind, name, *numbers))
    return rows


def with_values(texts: Sequence[Any], aux: Mapping[str, np.ndarray]) -> list[tuple[Any, dict]]:
    """Each prediction with its values, so that both are resampled together."""
    columns = {name: column.tolist() for name, column in aux.items()}
    values = [dict(zip(columns, x, strict=True)) for x in zip(*columns.values(), strict=True)]
    return list(zip(texts, values, strict=True))


def takes_pairs(metric_fn: Callable[..., Any]) -> ablation_intervals.Metric:
    """A metric of predictions and `aux_values` as one of (prediction, values) pairs."""

    def of_pairs(targets, pairs):
        # Arrays, as in an evaluation: metrics may compute with them.
        columns = {name: np.array([row[name] for _, row in pairs]) for name in pairs[0][1]}
        return metric_fn(targets, [prediction for prediction, _ in pairs], columns)

    return of_pairs
