"""Finished runs that nobody trained: scores and metrics of a comparison, as files."""

import json

import numpy as np

from hyperdecoders_jax.study import runs
from hyperdecoders_jax.study.comparison import Comparison
from hyperdecoders_jax.training.trainer import TrainerConfig
from tests.commands import tiny_runs

NUM_EXAMPLES = 40
TASKS = {"demo_topic": ("accuracy",), "demo_find": ("em", "f1")}


def make_run(**fields):
    fields = {"trainer": TrainerConfig(num_train_steps=40)} | fields
    return tiny_runs.make_config("validation", **fields)


def make_comparison(output, seeds=(1, 2, 3), **options):
    """A comparison of two methods on the demo's tasks."""
    methods = {"adapter": make_run(), "hyperdecoder": make_run()}
    return Comparison(methods, seeds, str(output), **options)


def write_runs(comparison, gains=(0.0, 30.0), losses=(2.0, 1.0)):
    """Writes runs whose last method is better in `demo_find` alone; returns the comparison."""
    for (name, seed), number in zip(comparison.pairs, range(100), strict=False):
        index = list(comparison.methods).index(name)
        rng = np.random.default_rng(number)
        tasks = {}
        for task, metrics in TASKS.items():
            gain = gains[index] if task == "demo_find" else 0.0
            scores = {x: (40 + gain + 20 * rng.normal(size=NUM_EXAMPLES)).tolist() for x in metrics}
            values = {x: float(np.mean(scores[x])) for x in metrics}
            tasks[task] = {"num_examples": NUM_EXAMPLES, "metrics": values, "scores": scores}
        folder = comparison.folder(name, seed)
        write_scores(folder, tasks, seed)
        lines = [
            {"step": step, "kind": "train", "loss_per_token": losses[0] + losses[1] / step}
            for step in range(1, 41)
        ]
        values = {10: 50.0, 20: 60.0 + seed, 40: 60.0 + seed - 5 * index}
        lines += [{"step": s, "kind": "average", "task_average": v} for s, v in values.items()]
        with open(f"{folder}/metrics.jsonl", "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    return comparison


def write_scores(folder, tasks, seed=1, **fields):
    import pathlib

    pathlib.Path(folder).mkdir(parents=True)
    scores = {
        "seed": seed, "step": 40, "chosen_value": 60.0, "steps": 40, "batch_size": 4,
        "cut": {"demo_topic": [3, 64, 41]}, "parameters": {"decoder_adapters": 7, "encoder": 5},
        "checkpoint_bytes": 144, "secs_per_step": 0.5, "flops_per_example": 2e6, "tasks": tasks,
    } | fields  # fmt: skip
    (pathlib.Path(folder) / runs.SCORES_FILE).write_text(json.dumps(scores))


def floors(task, split):
    """Floors, one of which wins in a task."""
    return {"majority": {"accuracy": 99.0} if task == "demo_topic" else {"em": 1.0, "f1": 2.0}}
