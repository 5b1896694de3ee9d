"""A trained model and the examples of tasks in; all that an analysis finds out.

Each task is predicted with its examples' own conditions, then read batch by batch, each batch into
the table and into sums. Then every task is predicted again under each ablation. Memory is that of
a plain evaluation, however many examples there are: vectors wait on the disk, and probes and
pictures are of `MAX_EXAMPLES`, drawn from each task.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Bool, Float

from hyperdecoders_jax.analysis import (
    ablation_intervals,
    ablations,
    conditions,
    maps,
    output_types,
    probes,
    results,
    table,
    variances,
)
from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk
from hyperdecoders_jax.decoding import decode
from hyperdecoders_jax.evaluation import evaluator
from hyperdecoders_jax.model import BACKBONE_KEYS, Model
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.training import partitioning
from hyperdecoders_jax.types import Batch, Params

TABLE_FILE = "examples.parquet"
# That probes and pictures are of; a page answers quickly with as many.
MAX_EXAMPLES = 20_000
# Numbers that stand for what is written for a layer, and for all layers.
SKETCH_DIM = 4096
FEATURE_DIM = 512
# For the intervals of one task under one ablation.
_RESAMPLING_SECS = 10.0
# The windows of a question, the answers to one: the feature in which they are equal.
_GROUP_FEATURES = ("qid", "group")
# Whose condition is an example's, where several read one.
_READERS = ("decoder_adapters", "decoder_hypergrid", "encoder_adapters", "encoder_hypergrid")


@dataclasses.dataclass(frozen=True)
class Study:
    """What was found.

    Attributes:
      examples: with their vectors; all, or `MAX_EXAMPLES` of them.
      num_examples: of all tasks.
      probes, ablations, variances: the tables.
      readers: keys of the parameters that read a condition.
      step: of the checkpoint.
    """

    examples: results.Examples
    num_examples: int
    probes: Sequence[results.Probe]
    ablations: Sequence[results.Ablation]
    variances: Sequence[results.Variance]
    readers: Sequence[str]
    step: int


@dataclasses.dataclass(frozen=True)
class Subject:
    """A trained model that is studied.

    Attributes:
      model: with as many tasks as it was trained on.
      params: all of them, on the devices.
      partitioner: that placed them.
      step: of the checkpoint.
      max_len: most tokens of a prediction, EOS included.
      generation: of tasks whose texts are decoded otherwise: (most tokens, beams).
      seed: of sampling and shuffling.
    """

    model: Model
    params: Params
    partitioner: partitioning.Partitioner
    step: int
    max_len: int
    generation: decode.Generation = dataclasses.field(default_factory=dict)
    seed: int = 0


def run(
    subject: Subject, tasks: evaluator.Evaluator, output_dir: epath.PathLike, batch_size: int
) -> Study:
    """Studies a model on all examples of `tasks`; writes the table.

    Args:
      subject: the model.
      tasks: what is evaluated, in batches of `batch_size`.
      output_dir: gets `TABLE_FILE`.
      batch_size: examples of one step.

    Raises:
      ValueError: there are too few examples, or some numbers of the model are not finite.
    """
    predictor = Predictor(subject, batch_size)
    own = list(tasks.results(predictor.bind()))
    sizes = [len(result.predictions) for result in own]
    num_examples = sum(sizes)
    if num_examples < maps.MIN_EXAMPLES:
        raise ValueError(
            f"An analysis needs at least {maps.MIN_EXAMPLES} examples, of all tasks together; got "
            f"{num_examples}. Raise --num_examples, or name another --mixture or split."
        )
    reader = _Reader(subject)
    folder = epath.Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with table.Writer(folder / TABLE_FILE) as writer:
        for result, drawn in zip(own, draw(sizes, MAX_EXAMPLES, subject.seed), strict=True):
            reader.read(result, drawn, batch_size, writer)
    of_examples = np.repeat([result.examples.task.name for result in own], sizes)
    compared = []
    for kind in ablations.KINDS:
        if kind == ablations.ACROSS and len(own) == 1:
            continue
        ablated = own
        if kind != ablations.OWN and reader.conditions:
            given = ablations.replace(kind, reader.conditions, of_examples, subject.seed)
            ablated = tasks.results(predictor.bind(given, of_examples))
        for before, after in zip(own, ablated, strict=True):
            compared += _compare(kind, before, after, subject.seed)
    examples = reader.examples()
    return Study(
        examples,
        num_examples,
        probes.measure(examples, subject.seed),
        compared,
        reader.variances.shares(),
        conditions.readers(subject.model.config),
        subject.step,
    )


def _compare(
    kind: str, own: evaluator.TaskResult, ablated: evaluator.TaskResult, seed: int
) -> list[results.Ablation]:
    """What each metric of a task loses."""
    (targets, before), (_, after) = own.postprocessed(), ablated.postprocessed()
    task, groups = own.examples.task, _groups(own.examples.examples)
    compared = [(metric_fn, before, after) for metric_fn in task.predict_metric_fns]
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
    rows = []
    for name, value in ablated.metrics.items():
        difference = value - own.metrics[name]
        interval = (math.nan, math.nan)
        if name in differences:
            interval = (differences[name].low, differences[name].high)
        rows.append(results.Ablation(task.name, kind, name, value, difference, *interval))
    return rows


def _groups(examples: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Which examples metrics look at together, as those of MRQA, MultiRC and ReCoRD do."""
    for name in _GROUP_FEATURES:
        if name in examples[0]:
            return [str(example[name]) for example in examples]
    return None


