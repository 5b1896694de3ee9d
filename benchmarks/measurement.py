"""Shared by the benchmarks: an experiment from gin, random batches, costs of compiled functions.

FLOPs and memory are XLA's own counts for one device; times are the median of several calls, after
compiling. With `--topology` (such as v5e:2x2, with libtpu installed) functions are compiled for
TPUs that are not attached, and do not run.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import jax
import numpy as np

from hyperdecoders_jax.commands import flags, main
from hyperdecoders_jax.config import gin_binding, gin_files
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.planning import chips, programs
from hyperdecoders_jax.training import partitioning
from hyperdecoders_jax.training.optimizer import OptimizerConfig
from hyperdecoders_jax.training.schedules import ScheduleConfig
from hyperdecoders_jax.training.trainable import TrainableConfig
from hyperdecoders_jax.types import Batch

SETTINGS_FILE = "runs/settings.gin"
EXPERIMENT_FILE = os.path.join(os.path.dirname(__file__), "experiment.gin")
PLAIN_T5 = TrainableConfig(backbone=True)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The settings of a training experiment that affect speed; gin macros have the same names."""

    model: Model
    trainable: TrainableConfig
    frozen_dtype: str
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    num_train_steps: int
    num_microbatches: int
    batch_size: int
    task_feature_lengths: Mapping[str, int]
    data: Callable[[], PipelineConfig]  # Called only where data are read, by SeqIO.
    model_parallel: int

    def without_adapters(self) -> Experiment:
        """The baseline: plain T5, all of it trained."""
        config = modeling_config.without_adaptation(self.model.config)
        return dataclasses.replace(
            self, model=dataclasses.replace(self.model, config=config), trainable=PLAIN_T5
        )


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of one call of a compiled function; `call_secs` is None where it did not run."""

    compile_secs: float
    gflops: float
    peak_bytes: int
    call_secs: float | None


def parse_arguments(
    description: str,
    arguments: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
):
    """Returns (the experiment, the devices of `--topology` or None, all arguments).

    `options` are further flags, with what argparse is to know of each.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--gin_file", action="append", required=True, help="a training experiment")
    parser.add_argument("--gin_search_paths", action="append", default=[])
    parser.add_argument("--num_calls", type=int, default=5, help="calls to time")
    flags.add_data(parser)
    for name, settings in (options or {}).items():
        parser.add_argument(name, **settings)
    parser.add_argument(
        "--topology", help="TPU slice to compile for, such as v5e:2x2; needs libtpu"
    )
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    others, gin_flags = main.split_gin_flags(arguments)
    args = parser.parse_args(others)
    bindings = [gin_files.to_binding(name, value) for name, value in gin_flags]
    # These two have no default. A benchmark writes nothing and starts from random weights.
    bindings += ["MODEL_DIR = None", "INITIAL_CHECKPOINT_PATH = None"]
    files = [SETTINGS_FILE, *args.gin_file, EXPERIMENT_FILE]
    text = gin_files.read(files, bindings, args.gin_search_paths)
    if getattr(args, "pack", False):  # train_step's, which may read the experiment's data.
        _prepare_data(args)
        gin_binding.parse(text, readers=flags.TRAIN_FILES)
    else:  # Batches are made, so modules of tasks are not imported, nor TensorFlow.
        options = {"are_macros_checked": False, "is_all_bound": False}
        gin_binding.parse(text, Experiment, readers=flags.TRAIN_FILES, **options)
    devices = None if args.topology is None else chips.devices(args.topology)
    return gin.get_configurable(Experiment)(), devices, args


def _prepare_data(args: argparse.Namespace) -> None:
    from hyperdecoders_jax.data import vocabulary

    flags.start_tensorflow()
    flags.set_data_folders(args)
    if args.vocabulary is not None:
        vocabulary.set_run_vocabulary(vocabulary.load_vocabulary(args.vocabulary))


def make_partitioner(experiment: Experiment, devices: list[jax.Device] | None):
    """The partitioner of an experiment on `devices`; None means those attached."""
    config = partitioning.PartitioningConfig(model_parallel=experiment.model_parallel)
    return partitioning.make_partitioner(config, devices)


def batch_shapes(experiment: Experiment, partitioner) -> Batch:
    """Shapes and shardings of a batch."""
    lengths = experiment.task_feature_lengths
    return programs.batch_shapes(experiment.batch_size, lengths, partitioner)


def random_values(shapes: Any, seed: int = 0) -> Any:
    """Small random numbers or tokens with these shapes and shardings."""
    rng = np.random.default_rng(seed)

    def draw(x):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.key(seed)
        if np.issubdtype(x.dtype, np.integer):
            # Matrices are tokens, none of them padding (0) or EOS (1); vectors are task ids, and
            # scalars step counts.
            value = rng.integers(2, 30, x.shape) if x.ndim == 2 else np.zeros(x.shape)
        else:
            value = rng.standard_normal(x.shape, np.float32) * 0.02
        return jax.device_put(value.astype(x.dtype), x.sharding)

    return jax.tree.map(draw, shapes)


def median_secs(call: Callable[[], Any], num_calls: int) -> float:
    """Median seconds of a call, until its result is ready; one more call warms up."""
    times = []
    for _ in range(num_calls + 1):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def compile_for(function: Callable, *shapes: Any) -> tuple[Callable, float]:
    """Compiles a jitted function for these shapes; also returns the seconds that took."""
    start = time.perf_counter()
    compiled = function.lower(*shapes).compile()
    return compiled, time.perf_counter() - start


def cost(compiled: Any, compile_secs: float, call_secs: float | None) -> Cost:
    """The cost of a compiled function, as XLA counts it."""
    analysis = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    # A donated argument shares its memory with a result, and would be counted twice.
    peak = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
    return Cost(compile_secs, analysis.get("flops", float("nan")) / 1e9, peak, call_secs)


def memory_cells(compiled: Any, secs: float) -> list[str]:
    """Table cells of a compiled function: GB moved, peak MiB, seconds to compile."""
    moved = (compiled.cost_analysis() or {}).get("bytes accessed", float("nan"))
    peak = cost(compiled, secs, None).peak_bytes
    return [f"{moved / 1e9:.2f}", f"{peak / 2**20:,.0f}", f"{secs:.0f}"]


def num_parameters(shapes: Any) -> int:
    """Number of parameters in a tree of shapes."""
    return sum(x.size for x in jax.tree.leaves(shapes))


def format_cost(found: Cost, baseline: Cost, examples: int, tokens: int) -> list[str]:
    """The table cells under `COST_HEADER`."""

    def rate(amount):
        return "-" if found.call_secs is None else f"{amount / found.call_secs:,.1f}"

    ratio = "-"
    if found.call_secs is not None and baseline.call_secs is not None:
        ratio = f"{found.call_secs / baseline.call_secs:.2f}"
    return [
        rate(examples),
        rate(tokens),
        ratio,
        f"{found.gflops:,.1f}",
        f"{found.gflops / baseline.gflops:.2f}",
        f"{found.peak_bytes / 2**20:,.0f}",
        f"{found.compile_secs:.1f}",
    ]


COST_HEADER = (
    "examples/s",
    "tokens/s",
    "time ratio",
    "GFLOP/device",
    "FLOP ratio",
    "peak MiB/device",
    "compile s",
)
