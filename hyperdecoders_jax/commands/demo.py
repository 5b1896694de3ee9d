"""`hyperdecoders demo`: a Hyperdecoder beside a single adapter on six small tasks, as a table.

Both train on the same frozen T5 and batches, and are evaluated on the test split, beside always
giving the most frequent training target; what adapts the last one's examples is analysed. Other
methods: `make demo METHODS="single_adapter hypergrid"`. The T5 ships with the package.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence

from hyperdecoders_jax.commands import flags, main
from hyperdecoders_jax.data import text_table

SUMMARY = "train and compare methods on six small tasks that ship with the package"
TAKES_GIN = True

# Methods, each the experiment demo_METHOD, and the heads of their columns.
METHODS = {
    "single_adapter": "single adapter",
    "hyperdecoder": "Hyperdecoder",
    "hypergrid": "HyperGrid",
    "hypergrid_all_weights": "HyperGrid, all weights",
}
DEFAULT_METHODS = ("single_adapter", "hyperdecoder")
PRETRAINING = "demo_pretrain"
BASELINE = "majority"
SPLIT = "test"
MIXTURE = "demo"
# Examples of each task in the analysis, which is to take a minute.
NUM_ANALYSED = 100


@dataclasses.dataclass(frozen=True)
class Row:
    """What one method came to."""

    scores: Mapping[str, float]  # Task → the mean of its metrics, in [0, 100].
    num_trainable: int | None = None  # Trained parameters; None for a method that has none.
    secs: float | None = None  # Of training and evaluation.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    text = "folder of the runs; made anew (default: demo_runs)"
    parser.add_argument("--output", default="demo_runs", metavar="FOLDER", help=text)
    text = f"what is compared, in this order (default: {' '.join(DEFAULT_METHODS)})"
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=DEFAULT_METHODS, help=text)
    text = "make the T5 instead, and write it here (default: the T5 that ships)"
    parser.add_argument("--pretrain", metavar="FILE", help=text)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the demo and prints its table; returns the exit code."""
    gin_flags = [
        f"{name}={value}" if name == flags.RAW_BINDING else f"--gin.{name}={value}"
        for name, value in gin_flags
    ]
    flags.start_tensorflow()
    if args.pretrain is not None:
        return pretrain(os.path.join(args.output, PRETRAINING), args.pretrain, gin_flags)
    return compare(args.output, args.methods, gin_flags)


def pretrain(model_dir: str, path: str, gin_flags: Sequence[str] = ()) -> int:
    """Trains the demo's T5 from random weights, or continues to; writes it as bfloat16."""
    code = _train(PRETRAINING, model_dir, gin_flags)
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


def _train(experiment: str, model_dir: str, gin_flags: Sequence[str]) -> int:
    print(f"\n== experiments/{experiment}.gin ==", file=sys.stderr, flush=True)
    own = [f"--gin_file=experiments/{experiment}.gin", f"--model_dir={model_dir}"]
    return main.main(["train", *own, *gin_flags])


# Between machines and seeds, averages of one method moved by 1.5 to 2.5.
ONE_SEED = """\
One seed: averages move by about 2 between seeds and machines, so that smaller differences between
methods mean nothing. To compare methods, train each with several (--gin.RANDOM_SEED=1, 2, ...).
"""


def compare(output: str, methods: Sequence[str], gin_flags: Sequence[str] = ()) -> int:
    """Trains and evaluates methods, and prints the table."""
    rows = {}
    from hyperdecoders_jax.training import run_lock

    for method in methods:
        model_dir = os.path.join(output, f"demo_{method}")
        run_lock.check_free(model_dir)
        # A run that is there already would be continued, and its time would mean nothing.
        shutil.rmtree(model_dir, ignore_errors=True)
        start = time.perf_counter()
        # Once, at the end: nothing is chosen by what is reported.
        flags = [f"--gin.EVAL_SPLIT={SPLIT!r}", "--gin.EVAL_PERIOD=None"]
        code = _train(f"demo_{method}", model_dir, [*flags, *gin_flags])
        if code:
            return code
        scores = read_scores(model_dir)
        if not scores:
            print("The demo was stopped; its command begins anew.", file=sys.stderr)
            return 0
        secs = time.perf_counter() - start
        rows[METHODS[method]] = Row(scores, count_trainable(model_dir), secs)
    rows = {BASELINE: Row(baseline_scores()), **rows}
    print(f"\nTest scores in [0, 100], the mean of a task's metrics:\n{format_rows(rows)}")
    print(ONE_SEED)
    # `make demo` runs in an environment that its user has not activated.
    program = os.path.join(os.path.dirname(sys.executable), "hyperdecoders")
    program = os.path.relpath(program) if program.startswith(os.getcwd()) else "hyperdecoders"
    print(
        f"Predictions: {output}/*/eval/. Ask the last of them yourself:\n"
        f'  echo "relation: happy | unhappy" | {program} infer --input=- '
        f"--model_dir={model_dir}"
    )
    return analyze(model_dir, os.path.join(output, "analysis"))


