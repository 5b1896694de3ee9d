"""Reads all examples through a model, batch by batch, for the tables, probes and ablations.

Of each example, texts and vectors go into the table, generated parameters into the variances'
sums, conditions to the disk for ablations, and features to the disk if it is drawn for probes.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from hyperdecoders_jax.analysis import conditions, output_types, results, table, variances
from hyperdecoders_jax.analysis.rows_on_disk import RowsOnDisk
from hyperdecoders_jax.evaluation import evaluator, mrqa
from hyperdecoders_jax.model import BACKBONE_KEYS, Model, share_programs
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.trained.placed import Placed
from hyperdecoders_jax.types import Batch, Params

SKETCH_DIM = 4096  # Of the sketch of a layer's generated parameters.
FEATURE_DIM = 512  # Of the sketch of all layers' together.


class ExamplesReader:
    """Collects what a model reads and writes for examples."""

    def __init__(self, model: Placed):
        self._placed = model
        self._program = _program(Model(model.model.config))
        self.tasks: list[results.Task] = []
        self._columns = collections.defaultdict(list)  # Fields of `results.Examples`.
        self._features: dict[str, RowsOnDisk] = collections.defaultdict(RowsOnDisk)
        # Of all examples, by their readers' keys.
        self.conditions: dict[str, RowsOnDisk] = collections.defaultdict(RowsOnDisk)
        self.variances = variances.Variances()

    def read(
        self,
        result: evaluator.TaskResult,
        drawn: Bool[np.ndarray, "examples"],
        batch_size: int,
        writer: table.Writer,
    ) -> None:
        """Reads the examples of one task; features are kept of those that are `drawn`."""
        predicted, task = result.predictions, result.examples.task.name
        fields = ("input", "target", "prediction")
        texts = {name: [getattr(p, name) for p in predicted] for name in fields}
        output_type = output_types.infer(texts["input"], texts["target"])
        is_label = output_type == "class label"
        targets, answers = result.postprocessed
        pairs = zip(predicted, targets, answers, strict=True)
        correct = [p.prediction == p.target or is_same(*pair) for p, *pair in pairs]
        ids = [f"{task}-{i}" for i in range(len(predicted))]
        groups = groups_of(result.examples.examples, targets)
        of_task = {
            "id": ids,
            "task": [task] * len(predicted),
            **texts,
            "log_likelihood": [p.log_likelihood for p in predicted],
            "is_correct": correct,
            "output_type": [output_type] * len(predicted),
            "label": texts["target"] if is_label else [""] * len(predicted),
        }
        num_labels = len(set(texts["target"])) if is_label else 0
        rate = 100 * sum(correct) / len(correct)
        self.tasks.append(results.Task(task, len(predicted), output_type, num_labels, rate))
        kept = {f"{name}s": of_task[name] for name in ("id", "task", *fields, "output_type")}
        kept["is_correct"] = correct
        kept["groups"] = ids if groups is None else [f"{task}-{group}" for group in groups]
        for name, values in kept.items():
            self._columns[name].extend(itertools.compress(values, drawn))
        start = 0
        # The evaluator's own batches, so that row i is the example of prediction i.
        for item in result.examples.batches(batch_size):
            num = int(item.is_real.sum())
            rows = slice(start, start + num)
            start = rows.stop
            placed = self._placed.partitioner.put_batch(item.batch)
            read = jax.device_get(self._program(self._placed.params, placed))
            # Without the rows that fill up the last batch; numpy has no use for bfloat16.
            reading, features = jax.tree.map(lambda x, n=num: np.asarray(x[:n], np.float32), read)
            for key, x in features.items():
                self._features[key].append(x[drawn[rows]])
            for key, x in reading.conditions.items():
                self.conditions[key].append(x)
            columns = {name: x[rows] for name, x in of_task.items()}
            for key, x in reading.written.items():
                # [batch, layers, dim] -> [layers, batch, dim]
                self.variances.update(key, x.swapaxes(0, 1), columns["task"], columns["label"])
            columns |= {name: features[name] for name in ("pooled", "backbone")}
            columns |= {f"condition/{key}": x for key, x in reading.conditions.items()}
            columns |= {f"input/{key}": x for key, x in reading.inputs.items()}
            columns |= {f"hidden/{key}": x for key, x in reading.hidden.items()}
            columns |= {f"delta_norm/{side}": x for side, x in reading.delta_norms.items()}
            writer.write(columns)

    def examples(self) -> results.Examples:
        """The drawn examples of all tasks that were read."""
        is_correct = np.array(self._columns["is_correct"])
        columns = {**self._columns, "is_correct": is_correct, "features": self._features}
        return results.Examples(**columns)


def draw(sizes: Sequence[int], limit: int, seed: int = 0) -> list[Bool[np.ndarray, "examples"]]:
    """Draws `limit` examples: all of small tasks, equally many of each large one.

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
    return [rng.permutation(size) < most for size in sizes]  # `most` random rows are True.


