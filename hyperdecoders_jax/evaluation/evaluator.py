"""Metrics and predictions of every task of a split, from a predict function.

Targets, postprocessors and metrics are SeqIO's: each task's `metric_objs`, called as SeqIO's own
Evaluator calls them, so that a task scores the same under T5X. `seqio.Evaluator` itself takes
registered names only, so that tasks could not carry their number, reads and converts every example
several times, and logs no log-likelihoods. Here a split is read once, when needed, and kept, in
bounded memory. Metrics take targets and predictions of a whole task, so these are in memory.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
import seqio
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from jaxtyping import Float, Int, Shaped

from hyperdecoders_jax import types
from hyperdecoders_jax.data import eval_batches, mixtures
from hyperdecoders_jax.data.eval_batches import TaskExamples
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.evaluation import mrqa, predictions, task_metrics
from hyperdecoders_jax.evaluation.config import EvaluationConfig
from hyperdecoders_jax.evaluation.task_metrics import GENERATED, ModelOutputType

Metrics = dict[str, dict[str, float]]
ScoreFn = Callable[[types.Batch], Float[np.ndarray, "batch dec_len"]]

# Examples of each task that a rehearsal computes metrics of.
_NUM_REHEARSED = 64


class Predicted(Protocol):
    """What a predict function returns; `beams` counts results per example, best first."""

    tokens: Int[np.ndarray, "batch beams length"]
    log_likelihoods: Float[np.ndarray, "batch beams"]


# (batch, the task that all its rows are of) -> texts
PredictFn = Callable[[types.Batch, str], Predicted]


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The predictions for one task's split and their metrics."""

    examples: TaskExamples
    predictions: Sequence[predictions.Prediction]
    aux: Mapping[str, Shaped[np.ndarray, "examples"]]  # Seen by metrics; see `_Generated.aux`.
    metrics: Mapping[str, float]  # Those that take predictions.

    @functools.cached_property
    def postprocessed(self) -> tuple[list[Any], list[Any]]:
        """Targets and predictions as the task's metric functions take them."""
        postprocess, rows = self.examples.task.postprocess_fn, self.examples.examples
        pairs = list(zip(rows, self.predictions, strict=True))
        return (
            [postprocess(p.target, example=row, is_target=True) for row, p in pairs],
            [postprocess(p.prediction, example=row, is_target=False) for row, p in pairs],
        )


@dataclasses.dataclass(frozen=True)
class _Generated:
    """The best result of every example of a task, over all processes."""

    tokens: Int[np.ndarray, "examples length"]
    log_likelihoods: Float[np.ndarray, "examples"]
    batch_size: int

    @property
    def aux(self) -> dict[str, np.ndarray]:
        """What metrics may know beside the tokens: `aux_values`, a value per example.

        `scores` (T5X's name) are log-likelihoods, `num_tokens` counts of generated tokens, both
        with EOS; `batch_num_tokens` is the most of these in its batch.
        """
        num_tokens = (self.tokens != types.PAD_ID).sum(axis=1)
        # The last batch counts without the rows that fill it up.
        starts = np.arange(0, len(num_tokens), self.batch_size)
        most = np.maximum.reduceat(num_tokens, starts)
        return {
            "scores": self.log_likelihoods,
            "num_tokens": num_tokens,
            "batch_num_tokens": np.repeat(most, self.batch_size)[: len(num_tokens)],
        }

    @property
    def outputs(self) -> dict[ModelOutputType, Any]:
        """The inputs of metrics that take predictions."""
        return {
            ModelOutputType.PREDICTION: self.tokens,
            ModelOutputType.PREDICTION_WITH_AUX: (self.tokens, self.aux),
        }


