"""Time, FLOPs and memory of decoding a batch: any experiment against plain T5, in one process.

    python -m benchmarks.decode --gin_file=experiments/demo_hyperdecoder.gin

Every text is decoded to its full length: `min_len` forbids an earlier end, so the work does not
depend on the random weights. Tokens per second count generated tokens of the returned texts. XLA
counts the FLOPs of a loop's body once, however often it runs.
"""

from __future__ import annotations

import dataclasses

import jax

from benchmarks import measurement
from hyperdecoders_jax.data import text_table
from hyperdecoders_jax.planning import programs


def measure(experiment: measurement.Experiment, devices, num_calls: int):
    """Returns (number of parameters, cost of decoding a batch)."""
    partitioner = measurement.make_partitioner(experiment, devices)
    max_len = experiment.task_feature_lengths["targets"]
    decoding = dataclasses.replace(experiment.model.decoding, min_len=max_len)
    model = dataclasses.replace(experiment.model, decoding=decoding)
    shapes = model.param_shapes()
    shardings = partitioner.param_shardings(shapes, model.param_axes())
    params = programs.with_shardings(shapes, shardings)
    batch = measurement.batch_shapes(experiment, partitioner)
    key = jax.random.key(0)

    @jax.jit
    def predict(params, batch):
        return model.predict(params, batch, key, max_len=max_len)

    compiled, compile_secs = measurement.compile_for(predict, params, batch)
    call_secs = None
    if devices is None:
        values = measurement.random_values((params, batch))
        call_secs = measurement.median_secs(lambda: compiled(*values), num_calls)
    cost = measurement.cost(compiled, compile_secs, call_secs)
    return measurement.num_parameters(shapes), cost


def main() -> None:
    """Prints one row for the experiment and one for plain T5."""
    experiment, devices, args = measurement.parse_arguments(__doc__.splitlines()[0])
    variants = {"plain T5": experiment.without_adapters(), "this experiment": experiment}
    found = {name: measure(variant, devices, args.num_calls) for name, variant in variants.items()}
    baseline = found["plain T5"][1]
    examples, lengths = experiment.batch_size, experiment.task_feature_lengths
    tokens = examples * lengths["targets"]
    rows = [
        [name, f"{total:,}", *measurement.format_cost(cost, baseline, examples, tokens)]
        for name, (total, cost) in found.items()
    ]
    device = (devices or jax.devices())[0].device_kind
    print(f"decoding, batch {examples}, {dict(lengths)}, {experiment.model.decoding}, {device}")
    print(text_table.align([("", "parameters", *measurement.COST_HEADER), *rows]))


if __name__ == "__main__":
    main()
