"""T5X's partitioning: the devices that share a copy of the model, and rules of logical axes.

`MODEL_PARALLEL` is the number of devices that share one copy of the model, whatever the devices:

    PjitPartitioner.num_partitions = @partitioning.num_partitions()
    PjitPartitioner.model_parallel_submesh = @partitioning.model_parallel_submesh()

    devices               what T5X makes of `num_partitions` alone
    TPU v2, v3, v4        a mesh, for 1, 2, 4, 8 or 16
    TPU v5e, v5p, v6e     an error, "No default mesh": it wants the submesh (x, y, z, cores)
    CPU                   all devices of a process share a model, whatever the number
    GPU                   a mesh

One of the two is None, as T5X wants it; a user may bind a submesh such as (4, 1, 1, 1) instead. The
rules of T5's parameters are T5X's, those of new parameters are our own runner's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import numpy as np
from t5x import adafactor
from t5x import partitioning as base

from hyperdecoders_jax.training import partitioning as own

Rules = list[tuple[str, str | None]]


def num_partitions(model_parallel: int) -> int | None:
    """Returns MODEL_PARALLEL on GPUs, where T5X's mesh needs no more; else None."""
    return model_parallel if jax.devices()[0].platform == "gpu" else None


def model_parallel_submesh(
    num_partitions: int,
    devices: Sequence[jax.Device] | None = None,
    attention_heads: int | None = None,
) -> base.TpuMesh | None:
    """Returns the tile of devices that share one copy of the model, for `PjitPartitioner`.

    Of all tiles the one on the fewest hosts, then with all cores of its chips, then the most
    compact: a shorter way for the communication of every layer. It is (x, y, z, cores); on CPUs
    (processes, devices of a process, 1, 1); on GPUs None, see `num_partitions`. `devices` are of
    one slice, by default all of the run. Raises ValueError if tiles of `num_partitions` devices,
    the macro MODEL_PARALLEL, do not fill the slice, or do not share the `attention_heads` that are
    computed at a time.
    >>> from types import SimpleNamespace as Chip  # A v5e:2x2, as libtpu describes it.
    >>> at = dict(platform="tpu", process_index=0, core_on_chip=0)
    >>> chips = [Chip(coords=(x, y, 0), **at) for y in range(2) for x in range(2)]
    >>> model_parallel_submesh(1, chips), model_parallel_submesh(2, chips)
    ((1, 1, 1, 1), (2, 1, 1, 1))
    """
    if attention_heads is not None:
        own.PartitioningConfig(num_partitions).check_attention_heads(attention_heads)
    devices = jax.devices() if devices is None else devices
    if devices[0].platform == "gpu":
        return None  # T5X expects three coordinates of a device that has any, and GPUs have one.
    whole = _bounds(devices)
    # T5X assumes that the devices of every process are laid out as those of the first.
    host = _bounds([device for device in devices if device.process_index == 0])
    tiles = [
        tile
        for tile in itertools.product(*map(_divisors, whole))
        if all(n % of_host == 0 or of_host % n == 0 for n, of_host in zip(tile, host, strict=True))
    ]
    possible = [tile for tile in tiles if math.prod(tile) == num_partitions]
    if not possible:
        raise ValueError(
            f"MODEL_PARALLEL must be the size of a tile that fills the slice; got {num_partitions} "
            f"for {whole} devices, {host} of them on a host, along (x, y, z, cores). Use one of "
            f"{sorted({math.prod(tile) for tile in tiles})}."
        )

    def spread(tile):
        num_hosts = math.prod(-(-n // of_host) for n, of_host in zip(tile, host, strict=True))
        return num_hosts, -tile[3], sum(tile)

    return min(possible, key=spread)


def _bounds(devices: Sequence[jax.Device]) -> base.TpuMesh:
    """The number of devices along each axis; T5X gives CPU devices two coordinates."""
    last = np.max([base.get_coords(device) for device in devices], axis=0)
    return tuple(int(n) + 1 for n in (*last, 0, 0)[:4])


def _divisors(n: int) -> list[int]:
    # Largest first, so that of equally good tiles the one along x is taken.
    return [i for i in range(n, 0, -1) if n % i == 0]


def logical_axis_rules(
    activation_partitioning_dims: int = 1,
    parameter_partitioning_dims: int = 1,
    additional_rules: Sequence[tuple[str, str | None]] = (),
) -> Rules:
    """Returns T5X's rules and those of new parameters, for `PjitPartitioner.logical_axis_rules`.

    The outputs of a hypernetwork's layers are cut over the model axis, which must divide them: the
    head of a bias has as many features as the adapter's bottleneck. Learned adapters are small and
    replicated; for those of many tasks the additional rule `("bottleneck", "model")`, which takes
    precedence, saves memory, and costs communication in every layer. The dims, 1 or 2, are T5X's.
    """
    theirs = base.standard_logical_axis_rules(
        activation_partitioning_dims, parameter_partitioning_dims
    )
    named = {name for name, _ in theirs}
    new = [rule for rule in own.LOGICAL_AXIS_RULES if rule[0] not in named]
    return [*additional_rules, *theirs, *new]


def logical_factor_rules() -> dict:
    """Returns T5X's rules and those of new parameters, for `Adafactor.logical_factor_rules`."""
    dim = adafactor.FactorDim
    return {
        **dict.fromkeys((name for name, _ in own.LOGICAL_AXIS_RULES), dim.NONE),
        **adafactor.standard_logical_factor_rules(),
        # Adafactor scales and clips updates within a layer, a task or a site, not across them.
        **dict.fromkeys(("layers", "tasks", "places"), dim.BATCH),
        # Chosen so that the large kernels, an adapter's and a hypernetwork's head, are factored.
        **dict.fromkeys(("hyper_in", "hyper_hidden"), dim.ROW),
        **dict.fromkeys(("bottleneck", "hyper_out"), dim.COLUMN),
    }