def sketch(x: Float[Array, "*lead dim"], size: int) -> Float[Array, "*lead size"]:
    """Random projection to `size` dimensions that keeps lengths and angles on average.

    Vectors of at most `size` dimensions are returned unchanged.
    Source: Weinberger et al. 2009 (arXiv:0902.2206), with the hash `i % size`.
    """
    if (dim := x.shape[-1]) <= size:
        return x
    # Seeded by `size`: the signs of a sketch of sketches must be independent of the first ones.
    signs = jax.random.rademacher(jax.random.key(size), (dim,), jnp.float32)
    padding = [(0, 0)] * (x.ndim - 1) + [(0, -dim % size)]
    return jnp.pad(x * signs, padding).reshape(*x.shape[:-1], -1, size).sum(axis=-2)


def groups_of(
    examples: Sequence[Mapping[str, Any]], targets: Sequence[Any]
) -> list[Hashable] | None:
    """Groups that metrics read together, such as the windows of a question; None: no groups.

    >>> groups_of([{"qid": "a"}, {"qid": "a"}, {"qid": "b"}], ["yes", "yes", "no"])
    ['a', 'a', 'b']
    """
    if mrqa.QUESTION in examples[0]:
        return [example[mrqa.QUESTION] for example in examples]
    if hasattr(targets[0], "group"):  # SuperGLUE's `Grouped`
        return [target.group for target in targets]
    return None


def is_same(target: Any, prediction: Any) -> bool:
    """Whether a postprocessed prediction equals the target, or one of its answers."""
    if isinstance(target, Mapping):
        target = target.get("answers", target)
    target = getattr(target, "value", target)  # SuperGLUE's `Grouped`.
    if isinstance(target, list | tuple) and not isinstance(prediction, list | tuple):
        return any(is_same(answer, prediction) for answer in target)
    return bool(np.all(target == prediction))


@share_programs
def _program(model: Model) -> Callable[..., tuple[conditions.Reading, dict[str, Array]]]:
    plain = Model(modeling_config.without_adaptation(model.config))

    # One program for reading and the plain backbone: one transfer per batch.
    @jax.jit
    def read(params: Params, batch: Batch):
        reading = conditions.read(model, params, batch)
        sketches = {key: sketch(x, SKETCH_DIM) for key, x in reading.written.items()}
        features = {"pooled": reading.pooled}
        if sketches:
            main, *_ = conditions.readers(model.config)
            condition = reading.inputs[main]
            if condition.ndim == 3:  # An encoder's grid reads the states of every layer.
                condition = sketch(condition.reshape(len(condition), -1), FEATURE_DIM)
            features["condition"] = condition
            flat = [x.reshape(len(x), -1) for x in sketches.values()]  # [batch, layers * dim]
            features["parameters"] = sketch(jnp.concatenate(flat, axis=1), FEATURE_DIM)
        backbone = {key: params[key] for key in BACKBONE_KEYS}
        features["backbone"] = conditions.pool(plain, backbone, batch)
        return reading.replace(written=sketches), features

    return read