class Evaluator:
    """Evaluates every task of a mixture that has the split, by generation.

    With several processes each predicts its shard of every batch, and all get all results.

    Args:
        data, config: the mixture, its lengths and caches; which examples, and how many at once.
        task_names: the model's ordered list that numbers tasks; None: sorted by name.
        output_dir: gets `TASK/STEP.jsonl` with the predictions, and for windows of questions what
            `mrqa.write_answers` writes; None: nothing is written.
        shard: (index, count) of this process's part of each batch, as `Partitioner.data_shard`
            gives it; processes may share one. None: one for each process.
        accepts_unseen_tasks: whether tasks that `task_names` lacks are evaluated, with the number
            `UNSEEN_TASK_ID`; see `TransformerConfig.accepts_unseen_tasks`.
        seed: for tasks that draw at random even in evaluation.

    Raises ValueError if a name, a number, a split or data are missing.
    """

    def __init__(
        self,
        data: PipelineConfig,
        config: EvaluationConfig,
        task_names: Sequence[str] | None,
        *,
        output_dir: str | os.PathLike[str] | None = None,
        shard: tuple[int, int] | None = None,
        accepts_unseen_tasks: bool = False,
        seed: int = 0,
    ):
        if config.split is None:
            raise ValueError(
                "An evaluation needs a split; got EvaluationConfig.split = None. Name one."
            )
        self._config = config
        self._batch_size = config.batch_size or data.batch_size
        self._shard = shard or (jax.process_index(), jax.process_count())
        if self._batch_size % self._shard[1]:
            raise ValueError(
                f"The batch size of an evaluation must divide over the processes' shards; got "
                f"{self._batch_size} for {self._shard[1]} shards. Set it to a multiple of that."
            )
        self._tasks = mixtures.leaf_tasks(data.mixture_or_task_name, config.split, data.use_cached)
        mixtures.check_features_agree(self._tasks)
        self._accepts_unseen_tasks = accepts_unseen_tasks
        self._task_names = mixtures.resolve_task_names(
            data.mixture_or_task_name, task_names, accepts_unseen_tasks
        )
        self._data = data
        self._output_dir = None if output_dir is None else epath.Path(output_dir)
        self._seed = seed
        self._examples: dict[str, TaskExamples] = {}  # Filled as tasks are first needed.
        self._targets: dict[str, Any] = {}  # Postprocessed at a task's first evaluation only.

    def writing_to(self, output_dir: str | os.PathLike[str] | None) -> Evaluator:
        """The same evaluator, with the examples that it has read, that writes elsewhere."""
        other = copy.copy(self)
        other._output_dir = None if output_dir is None else epath.Path(output_dir)
        return other

    def evaluate(
        self, predict_fn: PredictFn, step: int, score_fn: ScoreFn | None = None
    ) -> Metrics:
        """Computes the metrics of every task that has some, and writes its predictions.

        Args:
            predict_fn: takes this process's share of a batch, always of one size, and its task.
            step: names the files.
            score_fn: gives each target token's log-likelihood; needed by score metrics only.

        Returns {task: {metric: value}}, tasks sorted by name; metrics as tasks define them, T5's in
        [0, 100]. Raises ValueError if a metric lacks its input, or two metrics have one name.
        """
        results = {}
        for task in self._tasks:
            if not task.metric_objs:
                logging.info("Task %s has no metrics and is not evaluated.", task.name)
                continue
            results[task.name] = self._evaluate_task(task, predict_fn, step, score_fn)
        return results

    __call__ = evaluate

    def rehearse(self) -> Metrics:
        """Metrics of the first targets as their own predictions, without any model.

        Called before a run, it raises what would stop its first evaluation: unreadable examples,
        secret targets, metrics that fail on a complete split or share a name. What it read is kept.
        """
        return {task.name: self._rehearse(task) for task in self._tasks if task.metric_objs}

    def _rehearse(self, task: seqio.Task) -> dict[str, float]:
        examples = self._examples_of(task)
        first = dataclasses.replace(examples, examples=examples.examples[:_NUM_REHEARSED])
        try:
            return self._metrics_of_targets(first)
        except Exception:  # A metric may need more than so few examples give it.
            return self._metrics_of_targets(examples)

    def _metrics_of_targets(self, examples: TaskExamples) -> dict[str, float]:
        count = len(examples.examples)
        # In batches, though nothing is predicted, since they are cut and padded as in a run.
        batches = [item.batch for item in examples.batches(self._batch_size)]
        tokens = np.concatenate([batch.decoder_target_tokens for batch in batches])[:count]
        generated = _Generated(tokens, np.zeros(count), self._batch_size)
        outputs = {**generated.outputs, ModelOutputType.SCORE: generated.log_likelihoods}
        return task_metrics.compute(examples.task, examples.examples, outputs)[0]

    def predict(
        self, predict_fn: PredictFn
    ) -> Iterator[tuple[str, Iterator[predictions.Prediction]]]:
        """Each task's name and predictions, for every example, with metrics or without.

        They are made as they are taken, so that no more than a batch is in memory. Of several
        processes all must take all, in the same order.
        """
        for examples in self.examples():
            yield examples.task.name, self._predictions(examples, predict_fn)

    def _predictions(
        self, examples: TaskExamples, predict_fn: PredictFn
    ) -> Iterator[predictions.Prediction]:
        start = 0
        for arrays in self._best(examples, predict_fn):
            count = len(examples.examples) - start
            # A batch has successive examples, whichever process predicts them.
            yield from _describe(examples, *(self._gather([x], count) for x in arrays), start)
            start += self._batch_size

    def results(
        self, predict_fn: PredictFn, score_fn: ScoreFn | None = None
    ) -> Iterator[TaskResult]:
        """What `evaluate` computes, task by task, without files.

        Without `score_fn` the metrics that take scores are left out.
        """
        for examples in self.examples():
            generated = self._generate(examples, predict_fn)
            outputs = generated.outputs
            needed = {metric.model_output_type for metric in examples.task.metric_objs}
            if score_fn is not None and ModelOutputType.SCORE in needed:
                outputs[ModelOutputType.SCORE] = self._score(examples, score_fn)
            metrics = self._compute_metrics(examples, outputs)
            described = _describe(examples, generated.tokens, generated.log_likelihoods)
            yield TaskResult(examples, list(described), generated.aux, metrics)

    def examples(self) -> Iterator[TaskExamples]:
        """The examples of every task, which are read once."""
        return map(self._examples_of, self._tasks)

    def _examples_of(self, task: seqio.Task) -> TaskExamples:
        if task.name not in self._examples:
            examples = eval_batches.read_examples(
                task,
                mixtures.task_number(task.name, self._task_names, self._accepts_unseen_tasks),
                {name: self._data.task_feature_lengths[name] for name in types.FEATURES},
                self._config.split,
                self._config.num_examples,
                self._seed,
                use_cached=self._data.use_cached,
            )
            if not examples.examples:
                raise ValueError(
                    f"A task that is evaluated must have examples; {task.name!r} has none in its "
                    f"split {self._config.split!r}. Check its source, its filters and the split."
                )
            self._examples[task.name] = examples
        return self._examples[task.name]

    def _evaluate_task(
        self, task: seqio.Task, predict_fn: PredictFn, step: int, score_fn: ScoreFn | None
    ) -> dict[str, float]:
        needed = task_metrics.check_supported(task, has_scores=score_fn is not None)
        start = time.monotonic()
        examples = self._examples_of(task)
        outputs: dict[ModelOutputType, Any] = {}
        if needed & set(GENERATED):
            generated = self._generate(examples, predict_fn)
            outputs |= generated.outputs
        if ModelOutputType.SCORE in needed:
            outputs[ModelOutputType.SCORE] = self._score(examples, score_fn)
        # Before the metrics: what was predicted for hours shall outlive one that fails.
        if needed & set(GENERATED) and self._output_dir is not None and jax.process_index() == 0:
            _write(self._output_dir / task.name, step, examples, generated)
        metrics = self._compute_metrics(examples, outputs)
        logging.info(
            "Evaluated %d examples of %s in %.1f s: %s",
            len(examples.examples), task.name, time.monotonic() - start, metrics,
        )  # fmt: skip
        return metrics

    def _generate(self, examples: TaskExamples, predict_fn: PredictFn) -> _Generated:
        tokens, log_likelihoods = zip(*self._best(examples, predict_fn), strict=True)
        count = len(examples.examples)
        return _Generated(
            self._gather(tokens, count), self._gather(log_likelihoods, count), self._batch_size
        )

    def _best(
        self, examples: TaskExamples, predict_fn: PredictFn
    ) -> Iterator[tuple[Int[np.ndarray, "batch length"], Float[np.ndarray, "batch"]]]:
        """Tokens and log-likelihoods of the best beams, batch by batch of this process."""
        for batch in self._batches(examples):
            predicted = predict_fn(batch, examples.task.name)
            # Index 0 is the best beam; the copies let go of the others.
            tokens = np.asarray(predicted.tokens)[:, 0].copy()
            yield tokens, np.asarray(predicted.log_likelihoods)[:, 0].copy()

    def _score(self, examples: TaskExamples, score_fn: ScoreFn) -> Float[np.ndarray, "examples"]:
        scores = [np.asarray(score_fn(batch)).sum(axis=1) for batch in self._batches(examples)]
        return self._gather(scores, len(examples.examples))

    def _batches(self, examples: TaskExamples) -> Iterator[types.Batch]:
        return (item.batch for item in examples.batches(self._batch_size, *self._shard))

    def _gather(
        self, batches: Sequence[Shaped[np.ndarray, "batch *rest"]], num_examples: int
    ) -> Shaped[np.ndarray, "examples *rest"]:
        """All processes' rows in the order of the examples."""
        rows = np.concatenate(batches)
        if jax.process_count() > 1:
            shards = multihost_utils.process_allgather(np.int32(self._shard[0]))
            rows = interleave(multihost_utils.process_allgather(rows), shards)
        return rows[:num_examples]  # The rows that fill batches up are the last ones.

    def _compute_metrics(
        self, examples: TaskExamples, outputs: Mapping[ModelOutputType, Any]
    ) -> dict[str, float]:
        task = examples.task
        metrics, self._targets[task.name] = task_metrics.compute(
            task, examples.examples, outputs, self._targets.get(task.name)
        )
        return metrics


