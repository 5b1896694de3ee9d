"""What a person is told of a run before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hyperdecoders_jax.data import mixtures
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.trained import start
from hyperdecoders_jax.training import schedules, trainable
from hyperdecoders_jax.types import Params

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig
    from hyperdecoders_jax.data.preflight import TaskReport
    from hyperdecoders_jax.training.partitioning import Partitioner


def summarize(
    run: RunConfig,
    model: Model,
    trained: Params,
    partitioner: Partitioner,
    report: Mapping[str, TaskReport],
) -> str:
    """Lines on data, decoding, parameters and devices."""
    generation = run.evaluation.generation or {}
    lines = [mixtures.format_mixing_table({name: task.mixing for name, task in report.items()})]
    for name, task in report.items():
        if task.num_truncated:
            lines.append(
                f"{name}: {task.num_truncated} of its first {task.num_checked} inputs are longer "
                f"than their length and are cut; the longest has {task.longest_inputs} tokens."
            )
    data = run.data
    if data.pack:
        rows, row_lengths = data.batch_size, data.packed_lengths
        lines.append(
            f"Packed: a step has {rows} rows of {row_lengths['inputs']} + {row_lengths['targets']} "
            f"tokens, each of up to {data.max_segments} examples."
        )
    for name in sorted(report.keys() & generation):
        max_len, num_beams = generation[name]
        lines.append(f"{name}: texts of at most {max_len} tokens, beams: {num_beams}.")
    source = start.source_of(run.start.initial_checkpoint_path, run.start.random_seed)
    count, total = trainable.num_parameters(trained), trainable.num_parameters(model.param_shapes())
    lines.append(
        f"{count:,} of {total:,} parameters are trained ({count / total:.2%}); "
        f"the others are from {source}."
        if count < total
        else f"All {total:,} parameters are trained, starting from {source}."
    )
    warmup, num_steps = getattr(run.schedule, "warmup_steps", 0), run.trainer.num_train_steps
    if warmup >= num_steps and not isinstance(run.schedule, schedules.InverseSquareRootConfig):
        lines.append(
            f"Mind: WARMUP_STEPS = {warmup} of TRAIN_STEPS = {num_steps}: the learning rate rises "
            f"until the end and never reaches {run.schedule.learning_rate:g}. Set WARMUP_STEPS "
            "lower."
        )
    shape = " x ".join(f"{size} {name}" for name, size in partitioner.mesh.shape.items())
    kind = partitioner.mesh.devices.flat[0].device_kind
    lines.append(f"Devices: {shape} ({kind}).")
    return "\n".join(lines)
