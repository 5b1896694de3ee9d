"""Time, FLOPs and memory of a train step: any experiment against plain T5, in one process.

    python -m benchmarks.train_step --gin_file=experiments/demo_hyperdecoder.gin
    python -m benchmarks.train_step --gin_file=experiments/glue/glue_manual_generated.gin \
        --topology=v5e:4x4

Tokens are input and target positions, padding included. Weights and batches are random. Benchmarks
are not installed: from outside the clone, add it to PYTHONPATH.
"""

from __future__ import annotations

import dataclasses

import jax

from benchmarks import measurement
from hyperdecoders_jax.data import text_table
from hyperdecoders_jax.training import optimizer, train_state, train_step
from hyperdecoders_jax.training import trainable as trainable_lib


def measure(experiment: measurement.Experiment, devices, num_calls: int):
    """Returns (number of trained parameters, number of all parameters, cost of a step)."""
    partitioner = measurement.make_partitioner(experiment, devices)
    model = experiment.model
    axes = model.param_axes()
    trainable, frozen = trainable_lib.split(model.param_shapes(), experiment.trainable)
    rate = experiment.schedule.make(experiment.num_train_steps)
    tx = optimizer.make_optimizer(experiment.optimizer, rate)

    def create(params):
        return train_state.create(params, tx, jax.random.key(0))

    state = jax.eval_shape(create, trainable)
    param_shardings = partitioner.param_shardings(trainable, axes)
    shardings = partitioner.state_shardings(state, tx, param_shardings)
    state = measurement.with_shardings(state, shardings)
    frozen = jax.eval_shape(lambda x: trainable_lib.cast_frozen(x, experiment.frozen_dtype), frozen)
    frozen = measurement.with_shardings(frozen, partitioner.param_shardings(frozen, axes))
    batch = measurement.batch_shapes(experiment, partitioner)
    step = train_step.make_train_step(
        model,
        tx,
        rate,
        num_microbatches=experiment.num_microbatches,
        state_shardings=shardings,
    )
    compiled, compile_secs = measurement.compile_for(step, state, frozen, batch)
    call_secs = None
    if devices is None:
        call_secs = _step_secs(
            compiled, *measurement.random_values((state, frozen, batch)), num_calls
        )
    cost = measurement.cost(compiled, compile_secs, call_secs)
    num_trained = measurement.num_parameters(trainable)
    return num_trained, num_trained + measurement.num_parameters(frozen), cost


def _step_secs(compiled, state, frozen, batch, num_calls: int) -> float:
    def step():
        # The step donates its state, so each call must be given the state of the one before.
        nonlocal state
        state, metrics = compiled(state, frozen, batch)
        return metrics["loss"]

    return measurement.median_secs(step, num_calls)


def main() -> None:
    """Prints one row for the experiment and one for each baseline."""
    experiment, devices, args = measurement.parse_arguments(__doc__.splitlines()[0])
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
