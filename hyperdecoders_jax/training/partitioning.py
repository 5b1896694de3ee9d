"""Sharding of arrays over devices: logical axes of parameters are mapped to axes of a mesh.

Batches are cut along the mesh's axis `data`, large parameters along `model`. A rule gives each
logical axis a mesh axis or none; XLA inserts the communication. The rules are T5X's standard ones
with one partitioned axis, plus those of the new parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import traverse_util
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hyperdecoders_jax.model import BACKBONE_KEYS
from hyperdecoders_jax.training.train_state import TrainState
from hyperdecoders_jax.types import Batch, Params, PyTree

DATA, MODEL = "data", "model"

LOGICAL_AXIS_RULES: tuple[tuple[str, str | None], ...] = (
    ("vocab", MODEL),
    ("mlp", MODEL),
    ("heads", MODEL),
    ("joined_kv", MODEL),
    ("embed", None),
    ("relpos_buckets", None),
    # New parameters: adapters and gates are small, and are replicated. A hypernetwork's heads are
    # as wide as an adapter has parameters, so they are cut along that axis.
    ("layers", None),
    ("tasks", None),
    ("places", None),
    ("bottleneck", None),
    ("hyper_in", None),
    ("hyper_hidden", None),
    ("hyper_out", MODEL),
    ("rows", None),
    ("cols", None),
)


@dataclasses.dataclass(frozen=True)
class PartitioningConfig:
    """How devices share the work."""

    model_parallel: int = 1  # Devices that share one copy of the parameters.
    logical_axis_rules: Sequence[tuple[str, str | None]] = LOGICAL_AXIS_RULES

    def __post_init__(self):
        if not (isinstance(self.model_parallel, int) and self.model_parallel >= 1):
            raise ValueError(
                "PartitioningConfig.model_parallel must be an integer of at least 1; got "
                f"{self.model_parallel!r}. Give 1 for data parallelism alone."
            )
        for name, axis in self.logical_axis_rules:
            if axis not in (DATA, MODEL, None):
                raise ValueError(
                    f"The mesh axis of {name!r} in PartitioningConfig.logical_axis_rules must be "
                    f"{DATA!r}, {MODEL!r} or None; got {axis!r}. Correct the rule."
                )

    def check_attention_heads(
        self, attention_heads: int | None, num_heads: int | None = None
    ) -> None:
        """Raises ValueError unless heads computed at a time divide over the devices of a copy.

        Otherwise every layer would gather the queries, keys and values of all heads. With
        `num_heads`, those of a layer, the error names numbers that fit.
        """
        if attention_heads is not None and attention_heads % self.model_parallel:
            advice = "Set ATTENTION_HEADS to None for all heads, or to such a multiple"
            if num_heads is not None:
                multiples = range(self.model_parallel, num_heads + 1, self.model_parallel)
                fitting = [n for n in multiples if num_heads % n == 0]
                advice = f"Set MODEL_PARALLEL to a divisor of {num_heads}, a layer's heads"
                if fitting:
                    told = " or ".join(map(str, fitting))
                    advice = f"Set ATTENTION_HEADS to {told}, or to None for all heads"
            raise ValueError(
                "ATTENTION_HEADS must be a multiple of MODEL_PARALLEL, so that devices share the "
                f"heads computed at a time; got {attention_heads} heads and {self.model_parallel} "
                f"devices. {advice}."
            )


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """A mesh of devices, and the shardings of arrays on it; see `make_partitioner`."""

    mesh: Mesh
    config: PartitioningConfig

    @property
    def num_data(self) -> int:
        """Number of parts that a batch is cut into."""
        return self.mesh.shape[DATA]

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch_sharding(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(DATA))

    def check_batch_size(self, batch_size: int, num_microbatches: int = 1) -> None:
        """Raises ValueError unless a batch divides over devices and micro-batches."""
        parts = self.num_data * num_microbatches
        if batch_size < 1 or batch_size % parts:
            near = max(parts, batch_size // parts * parts)
            raise ValueError(
                f"The batch size must divide by {parts} ({self.num_data} data-parallel devices × "
                f"{num_microbatches} micro-batches); got {batch_size}. Use a batch size of {near} "
                f"or {near + parts}, or change PartitioningConfig.model_parallel "
                f"(now {self.config.model_parallel}) or the number of micro-batches."
            )

    def data_shard(self) -> tuple[int, int]:
        """Returns (index, count) of the part of each batch that this process reads.

        Processes with the same rows of the mesh (model parallelism over hosts) read the same part.
        """
        rows_of = _rows_of_processes(self.mesh.devices)
        shards = sorted({tuple(rows) for rows in rows_of.values()})
        return shards.index(tuple(rows_of[jax.process_index()])), len(shards)

    def param_shardings(self, shapes: Params, axes: Params) -> dict:
        """Returns a sharding for each of `shapes`, all of a model's parameters or some.

        A parameter of the backbone must divide over the model axis (else ValueError). A new one
        that does not is replicated (see `list_replicated`): that costs only memory, and those with
        an odd axis are small. `axes` is `Model.param_axes()`; KeyError if one of them has no rule.
        """
        axes = traverse_util.flatten_dict(axes)
        return traverse_util.path_aware_map(
            lambda path, x: self._param_sharding("/".join(path), x, axes[path]), shapes
        )

    def _param_sharding(self, path: str, shape, names: tuple[str, ...]) -> NamedSharding:
        # Reversed, since the first rule of a name counts, as in T5X.
        rules = dict(reversed([*self.config.logical_axis_rules]))
        spec = []
        for name, size in zip(names, shape.shape, strict=True):
            if name not in rules:
                raise KeyError(
                    "Every logical axis needs a rule in PartitioningConfig.logical_axis_rules; got "
                    f"{name!r} of parameter {path!r} and rules for {sorted(rules)}. "
                    f"Add ({name!r}, None) to replicate it."
                )
            axis = rules[name]
            if axis in spec:  # A mesh axis can cut only one axis of an array.
                axis = None
            if axis is not None and size % self.mesh.shape[axis]:
                if path.split("/")[0] in BACKBONE_KEYS:
                    raise ValueError(
                        f"Axis {name!r} of parameter {path!r} must divide by the {axis!r} axis of "
                        f"the mesh; got size {size} and {self.mesh.shape[axis]} devices. Set "
                        f"model_parallel to a divisor of {size}, or add the rule ({name!r}, None)."
                    )
                axis = None  # A new parameter: replicated.
            spec.append(axis)
        return NamedSharding(self.mesh, PartitionSpec(*spec))

    def state_shardings(
        self, state: TrainState, tx: optax.GradientTransformation, trainable_shardings: Params
    ) -> TrainState:
        """Returns a sharding for each array of a train state, given its shapes.

        State of a parameter's shape is sharded as that; counts and factored moments are replicated.
        """
        # Moments are on their parameter's devices, so that an update needs no communication.
        return TrainState(
            step=self.replicated,
            trainable=trainable_shardings,
            opt_state=map_opt_state(
                tx, state.opt_state, state.trainable, trainable_shardings, self.replicated
            ),
            rng=self.replicated,
            metrics=jax.tree.map(lambda _: self.replicated, state.metrics),
        )

    def put_batch(self, batch: Batch) -> Batch:
        """Copies this process's part of a batch to its devices, as a part of the global batch."""

        def put(x):
            return jax.make_array_from_process_local_data(self.batch_sharding, np.asarray(x))

        return jax.tree.map(put, batch)

    def take_rows(self, tree: PyTree) -> PyTree:
        """Returns this process's rows of arrays sharded as a batch; the opposite of `put_batch`."""

        def take(x):
            # By first row: model parallelism replicates rows, and each is wanted once.
            parts = {shard.index[0].start or 0: shard for shard in x.addressable_shards}
            return np.concatenate([np.asarray(parts[start].data) for start in sorted(parts)])

        return jax.tree.map(take, tree)

    def put_params(self, params: Params, shardings: Params) -> dict:
        """Copies parameters, which every process has in full, to their devices."""

        def put(x, sharding):
            if jax.process_count() == 1:
                # On a CPU `device_put` may share the numpy array's memory, which the step, by
                # donating it, would overwrite for the caller.
                return jax.device_put(x, sharding, may_alias=False)
            x = np.asarray(x)
            # Each process copies what its own devices hold.
            return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

        return jax.tree.map(put, dict(params), dict(shardings))


