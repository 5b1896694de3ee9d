"""What a method costs: parameters by stack, bytes of a checkpoint, time and FLOPs."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperdecoders_jax.data import mixtures
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.planning import flops
from hyperdecoders_jax.study import curves
from hyperdecoders_jax.training import optimizer, trainable

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig

# Of the speed of a large matrix product, what a training step reaches: of the demo's T5 on two
# cores. A first guess; what is left is told from the runs that were made.
_EFFICIENCY = 0.15
_OVERHEAD_SECS = 25.0  # Of a run: reading, compiling, evaluating.


def of_run(run: RunConfig, model: Model) -> dict[str, Any]:
    """Costs of a run that has been trained, as JSON."""
    trained, _ = trainable.split(model.param_shapes(), run.trainable)
    counts = {key: trainable.num_parameters(part) for key, part in sorted(trained.items())}
    lines = curves.read(run.model_dir)
    secs = [1 / line["steps_per_sec"] for line in lines if "steps_per_sec" in line]
    # Of packed rows, whose examples are counted as they are packed.
    counted = [line["examples_per_step"] for line in lines if "examples_per_step" in line]
    return {
        "batch_size": counted[-1] if counted else run.data.batch_size,
        "parameters": counts,
        "checkpoint_bytes": sum(optimizer.checkpoint_bytes(trained, run.optimizer)),
        "secs_per_step": float(np.mean(secs)) if secs else None,
        "flops_per_example": flops.of_example(model, run.trainable, *_lengths(run)),
    }


def _lengths(run: RunConfig) -> tuple[int, int]:
    lengths = run.data.task_feature_lengths
    return lengths["inputs"], lengths["targets"]


def estimate_secs(runs: Iterable[RunConfig]) -> float:
    """A rough guess of how long training takes, from sizes and this machine's matrix product."""
    speed = _matmul_speed() * _EFFICIENCY
    return sum(
        _OVERHEAD_SECS + _step_flops(run) * run.trainer.num_train_steps / speed for run in runs
    )


def _step_flops(run: RunConfig) -> float:
    """Two FLOPs a weight and token forward, two backward, two more for the gradient of a weight."""
    task_names = mixtures.resolve_task_names(run.data.mixture_or_task_name, run.data.task_names)
    shapes = run.model.for_tasks(task_names).param_shapes()
    trained, frozen = trainable.split(shapes, run.trainable)
    tokens = dict(zip(("encoder", "decoder"), _lengths(run), strict=True))
    total = 0.0
    for part, weight_flops in ((trained, 6), (frozen, 4)):
        for key, tree in part.items():
            # The embedding is a look-up; its product with the outputs is the decoder's.
            side = "encoder" if key.startswith("encoder") else "decoder"
            total += weight_flops * trainable.num_parameters(tree) * tokens[side]
    return total * (run.data.examples_per_step or run.data.batch_size)


@functools.cache
def _matmul_speed(size: int = 1024) -> float:
    """FLOPs a second of a square product on the first device."""
    x = jnp.ones((size, size))
    multiply = jax.jit(jnp.matmul)
    multiply(x, x).block_until_ready()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        multiply(x, x).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)
