"""An analysis of examples that never were: small, and known."""

import numpy as np

from hyperdecoders_jax.analysis import results


def make_examples(num=12, dim=7, tasks=("cola", "rte", "squad"), seed=0):
    """Examples whose condition lies around one centre for each task."""
    rng = np.random.default_rng(seed)
    task_ids = np.arange(num) % len(tasks)
    centres = 9.0 * rng.normal(size=(len(tasks), dim))
    features = (centres[task_ids] + rng.normal(size=(num, dim))).astype(np.float32)
    kinds = ["span" if tasks[i] == "squad" else "class label" for i in task_ids]
    return results.Examples(
        ids=[f"{tasks[i]}-{row}" for row, i in enumerate(task_ids)],
        tasks=[tasks[i] for i in task_ids],
        inputs=[f"question {row}" for row in range(num)],
        targets=[("no", "yes")[row % 2] for row in range(num)],
        predictions=["no"] * num,
        is_correct=np.arange(num) % 2 == 0,
        output_types=kinds,
        groups=[f"example {row}" for row in range(num)],
        features={"condition": features},
    )


def make_tables(tasks=("cola", "rte"), num_layers=3):
    """Probes, ablations and variances that could be of such examples."""
    probes = [
        results.Probe("condition", *what, score, score - low, score + low, shuffled, 40)
        for what, score, low, shuffled in [
            (("task", None, "linear probe"), 91.0, 4.0, 33.0),
            (("task", None, "silhouette"), 0.25, 0.05, -0.02),
            (("label", "rte", "linear probe"), 62.5, 9.5, 50.0),
        ]
    ]
    ablations = [
        results.Ablation(
            task, condition, "accuracy", 80.0 + difference, difference, low, high, changed, 40
        )
        for task in tasks
        for condition, difference, low, high, changed in [
            ("own", 0.0, 0.0, 0.0, 0),
            ("mean of the task", -1.5, -3.5, 0.5, 4),
            ("zero", -20.0, -24.0, -16.0, 31),
        ]
    ]
    variances = [
        results.Variance(side, layer, 0.5, 0.125, 0.375)
        for side in ("encoder", "decoder")
        for layer in range(num_layers)
    ]
    return probes, ablations, variances


def make_study(examples, tables=((), (), ())):
    """A study of such examples with these probes, ablations and variances."""
    return results.Study(examples, [], *tables, readers=(), step=0)
