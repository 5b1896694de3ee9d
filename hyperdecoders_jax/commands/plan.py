"""`hyperdecoders plan`: an experiment on TPU slices, before one is rented.

    hyperdecoders plan --gin_file=experiments/glue/glue_manual_generated.gin \
      --gin_file=runs/tpu.gin --topology=v5e:2x2,v6e:2x2 --model_parallel=1,2 --fast

The train step of the run (or its decoding) is compiled by the TPU's compiler, libtpu, from shapes.
Seconds are the compiler's estimate, not a measurement; see docs/tpu.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hyperdecoders_jax import errors
from hyperdecoders_jax.commands import configured, flags, main

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig
    from hyperdecoders_jax.planning.estimate import Estimate

SUMMARY = "say what an experiment needs on TPU slices: memory, time, cost; needs no TPU"
EPILOG = flags.EPILOG
TAKES_GIN = True
TRAIN, INFER = "train", "infer"
# Nothing is written or read; these have no default.
_BINDINGS = ("MODEL_DIR = None", "INITIAL_CHECKPOINT_PATH = None")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_run(parser)
    for action in parser._actions:  # So that a training command's line is taken as it is.
        if action.dest in (*flags.PROCESS_FLAGS, "tfds_data_dir", "data_dir"):
            action.help = argparse.SUPPRESS
    text = "slices, separated by commas: v5e:2x2,v5p:2x2x1,v6e:2x2"
    parser.add_argument("--topology", required=True, metavar="SLICES", help=text)
    text = "a size of gin_configs/models, such as t5_1_1_xl (default: the experiment's)"
    parser.add_argument("--model", metavar="NAME", help=text)
    text = "MODEL_PARALLEL to try: 1,2,4 (default: the run's)"
    parser.add_argument("--model_parallel", default="", metavar="NUMBERS", help=text)
    text = "NUM_MICROBATCHES to try (default: the run's)"
    parser.add_argument("--micro_batches", default="", metavar="NUMBERS", help=text)
    text = "REMAT to try: none,attention,dots,layer (default: the run's)"
    parser.add_argument("--remat", default="", metavar="NAMES", help=text)
    text = "what a chip costs an hour: 1.20, or v5e=1.20,v5p=4.20 (default: prints chip-hours)"
    parser.add_argument("--price", metavar="PRICE", help=text)
    text = "packed rows of a step, where EXAMPLES_PER_STEP is set (no default)"
    parser.add_argument("--rows", type=int, metavar="COUNT", help=text)
    text = "compile two and four layers, from which the numbers of the whole model follow"
    parser.add_argument("--fast", action="store_true", help=text)
    text = "what is to run: the train step (the default), or the decoding of an evaluation's batch"
    parser.add_argument("--for", dest="purpose", choices=(TRAIN, INFER), default=TRAIN, help=text)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    # Before JAX starts: the chips are described, and an attached one may be another process's.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    _check(args)
    options = {
        "topologies": parse_list("--topology", args.topology),
        "model_parallel": parse_list("--model_parallel", args.model_parallel, int),
        "num_microbatches": parse_list("--micro_batches", args.micro_batches, int),
        "remat": parse_list("--remat", args.remat),
        "num_rows": args.rows,
        "is_fast": args.fast,
        "is_for_training": args.purpose == TRAIN,
    }
    if args.model is not None:
        args.gin_file = [*args.gin_file, _model_file(args.model)]
    given = configured.sources(args, gin_flags, bindings=_BINDINGS)
    given = given.first("runs/embedded/train.gin")

    def train():
        from hyperdecoders_jax.commands import train

        return train.train

    configured.bind(args, given, train)
    import gin

    from hyperdecoders_jax.config import run_config

    made = gin.get_configurable(run_config.RunConfig)()
    return plan(made, price=args.price, is_json=args.json, **options)


def _check(args: argparse.Namespace) -> None:
    """Checks flags that only a plan has; raises UsageError."""
    if not parse_list("--topology", args.topology):
        raise errors.UsageError(
            f"--topology must name slices; got {args.topology!r}. Write --topology=v5e:2x2."
        )
    if args.rows is not None and args.rows < 1:
        raise errors.UsageError(
            f"--rows must be a positive number; got {args.rows}. Give as many as `train` prints."
        )
    values = {
        "--rows": args.rows, "--micro_batches": args.micro_batches, "--remat": args.remat
    }  # fmt: skip
    given = [f"{flag}={value}" for flag, value in values.items() if value]
    if args.purpose == INFER and given:
        raise errors.UsageError(
            f"--for=infer must come without flags of the train step; got {' '.join(given)}. Leave "
            "them out, or plan the train step: --for=train. EVAL_BATCH_SIZE sets what is decoded."
        )


def plan(run: RunConfig, *, price: str | None, is_json: bool, **options: Any) -> int:
    """Prints a run's estimates; `options` are fields of `planner.Options`."""
    from hyperdecoders_jax.planning import chips, estimate, planner, table

    options = planner.Options(**options)
    kinds = {name.partition(":")[0]: chips.of(name) for name in options.topologies}
    prices = estimate.parse_prices(price, list(kinds))
    found = []
    for x in planner.Planner(run, options, prices).estimates():
        found.append(x)
        told = x.problem or f"{x.figures.cycles / 1e6:,.2f} million cycles"
        print(f"{x.choice.topology} {x.choice.flags}: {told}", file=sys.stderr, flush=True)
    best = estimate.pick(found)
    uncounted = planner.uncounted(run) if options.is_for_training else None
    if is_json:
        picked = None if best is None else found.index(best)
        told = {"choices": [x.to_dict() for x in found], "picked": picked, "notes": uncounted}
        print(json.dumps(told, indent=2))
    else:
        print(table.summary(found, options.is_for_training))
        print(f"\nGiB of a chip:\n{table.memory(found)}")
        print(f"\nMB that a chip sends (collectives):\n{table.communication(found)}")
        if uncounted:
            print(f"\n{uncounted}")
    if best is None:
        raise ValueError(_why_nothing_fits(found))
    if not is_json:
        print(f"\n{_tell(best, options.is_for_training)}")
        if best.figures.compile_secs is None:  # Few layers were compiled.
            print(
                "--fast may tell too little memory: compile this choice without it before you rent."
            )
    return 0