def _rows(columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """One dictionary for each example."""
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]


def _takes_pairs(metric_fn: Callable[..., Any]) -> ablation_intervals.Metric:
    """A metric of predictions and `aux_values`, as one of pairs of a prediction and its values."""

    def of_pairs(targets, pairs):
        columns = {name: [row[name] for _, row in pairs] for name in pairs[0][1]}
        return metric_fn(targets, [prediction for prediction, _ in pairs], columns)

    return of_pairs


class Predictor:
    """Predict functions of a model, each for other conditions.

    Conditions are arguments of one program for each way of decoding: nothing is compiled again for
    the next ablation.
    """

    def __init__(self, subject: Subject, batch_size: int):
        self._subject = subject
        self._batch_size = batch_size
        self._compiled = functools.cache(self._compile)

    def _compile(self, decoding: decode.DecodingConfig, max_len: int) -> Callable[..., Any]:
        model = dataclasses.replace(self._subject.model, decoding=decoding)

        def predict(params, batch, sample_rng, given):
            with conditions.given(given):
                return model.predict(params, batch, sample_rng, max_len=max_len)

        return jax.jit(predict)

    def bind(
        self, given: ablations.Given | None = None, tasks: Sequence[str] = ()
    ) -> evaluator.PredictFn:
        """A function for the batches of an evaluator, each task's from its first example on.

        Args:
          given: to the examples of all tasks; None: they have their own conditions.
          tasks: of each example that is given one.
        """
        subject, size = self._subject, self._batch_size
        # Examples of each task that no batch had yet.
        tasks = np.array(tasks)
        left = {task: np.flatnonzero(tasks == task) for task in np.unique(tasks)}
        first = {task: rows[0] for task, rows in left.items()}
        calls = iter(range(1 << 62))

        def predict_fn(batch: Batch, task_name: str) -> Any:
            replaced = {}
            if given is not None:
                rows, left[task_name] = left[task_name][:size], left[task_name][size:]
                # Rows that fill a batch up repeat the task's first example.
                rows = np.pad(rows, (0, size - len(rows)), constant_values=first[task_name])
                replaced = given.take(rows)
            placed = subject.partitioner.put_batch((batch, replaced))
            sample_rng = jax.random.fold_in(jax.random.key(subject.seed), next(calls))
            predict = self._compiled(
                *decode.for_task(
                    subject.model.decoding, subject.max_len, subject.generation, task_name
                )
            )
            return jax.device_get(predict(subject.params, placed[0], sample_rng, placed[1]))

        return predict_fn