def interleave(
    rows: Shaped[np.ndarray, "processes rows *rest"], shards: Int[np.ndarray, "processes"]
) -> Shaped[np.ndarray, "examples *rest"]:
    """Undoes the sharding in which example `i` belongs to shard `i % count`.

    `shards` has the shard of each process; several may have the same.

    >>> interleave(np.array([[0, 2, 4], [1, 3, 5]]), np.array([0, 1]))
    array([0, 1, 2, 3, 4, 5])
    >>> interleave(np.array([[1, 3], [1, 3], [0, 2], [0, 2]]), np.array([1, 1, 0, 0]))
    array([0, 1, 2, 3])
    """
    _, processes = np.unique(shards, return_index=True)  # the first of each shard, in order
    return np.moveaxis(rows[processes], 0, 1).reshape(-1, *rows.shape[2:])


def _write(folder: epath.Path, step: int, examples: TaskExamples, generated: _Generated) -> None:
    described = _describe(examples, generated.tokens, generated.log_likelihoods)
    is_of_windows = mrqa.QUESTION in examples.examples[0]
    described = list(described) if is_of_windows else described
    predictions.write(folder / f"{step}.jsonl", described)
    if is_of_windows:
        texts, aux = [prediction.prediction for prediction in described], generated.aux
        counts = (aux["num_tokens"], aux["batch_num_tokens"])
        mrqa.write_answers(folder, step, examples.examples, texts, aux["scores"], *counts)


def _describe(
    examples: TaskExamples,
    tokens: Int[np.ndarray, "examples length"],
    log_likelihoods: Float[np.ndarray, "examples"],
    start: int = 0,
) -> Iterator[predictions.Prediction]:
    """Predictions of successive examples, the first of which has the index `start`."""
    vocabulary = examples.task.output_features["targets"].vocabulary
    for index, ids, log_likelihood in zip(
        range(start, start + len(tokens)), tokens, log_likelihoods, strict=True
    ):
        example = examples.examples[index]
        yield predictions.Prediction(
            input=examples.text(example, "inputs"),
            target=examples.text(example, "targets"),
            prediction=vocabulary.decode([int(i) for i in ids]),
            log_likelihood=float(log_likelihood),
            task=examples.task.name,
        )
