"""A train step as the TPU compiler sees it, for choices of how to compute it; needs no TPU.

    python -m benchmarks.tpu --gin_file=experiments/glue/glue_manual_generated.gin \
        --topology=v5e:2x2 --layers=2,1 --gin.DTYPE=bfloat16 --compute= \
        --compute=dropout=broadcast --compute=dropout=broadcast,attention_heads=2

Each `--compute` is a row: fields of `ComputeConfig`, the others at their defaults; an empty one is
the original's way. Without any there is one row, the experiment's own choices. `--layers` cuts the
model, so that compiling takes a minute. Cycles are the compiler's estimates in millions, per chip
and step, by part of the model (`hyperdecoders_jax.planning.program_text`). `--collectives` prints
what chips send each other, too.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import re
from collections.abc import Sequence

from benchmarks import measurement, train_step
from hyperdecoders_jax.data import text_table
from hyperdecoders_jax.modeling.compute import ComputeConfig
from hyperdecoders_jax.planning import program_text


def read_choices(text: str) -> ComputeConfig:
    """A `ComputeConfig` from a flag's value.

    >>> read_choices("dropout=broadcast,attention_heads=4").attention_heads
    4
    """

    def value(word):
        try:
            return ast.literal_eval(word)
        except ValueError:
            return word  # A string without quotes.

    pairs = (pair.split("=", 1) for pair in text.split(",") if pair)
    return ComputeConfig(**{name: value(word) for name, word in pairs})


def cut(experiment: measurement.Experiment, layers: str | None, choices: str | None):
    """The experiment with so many layers, "ENCODER,DECODER", computed so; None: as its own."""
    changes = {} if choices is None else {"compute": read_choices(choices)}
    if layers is not None:
        encoder, decoder = map(int, layers.split(","))
        changes |= {"num_encoder_layers": encoder, "num_decoder_layers": decoder}
    config = dataclasses.replace(experiment.model.config, **changes)
    model = dataclasses.replace(experiment.model, config=config)
    return dataclasses.replace(experiment, model=model)


def row(name: str, compiled, secs: float) -> list[str]:
    """The cells of one compiled step."""
    parts = program_text.count_cycles(compiled.as_text())
    return [
        name,
        *(f"{x / 1e6:.2f}" for x in (sum(parts.values()), *parts.values())),
        f"{measurement.cost(compiled, secs, None).gflops:,.0f}",
        *measurement.memory_cells(compiled, secs),
    ]


def collectives(text: str) -> list[tuple[str, ...]]:
    """Rows of what a program's chips send, by kind and operation, most bytes first.

    Operations of the backward pass begin with "transpose"; all layers of a stack are one.
    """
    found = collections.defaultdict(list)
    for (kind, name), collective in program_text.list_collectives(text):
        place = re.sub(r"_\d+", "_*", name).replace("jit(train_step)/", "")
        found[kind, place.replace("Transformer.states/", "")].append(collective)
    sums = {key: tuple(map(sum, zip(*rows, strict=True))) for key, rows in found.items()}
    ordered = sorted(sums.items(), key=lambda item: -item[1][1])
    return [
        (f"{count:,.0f}", f"{num_bytes / 1e6:,.2f}", *key) for key, (count, num_bytes) in ordered
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    options = {
        "--compute": {"action": "append", "help": "a row: fields of ComputeConfig, by commas"},
        "--layers": {"help": "layers of the encoder and of the decoder, such as 2,1"},
        "--collectives": {"action": "store_true", "help": "also list what chips send each other"},
    }
    description = __doc__.splitlines()[0]
    experiment, devices, args = measurement.parse_arguments(description, arguments, options)
    header = ("", "all", *program_text.PARTS, "other", "GFLOP", "GB moved", "peak MiB", "compile s")
    rows = []
    for text in args.compute or [None]:
        compiled, secs, *_ = train_step.compile_step(cut(experiment, args.layers, text), devices)
        name = "the experiment's" if text is None else text or "defaults"
        rows.append(row(name, compiled, secs))
        if args.collectives:
            print(name)
            header_of_sent = ("count", "MB sent", "collective", "operation")
            print(text_table.align([header_of_sent, *collectives(compiled.as_text())]), "\n")
    print(text_table.align([header, *rows]))


if __name__ == "__main__":
    main()