def analyze(model_dir: str, output: str) -> int:
    """Looks at what adapts a method's examples, and says where the page is."""
    print(f"\n== What adapts the examples of {model_dir} ==", file=sys.stderr, flush=True)
    with contextlib.redirect_stdout(io.StringIO()):  # It is in the files, too.
        own = [f"--checkpoint={model_dir}", f"--output={output}"]
        code = main.main(["analyze", *own, f"--num_examples={NUM_ANALYSED}"])
    if not code:
        page = pathlib.Path(output, "page.html").resolve()
        print(f"\nWhat adapts its examples, in pictures: {page.as_uri()}")
    return code


def read_scores(model_dir: str) -> dict[str, float]:
    """Task → mean of its metrics at the last evaluation of a run; none if a signal stopped it."""
    path = pathlib.Path(model_dir, "metrics.jsonl")
    # A run that was stopped before it logged anything has no such file.
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [line for line in map(json.loads, text.splitlines()) if line["kind"] == "eval"]
    last = max((line["step"] for line in lines), default=None)
    return {line.pop("task"): _mean(line) for line in lines if line.pop("step") == last}


def _mean(metrics: Mapping[str, float | str]) -> float:
    return statistics.mean(value for value in metrics.values() if not isinstance(value, str))


def count_trainable(model_dir: str) -> int:
    """Trained parameters of a run."""
    from hyperdecoders_jax.model import Model
    from hyperdecoders_jax.weights import names, run_folder

    run = run_folder.read_file(model_dir)
    shapes = names.flatten(Model(run.description.model).param_shapes())
    return sum(shapes[path].size for path in run.trained)


def baseline_scores() -> dict[str, float]:
    """Task → mean of its metrics for always giving the most frequent training target."""
    import importlib

    # By name: the package imports no task module of itself.
    baselines = importlib.import_module("hyperdecoders_jax.tasks.baselines")
    mixtures = importlib.import_module("hyperdecoders_jax.data.mixtures")
    return {
        task.name: _mean(baselines.majority_baseline(task.name, SPLIT))
        for task in mixtures.leaf_tasks(MIXTURE)
    }


def format_rows(rows: Mapping[str, Row]) -> str:
    """A table with a column for each method.

    >>> print(format_rows({"majority": Row({"a": 20.0}), "adapter": Row({"a": 50.0}, 7000, 61.0)}))
                       majority  adapter
    a                      20.0     50.0
    average                20.0     50.0
    trained parameters        -    7,000
    minutes                   -      1.0
    """
    tasks = list(next(iter(rows.values())).scores)
    table = [["", *rows]]
    table += [[task, *(f"{row.scores[task]:.1f}" for row in rows.values())] for task in tasks]
    averages = (statistics.mean(row.scores[task] for task in tasks) for row in rows.values())
    table.append(["average", *(f"{average:.1f}" for average in averages)])
    counts = (row.num_trainable for row in rows.values())
    table.append(["trained parameters", *("-" if n is None else f"{n:,}" for n in counts)])
    minutes = (row.secs for row in rows.values())
    table.append(["minutes", *("-" if t is None else f"{t / 60:.1f}" for t in minutes)])
    return text_table.align(table)


if __name__ == "__main__":
    main.leave(main.main(["demo", *sys.argv[1:]]))
