"""Time, FLOPs and memory of a train step: any experiment against plain T5, in one process.

    python -m benchmarks.train_step --gin_file=experiments/demo_hyperdecoder.gin
    python -m benchmarks.train_step --gin_file=experiments/glue/glue_manual_generated.gin \
        --topology=v5e:4x4

Tokens are input and target positions, padding included. Weights and batches are random. Benchmarks
are not installed: from outside the clone, add it to PYTHONPATH.

`--pack` compares the experiment's step, an example in each row, with one of packed rows that hold
as many examples: those of the experiment's own data, or made ones of the lengths that
`--pack_lengths` names, such as `45x3,60x2@3`: the mean tokens of each task's inputs and targets,
and `@` how many examples it has, in proportion to the others.
"""

from __future__ import annotations

import dataclasses

import jax
import optax

from benchmarks import measurement, packed
from hyperdecoders_jax.data import text_table
from hyperdecoders_jax.planning import programs
from hyperdecoders_jax.training import optimizer, trainer
from hyperdecoders_jax.training import trainable as trainable_lib


def compile_step(experiment: measurement.Experiment, devices, batch=None):
    """Returns (the compiled step, seconds to compile it, its arguments' shapes, the partitioner).

    The `batch` has one example in each row, unless it is given as numpy arrays.
    """
    partitioner = measurement.make_partitioner(experiment, devices)
    if batch is None:
        batch = measurement.batch_shapes(experiment, partitioner)
    else:
        sharding = partitioner.batch_sharding
        batch = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), batch
        )
    config = trainer.TrainerConfig(
        experiment.num_train_steps, num_microbatches=experiment.num_microbatches
    )
    recipe = trainer.TrainingRecipe(
        experiment.model, experiment.optimizer, experiment.schedule, config
    )
    lowered = programs.train_step(
        recipe, experiment.trainable, experiment.frozen_dtype, partitioner, batch
    )
    return *lowered.compile(), lowered.shapes, partitioner


def measure(experiment: measurement.Experiment, devices, num_calls: int, batch=None):
    """Returns (number of trained parameters, number of all parameters, cost of a step)."""
    compiled, compile_secs, shapes, partitioner = compile_step(experiment, devices, batch)
    call_secs = None
    if devices is None:
        state, frozen, drawn = measurement.random_values(shapes)
        if batch is not None:
            drawn = partitioner.put_batch(batch)
        call_secs = _step_secs(compiled, state, frozen, drawn, num_calls)
    cost = measurement.cost(compiled, compile_secs, call_secs)
    if (count := experiment.num_microbatches) > 1:
        # XLA counts the body of a loop once; only the update is not in it.
        update = _update_gflops(_make_optimizer(experiment), shapes[0])
        cost = dataclasses.replace(cost, gflops=count * (cost.gflops - update) + update)
    trained, frozen = (measurement.num_parameters(x) for x in (shapes[0].trainable, shapes[1]))
    return trained, trained + frozen, cost


def _make_optimizer(experiment: measurement.Experiment):
    rate = experiment.schedule.make(experiment.num_train_steps)
    return optimizer.make_optimizer(experiment.optimizer, rate)


def _update_gflops(tx, state) -> float:
    """GFLOPs of the optimizer's update on one device."""

    def update(grads, opt_state, trainable):
        updates, opt_state = tx.update(grads, opt_state, trainable)
        return optax.apply_updates(trainable, updates), opt_state

    grads = state.trainable
    compiled, secs = measurement.compile_for(
        jax.jit(update), grads, state.opt_state, state.trainable
    )
    return measurement.cost(compiled, secs, None).gflops


def _step_secs(compiled, state, frozen, batch, num_calls: int) -> float:
    def step():
        # The step donates its state, so each call must be given the state of the one before.
        nonlocal state
        state, metrics = compiled(state, frozen, batch)
        return metrics["loss"]

    return measurement.median_secs(step, num_calls)


def compare_packed(experiment: measurement.Experiment, devices, args) -> str:
    """A table of the same examples in rows of their own and packed."""
    data = experiment.data()
    draw, task_names = packed.make_reader(data, args.pack_lengths)
    model = experiment.model.for_tasks(task_names)
    experiment = dataclasses.replace(experiment, model=model)
    num_data = measurement.make_partitioner(experiment, devices).num_data
    wanted = (experiment.batch_size, num_data * experiment.num_microbatches)
    batch, num_examples, fill = packed.make_batch(data, *wanted, draw)
    found = {
        "a row each": (experiment.batch_size, None),
        f"packed, fill {fill:.2f}": (num_examples, batch),
    }
    rows, baseline = [], None
    for name, (count, values) in found.items():
        *_, cost = measure(experiment, devices, args.num_calls, values)
        secs = None if cost.call_secs is None else cost.call_secs / count
        per_example = (cost.gflops / count, secs)
        baseline = baseline or per_example
        num_rows = count if values is None else len(values.task_ids)
        rate, faster = ("-", "-") if secs is None else (f"{1 / secs:,.1f}", baseline[1] / secs)
        rows.append((
            name, str(num_rows), str(count), rate, faster if secs is None else f"{faster:.2f}",
            f"{per_example[0]:,.2f}", f"{per_example[0] / baseline[0]:.2f}",
            f"{cost.peak_bytes / 2**20:,.0f}", f"{cost.compile_secs:.1f}",
        ))  # fmt: skip
    header = ("", "rows", "examples", "examples/s", "faster", "GFLOP/example", "ratio")
    return text_table.align([(*header, "peak MiB/device", "compile s"), *rows])


def main() -> None:
    """Prints one row for the experiment and one for each baseline."""
    options = {
        "--pack": {"action": "store_true", "help": "compare with packed rows"},
        "--pack_lengths": {
            "help": "mean tokens of made examples, INPUTSxTARGETS@SIZE,… of each task"
        },
    }
    experiment, devices, args = measurement.parse_arguments(
        __doc__.splitlines()[0], options=options
    )
    if args.pack:
        print(compare_packed(experiment, devices, args))
        return
    plain = experiment.without_adapters()
    # Only layer norms are trained: the cost of a backward pass through a frozen backbone, which is
    # a lower bound for any adapter.
    frozen = dataclasses.replace(plain, trainable=trainable_lib.TrainableConfig(layer_norms=True))
    variants = {
        "plain T5, all trained": plain,
        "plain T5, layer norms trained": frozen,
        "this experiment": experiment,
    }
    found = {name: measure(variant, devices, args.num_calls) for name, variant in variants.items()}
    baseline = found["plain T5, all trained"][2]
    examples = experiment.batch_size
    tokens = examples * sum(experiment.task_feature_lengths.values())
    rows = [
        [
            name,
            f"{trained:,}",
            f"{total:,}",
            *measurement.format_cost(cost, baseline, examples, tokens),
        ]
        for name, (trained, total, cost) in found.items()
    ]
    device = (devices or jax.devices())[0].device_kind
    print(f"train step, batch {examples}, {dict(experiment.task_feature_lengths)}, {device}")
    header = ("", "trained", "parameters", *measurement.COST_HEADER)
    print(text_table.align([header, *rows]))


if __name__ == "__main__":
    main()
