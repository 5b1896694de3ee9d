"""One step of decoding, a token for each hypothesis, on a described TPU chip; needs no TPU.

    python -m benchmarks.decode_step --gin_file=experiments/glue/glue_manual_generated.gin \
        --gin_file=models/t5_1_1_base.gin --topology=v5e:2x2 --beams=4 --gin.DTYPE=bfloat16 \
        --gin.BATCH_SIZE=8

Compares the experiment and plain T5 with T5X's own model, where T5X is installed. Here hypotheses
share the keys and values of cross-attention; T5X's repeats the encoder's output for each, and
computes them from it at each step. Cycles are the compiler's estimates, of one chip.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import measurement
from hyperdecoders_jax.data import text_table
from hyperdecoders_jax.installed import t5x_install
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.planning import program_text

_NETWORK = "t5x.examples.t5.network"
_HEADER = ("", "million cycles", "GB moved", "peak MiB", "compile s")


def our_step(model: Model, batch: Any, num_beams: int, max_len: int) -> tuple[Callable, tuple]:
    """Our decoder's step, and the shapes of its arguments."""
    params, rows = model.param_shapes(), batch.encoder_input_tokens.shape[0]

    def apply(params, method):
        return model.module.apply({"params": params}, method=method)

    def make_cache(params):
        return apply(params, lambda module: module.make_cache(rows, num_beams, max_len))

    def step(params, cache, context, tokens, index):
        return apply(params, lambda module: module.decode_step(context, tokens, cache, index))

    context = jax.eval_shape(model.context, params, batch)
    tokens = jax.ShapeDtypeStruct((rows, num_beams), jnp.int32)
    index = jax.ShapeDtypeStruct((), jnp.int32)
    return step, (params, jax.eval_shape(make_cache, params), context, tokens, index)


def their_step(model: Model, batch: Any, num_beams: int, max_len: int) -> tuple[Callable, tuple]:
    """The step of T5X's own model, without what adapts it."""
    network = importlib.import_module(_NETWORK)
    sizes = "vocab_size emb_dim num_heads num_encoder_layers num_decoder_layers head_dim mlp_dim"
    sizes = {name: getattr(model.config, name) for name in sizes.split()}
    activations = tuple(model.config.mlp_activations)
    tied = model.config.logits_via_embedding
    config = network.T5Config(
        **sizes, mlp_activations=activations, logits_via_embedding=tied, dtype=model.config.dtype
    )
    module = network.Transformer(config)
    rows, length = batch.encoder_input_tokens.shape
    inputs = jax.ShapeDtypeStruct((rows * num_beams, length), jnp.int32)
    targets = jax.ShapeDtypeStruct((rows * num_beams, max_len), jnp.int32)

    def init(inputs, targets):
        options = {"decode": True, "enable_dropout": False}
        return module.init(jax.random.key(0), inputs, targets, targets, **options)

    def step(params, cache, encoded, inputs, tokens):
        variables = {"params": params, "cache": cache}
        options = {"decode": True, "enable_dropout": False, "max_decode_length": max_len}
        arguments = (encoded, inputs, tokens, tokens)
        return module.apply(
            variables, *arguments, **options, mutable=["cache"], method=module.decode
        )

    made = jax.eval_shape(init, inputs, targets)
    encoded = jax.ShapeDtypeStruct((*inputs.shape, config.emb_dim), config.dtype)
    tokens = jax.ShapeDtypeStruct((rows * num_beams, 1), jnp.int32)
    return step, (made["params"], made["cache"], encoded, inputs, tokens)


def measure(step: Callable, shapes: tuple, device: jax.Device) -> list[str]:
    """The cells of a compiled step."""
    sharding = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes
    )
    # The cache is extended in place, as in a loop.
    compiled, secs = measurement.compile_for(jax.jit(step, donate_argnums=1), *shapes)
    cycles = sum(program_text.count_cycles(compiled.as_text()).values())
    return [f"{cycles / 1e6:.3f}", *measurement.memory_cells(compiled, secs)]


def main() -> None:
    """Prints a row for each model."""
    options = {"--beams": {"type": int, "default": 4, "help": "hypotheses of an example"}}
    description = __doc__.splitlines()[0]
    is_installed = not t5x_install.missing()
    if is_installed:  # Before gin files are read, after which gin takes no more of its classes.
        importlib.import_module(_NETWORK)
    experiment, devices, args = measurement.parse_arguments(description, None, options)
    if devices is None:
        raise SystemExit("A chip must be named: --topology=v5e:2x2")
    lengths = experiment.task_feature_lengths
    partitioner = measurement.make_partitioner(experiment, devices[:1])
    batch = measurement.batch_shapes(experiment, partitioner)
    plain = experiment.without_adapters().model
    steps = {"this experiment": (our_step, experiment.model), "plain T5, here": (our_step, plain)}
    if is_installed:
        steps["plain T5, T5X's model"] = (their_step, plain)
    rows = []
    for name, (make, model) in steps.items():
        step, shapes = make(model, batch, args.beams, lengths["targets"])
        rows.append([name, *measure(step, shapes, devices[0])])
    sizes = f"{experiment.batch_size} examples, {args.beams} beams, {dict(lengths)}"
    print(f"one step of decoding, {sizes}, {devices[0].device_kind}")
    print(text_table.align([_HEADER, *rows]))


if __name__ == "__main__":
    main()
