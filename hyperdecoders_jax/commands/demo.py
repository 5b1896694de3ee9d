"""`hyperdecoders demo`: a comparison of a single adapter and a Hyperdecoder on six small tasks.

A call of `hyperdecoders compare` on experiments that ship with the package, as its T5 does: three
seeds, the same batches, as many trained parameters. Other methods: `make demo METHODS="hypergrid"`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from hyperdecoders_jax.commands import flags, main

SUMMARY = "compare methods on six small tasks that ship with the package"
TAKES_GIN = True

# Methods, each the experiment demo_METHOD.
METHODS = ("single_adapter", "hyperdecoder", "hypergrid", "hypergrid_all_weights")
DEFAULT_METHODS = METHODS[:2]
SEEDS = "1-3"
PRETRAINING = "demo_pretrain"
# Fewer steps than the experiments have, so that six runs take less than six minutes.
MACROS = ("TRAIN_STEPS=250", "LOG_PERIOD=20", "EVAL_PERIOD=None", "CHECKPOINT_PERIOD=None")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    text = "folder of the comparison; what it holds is continued (default: demo_runs)"
    parser.add_argument("--output", default="demo_runs", metavar="FOLDER", help=text)
    text = f"what is compared, the first the baseline (default: {' '.join(DEFAULT_METHODS)})"
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=DEFAULT_METHODS, help=text)
    text = "make the T5 instead, and write it here (default: the T5 that ships)"
    parser.add_argument("--pretrain", metavar="FILE", help=text)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the demo; returns the exit code."""
    gin_flags = [
        f"{name}={value}" if name == flags.RAW_BINDING else f"--gin.{name}={value}"
        for name, value in gin_flags
    ]
    if args.pretrain is not None:
        return pretrain(os.path.join(args.output, PRETRAINING), args.pretrain, gin_flags)
    code = main.main(comparison(args.output, args.methods, gin_flags))
    last = os.path.join(args.output, args.methods[-1], f"seed-{SEEDS[0]}")
    if not code and os.path.exists(os.path.join(args.output, "table.txt")):
        # `make demo` runs in an environment that its user has not activated.
        program = os.path.join(os.path.dirname(sys.executable), "hyperdecoders")
        program = os.path.relpath(program) if program.startswith(os.getcwd()) else "hyperdecoders"
        print(
            f"\nAsk a model yourself, or see what adapts its examples:\n"
            f'  echo "relation: happy | unhappy" | {program} infer --input=- --model_dir={last}\n'
            f"  {program} analyze --checkpoint={last} --output={args.output}/analysis"
        )
    return code


def comparison(output: str, methods: Sequence[str], gin_flags: Sequence[str] = ()) -> list[str]:
    """The command line of the demo's comparison."""
    chosen = [f"--method={name}=experiments/demo_{name}.gin" for name in methods]
    # Nothing is chosen: the last checkpoint counts.
    own = [f"--seeds={SEEDS}", "--select_on=none", f"--output={output}"]
    return ["compare", *chosen, *own, *(f"--gin.{macro}" for macro in MACROS), *gin_flags]


def pretrain(model_dir: str, path: str, gin_flags: Sequence[str] = ()) -> int:
    """Trains the demo's T5 from random weights, or continues to; writes it as bfloat16."""
    own = [f"--gin_file=experiments/{PRETRAINING}.gin", f"--model_dir={model_dir}"]
    code = main.main(["train", *own, *gin_flags])
    if code:
        return code
    write_backbone(model_dir, path)
    print(f"Wrote {path}.")
    return 0


def write_backbone(model_dir: str, path: str) -> None:
    """Writes the last checkpoint of a run that trained all of T5, as bfloat16 safetensors."""
    from hyperdecoders_jax.weights import backbone, conversion, formats, trained_model

    trained = conversion.cast(formats.read(model_dir, formats.RUN, step="last"), "bfloat16")
    step = trained.description.step
    metadata = {
        "made_by": f"gin_configs/experiments/{PRETRAINING}.gin, step {step}",
        trained_model.VOCABULARY_KEY: trained.description.vocabulary.fingerprint,
    }
    backbone.save(path, trained.params(), metadata)


if __name__ == "__main__":
    main.leave(main.main(["demo", *sys.argv[1:]]))