def _tell(best: Estimate, is_for_training: bool) -> str:
    amount = f"{best.cost:,.2f}" + (" chip-hours" if best.price is None else "")
    what = "The fewest chip-hours" if best.price is None else "The cheapest that fits"
    of = "" if is_for_training else " for a million examples"
    return (
        f"{what}: {best.choice.topology}, {best.num_chips} chips, "
        f"{best.hours:,.2f} hours, {amount}{of}:\n  {best.choice.flags}"
    )


def _why_nothing_fits(found: Sequence[Estimate]) -> str:
    counted = [x for x in found if x.memory is not None]
    if not counted:
        came = found[-1].problem.rstrip(".")
    else:
        least = min(counted, key=lambda x: x.memory.peak - x.chip.hbm_bytes)
        peak, there = (x / 2**30 for x in (least.memory.peak, least.chip.hbm_bytes))
        came = (
            f"the nearest needs {peak:.2f} GiB of a chip of {least.choice.topology}, which has "
            f"{there:.2f}"
        )
    training = "more --micro_batches, --remat=layer, smaller BATCH_SIZE or EXAMPLES_PER_STEP"
    is_decoding = found[0].choice.remat is None
    rest = "a smaller EVAL_BATCH_SIZE" if is_decoding else training
    return (
        f"A slice must have memory for the program; none of {len(found)} choices fits: {came}. Try "
        f"a larger slice (--topology), more --model_parallel, {rest}, or a smaller --model."
    )


def parse_list(flag: str, text: str, kind: Callable[[str], Any] = str) -> tuple[Any, ...]:
    """The values of a flag that are separated by commas, each once.

    >>> parse_list("--model_parallel", "1, 2,2", int)
    (1, 2)
    """
    try:
        values = dict.fromkeys(kind(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise errors.UsageError(
            f"{flag} must be whole numbers separated by commas; got {text!r}. Write {flag}=1,2."
        ) from None
    return tuple(values)


def _model_file(name: str) -> str:
    from hyperdecoders_jax.config import gin_files

    known = gin_files.files_under(gin_files.package_config_folder(), "models")
    names = [os.path.splitext(os.path.basename(path))[0] for path in known]
    if name not in names:
        raise errors.UsageError(
            f"--model must name a file of gin_configs/models; got {name!r}."
            f"{errors.suggestion(name, names)} Choose one of {', '.join(names)}."
        )
    return f"models/{name}.gin"


if __name__ == "__main__":
    main.leave(main.main(["plan", *sys.argv[1:]]))