class BatchCheck:
    """Checks that batches divide over devices and micro-batches, and keep the first one's shapes.

    `batch_size` counts the rows of all processes, and is None before the first batch.
    """

    def __init__(self, partitioner: Partitioner, num_microbatches: int = 1):
        self._partitioner, self._num_microbatches = partitioner, num_microbatches
        self._shapes: list[tuple[int, ...]] | None = None
        self.batch_size: int | None = None

    def check(self, batch: Batch) -> None:
        """Raises ValueError for this process's part of a batch that does not."""
        shapes = [x.shape for x in jax.tree.leaves(batch)]
        if self._shapes is None:
            self._shapes = shapes
            _, num_shards = self._partitioner.data_shard()
            self.batch_size = shapes[0][0] * num_shards
            self._partitioner.check_batch_size(self.batch_size, self._num_microbatches)
        if shapes != self._shapes:
            raise ValueError(
                "All batches must have the same shapes, or the step is compiled again; got "
                f"{shapes} after {self._shapes}. Pad to fixed lengths; drop the last part."
            )


def map_opt_state(
    tx: optax.GradientTransformation, state: PyTree, params: Params, values: Params, other: Any
) -> PyTree:
    """For each leaf of an optimiser state the value of its parameter, or `other`.

    `other` is for counts and factored moments, which have not their parameter's shape.
    """

    def like_param(leaf, param, value):
        return value if leaf.shape == param.shape else other

    # optax knows which leaves of a state belong to parameters, in whatever order they are.
    return optax.tree_utils.tree_map_params(
        tx, like_param, state, params, values, transform_non_params=lambda _: other
    )