class _Reader:
    """Reads batches into the table, into sums, and into what is kept of examples.

    Attributes:
      conditions: of all examples, by what reads them.
      variances: of what is written for all examples.
    """

    def __init__(self, subject: Subject):
        self._subject = subject
        self._plain = Model(modeling_config.without_adaptation(subject.model.config))
        self._program = jax.jit(self._read)
        self._columns: dict[str, list[Any]] = {}
        self._features: dict[str, RowsOnDisk] = collections.defaultdict(RowsOnDisk)
        self.conditions: dict[str, RowsOnDisk] = collections.defaultdict(RowsOnDisk)
        self.variances = variances.Variances()

    def _read(self, params: Params, batch: Batch) -> tuple[conditions.Reading, dict[str, Array]]:
        reading = conditions.read(self._subject.model, params, batch)
        sketches = {key: sketch(x, SKETCH_DIM) for key, x in reading.written.items()}
        features = {"pooled": reading.pooled}
        if sketches:
            main = next(key for key in _READERS if key in reading.inputs)
            read = reading.inputs[main]
            if read.ndim == 3:  # A grid of the encoder reads states of every layer.
                read = sketch(read.reshape(len(read), -1), FEATURE_DIM)
            features["condition"] = read
            flat = [x.reshape(len(x), -1) for x in sketches.values()]
            features["parameters"] = sketch(jnp.concatenate(flat, axis=1), FEATURE_DIM)
        backbone = {key: params[key] for key in BACKBONE_KEYS}
        features["backbone"] = conditions.pool(self._plain, backbone, batch)
        return reading.replace(written=sketches), features

    def read(
        self,
        result: evaluator.TaskResult,
        drawn: Bool[np.ndarray, "examples"],
        batch_size: int,
        writer: table.Writer,
    ) -> None:
        """Adds the examples of one task, of which those that are `drawn` are kept."""
        predicted, task = result.predictions, result.examples.task.name
        texts = {
            "input": [p.input for p in predicted],
            "target": [p.target for p in predicted],
            "prediction": [p.prediction for p in predicted],
        }
        output_type = output_types.infer(texts["input"], texts["target"])
        is_label = output_type == "class label"
        of_task = {
            "id": [f"{task}-{i}" for i in range(len(predicted))],
            "task": [task] * len(predicted),
            **texts,
            "log_likelihood": [p.log_likelihood for p in predicted],
            "is_correct": [_is_same(*pair) for pair in zip(*result.postprocessed(), strict=True)],
            "output_type": [output_type] * len(predicted),
            "label": texts["target"] if is_label else [""] * len(predicted),
        }
        for name, values in of_task.items():
            self._columns.setdefault(name, []).extend(itertools.compress(values, drawn))
        start = 0
        for item in result.examples.batches(batch_size):
            rows = slice(start, start + int(item.is_real.sum()))
            start = rows.stop
            placed = self._subject.partitioner.put_batch(item.batch)
            reading, features = jax.device_get(self._program(self._subject.params, placed))
            reading, features = jax.tree.map(
                lambda x, n=rows.stop - rows.start: np.asarray(x[:n], np.float32),
                (reading, features),
            )
            for key, x in features.items():
                self._features[key].append(x[drawn[rows]])
            for key, x in reading.conditions.items():
                self.conditions[key].append(x)
            columns = {name: x[rows] for name, x in of_task.items()}
            for key, x in reading.written.items():
                self.variances.update(key, x.swapaxes(0, 1), columns["task"], columns["label"])
            vectors = {"pooled": features["pooled"], "backbone": features["backbone"]}
            vectors |= {f"condition/{key}": x for key, x in reading.conditions.items()}
            vectors |= {f"input/{key}": x for key, x in reading.inputs.items()}
            vectors |= {f"hidden/{key}": x for key, x in reading.hidden.items()}
            vectors |= {f"delta_norm/{side}": x for side, x in reading.delta_norms.items()}
            writer.write({**columns, **vectors})

    def examples(self) -> results.Examples:
        columns = self._columns
        return results.Examples(
            ids=columns["id"],
            tasks=columns["task"],
            inputs=columns["input"],
            targets=columns["target"],
            predictions=columns["prediction"],
            is_correct=np.array(columns["is_correct"]),
            output_types=columns["output_type"],
            features=self._features,
        )


def draw(sizes: Sequence[int], limit: int, seed: int = 0) -> list[Bool[np.ndarray, "examples"]]:
    """Which examples of each task are kept: all of small tasks, equally many of large ones.

    >>> [int(drawn.sum()) for drawn in draw([2, 90, 50], limit=22)]
    [2, 10, 10]
    """
    left, most = limit, 0
    for i, size in enumerate(sorted(sizes)):
        most = left // (len(sizes) - i)
        if size > most:
            break
        left -= size
    rng = np.random.default_rng(seed)
    return [rng.permutation(size) < most for size in sizes]


def sketch(x: Float[Array, "*lead dim"], size: int) -> Float[Array, "*lead size"]:
    """Fewer numbers with the same lengths and angles, on average: a sum of parts of random signs.

    What has no more than `size` numbers is left as it is.

    Source: Weinberger et al. 2009 (arXiv:0902.2206), with the hash `i % size`.
    """
    dim = x.shape[-1]
    if dim <= size:
        return x
    signs = jax.random.rademacher(jax.random.key(0), (dim,), jnp.float32)
    padding = [(0, 0)] * (x.ndim - 1) + [(0, -dim % size)]
    parts = jnp.pad(x * signs, padding).reshape(*x.shape[:-1], -1, size)
    return parts.sum(axis=-2)


def _is_same(target: Any, prediction: Any) -> bool:
    """Whether a postprocessed prediction is the target, or one of the answers that it lists."""
    if isinstance(target, Mapping):
        target = target.get("answers", target)
    target = getattr(target, "value", target)  # SuperGLUE's targets know their group, too.
    if isinstance(target, list | tuple) and not isinstance(prediction, list | tuple):
        return any(_is_same(answer, prediction) for answer in target)
    return bool(np.all(target == prediction))
