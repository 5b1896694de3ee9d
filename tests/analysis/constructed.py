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
        features={"condition": features},
    )