def make_partitioner(
    config: PartitioningConfig = PartitioningConfig(), devices: Sequence[jax.Device] | None = None
) -> Partitioner:
    """Returns the partitioner of `devices`, by default all devices of all processes.

    Raises ValueError unless `config.model_parallel` divides them, and fits those of a process.
    """
    devices = jax.devices() if devices is None else list(devices)
    num_data, rest = divmod(len(devices), config.model_parallel)
    if rest:
        divisors = [n for n in range(1, len(devices) + 1) if len(devices) % n == 0]
        raise ValueError(
            "PartitioningConfig.model_parallel must divide the number of devices; got "
            f"{config.model_parallel} and {len(devices)} devices. Use one of {divisors}."
        )
    grid = _arrange(devices, (num_data, config.model_parallel))
    # Auto: XLA derives the shardings of activations from those of parameters and batch.
    auto = (jax.sharding.AxisType.Auto,) * 2
    return Partitioner(Mesh(grid, (DATA, MODEL), axis_types=auto), config)


def _arrange(devices: Sequence[jax.Device], shape: tuple[int, int]) -> np.ndarray:
    """Arranges devices as (data, model) with the rows of each process next to each other."""
    try:
        # Knows the torus of a TPU: devices along the model axis talk in every layer.
        grid = mesh_utils.create_device_mesh(shape, devices)
        if has_rows_together(grid):
            return grid
    except (NotImplementedError, ValueError, AssertionError):
        pass  # There is no such layout for this slice.
    return by_process(devices, shape)


def by_process(devices: Sequence[jax.Device], shape: tuple[int, int]) -> np.ndarray:
    """Arranges devices by process, row by row; ValueError if a row would mix two processes."""
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    grid = np.empty(len(ordered), object)
    grid[:] = ordered
    grid = grid.reshape(shape)
    if not has_rows_together(grid):
        num_processes = len({device.process_index for device in devices})
        raise ValueError(
            "PartitioningConfig.model_parallel must divide the devices of a process, or be a "
            f"multiple of them; got {shape[1]}, and {len(devices)} devices in {num_processes} "
            f"processes. Use {len(devices) // num_processes}, or a divisor of it."
        )
    return grid


def has_rows_together(grid: np.ndarray) -> bool:
    """Whether each process's rows are one block, and any two blocks are equal or disjoint.

    Otherwise the rows that a process reads would not be one part of the batch.
    """
    blocks = {tuple(rows) for rows in _rows_of_processes(grid).values()}
    is_block = all(rows[-1] - rows[0] == len(rows) - 1 for rows in blocks)
    return is_block and sum(map(len, blocks)) == len(grid)


def _rows_of_processes(grid: np.ndarray) -> dict[int, list[int]]:
    rows_of = {}
    for row, devices in enumerate(grid):
        for process in {device.process_index for device in devices}:
            rows_of.setdefault(process, []).append(row)
    return rows_of


def list_replicated(shardings: Params) -> list[str]:
    """The paths of the parameters that are on every device in full, sorted."""
    flat = traverse_util.flatten_dict(shardings, sep="/")
    return sorted(path for path, sharding in flat.items() if sharding.is_fully_replicated)
