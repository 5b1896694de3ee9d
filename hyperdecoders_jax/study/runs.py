"""The runs of a comparison, trained and scored one after the other, or by several processes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.data import mixtures
from hyperdecoders_jax.study import costs, scoring, settings
from hyperdecoders_jax.study.comparison import Comparison
from hyperdecoders_jax.trained import placed, training_run
from hyperdecoders_jax.trained.shared import Shared
from hyperdecoders_jax.training import partitioning, run_lock, trainable, trainer
from hyperdecoders_jax.weights import run_folder

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig

SCORES_FILE = run_folder.SCORES_FILE


def make_all(
    comparison: Comparison, shared: Shared, *, first: int = 0, has_others: bool = False
) -> bool:
    """Makes the runs that are not finished; whether all are, False after a signal.

    Beginning with the pair `first`, and with others at work without the runs that they write.
    """
    pairs = [*comparison.pairs[first:], *comparison.pairs[:first]]
    folders = [comparison.folder(*pair) for pair in pairs]
    times: list[float] = []
    for number, (name, seed) in enumerate(pairs):
        run = comparison.run(name, seed)
        if is_finished(run.model_dir) or (has_others and is_taken(run.model_dir)):
            continue
        print(f"\n== {name}, seed {seed} ==", file=sys.stderr, flush=True)
        start = time.perf_counter()
        text = comparison.config_text(name, seed)
        try:
            is_made = make(run, text, comparison.split, shared, folders)
        except ValueError:
            if has_others and (is_taken(run.model_dir) or is_finished(run.model_dir)):
                continue  # Another process began it meanwhile.
            raise
        if not is_made:
            return False
        times.append(time.perf_counter() - start)
        num_left = sum(not is_finished(comparison.folder(*pair)) for pair in pairs[number + 1 :])
        if num_left and not has_others:
            minutes = num_left * sum(times) / len(times) / 60
            print(
                f"{num_left} runs are left: about {minutes:.0f} min.", file=sys.stderr, flush=True
            )
    return True


def left(comparison: Comparison) -> tuple[int, float]:
    """How many runs are not finished, and a guess from sizes of the seconds that they take."""
    pairs = [pair for pair in comparison.pairs if not is_finished(comparison.folder(*pair))]
    return len(pairs), costs.estimate_secs(comparison.run(*pair) for pair in pairs)


def is_finished(model_dir: str) -> bool:
    """Whether a run is trained and scored."""
    return (epath.Path(model_dir) / SCORES_FILE).exists()


def is_taken(model_dir: str) -> bool:
    """Whether another process is training or scoring a run."""
    try:
        run_lock.check_free(model_dir)
    except ValueError:
        return True
    return False


def read(model_dir: str) -> dict[str, Any]:
    """The scores of a finished run."""
    return files.read_json(epath.Path(model_dir) / SCORES_FILE)


def read_finished(folders: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The scores of those runs that are finished."""
    return {path: read(path) for path in folders if is_finished(path)}


def write(model_dir: str, scores: Mapping[str, Any]) -> None:
    """Writes the scores of a run, which is finished by that."""
    text = json.dumps(scores, allow_nan=False)
    files.write_text(epath.Path(model_dir) / SCORES_FILE, f"{text}\n")


def make(
    run: RunConfig,
    config_text: str,
    split: str | None,
    shared: Shared,
    others: Sequence[str] = (),
) -> bool:
    """Trains and scores a run, or what is left of it; False if a signal stopped it.

    `split` None scores nothing but what the training evaluated. ValueError before anything is
    trained if a finished one of the `others` read other data or another T5, or has other metrics.
    """
    depends_on: dict[str, Any] = {}

    def check(described: run_folder.RunFile) -> None:
        depends_on["settings"] = settings.of_run(run, split)
        depends_on["contents"] = settings.contents(run, described, split)
        if split is not None:
            depends_on["contents"] |= scoring.rehearse(run, split, shared)
        settings.check_contents(read_finished(others) | {run.model_dir: depends_on})

    result = training_run.train(run, config_text, shared, check)
    if not result.is_finished:
        return False
    with run_lock.held(run.model_dir):
        if not is_finished(run.model_dir):  # By another process, since it was trained.
            scores = _score(run, split, shared, result, depends_on)
            write(run.model_dir, scores)
    return True


def _score(
    run: RunConfig,
    split: str | None,
    shared: Shared,
    result: trainer.TrainResult,
    depends_on: Mapping[str, Any],
) -> dict[str, Any]:
    """The scores of a trained run, with what they depend on."""
    task_names = mixtures.resolve_task_names(run.data.mixture_or_task_name, run.data.task_names)
    model = run.model.for_tasks(task_names)
    partitioner = partitioning.make_partitioner(run.partitioning)
    step, value, params = _chosen(run, result)
    verbs = placed.Verbs(model, partitioner, run.max_target_len, run.evaluation.generation)
    found = placed.Placed(verbs, params, step, task_names, run.start.random_seed)
    report = shared.check_data(run, model)
    return {
        "seed": run.start.random_seed,
        **depends_on,
        "step": step,
        "chosen_value": value,
        "steps": int(result.state.step),
        "cut": _cut(report),
        **costs.of_run(run, model),
        "tasks": {} if split is None else scoring.score(run, split, found, shared),
    }


def _chosen(
    run: RunConfig, result: trainer.TrainResult
) -> tuple[int, float | None, Mapping[str, Any]]:
    """The best step, its value and its parameters; the last where nothing was chosen."""
    last, step = int(result.state.step), result.best_step
    if step is None:
        return last, None, result.params
    checkpoints = trainer.RunDirectory(run.model_dir).checkpoints()
    value = checkpoints.best_value()
    if step == last:
        return last, value, result.params
    _, frozen = trainable.split(result.params, run.trainable)
    best = checkpoints.load_trainable(result.state.trainable, step)
    return step, value, trainable.merge(best, frozen)


def _cut(report: Mapping[str, Any]) -> dict[str, list[int]]:
    """Of tasks with inputs that are cut: how many of how many, and the longest."""
    return {
        name: [task.num_truncated, task.num_checked, task.longest_inputs]
        for name, task in report.items()
        if task.num_truncated
    }
