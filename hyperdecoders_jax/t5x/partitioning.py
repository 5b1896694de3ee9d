"""Rules for logical axes, in T5X's terms: where our parameters lie, and how Adafactor factors them.

Both go by the names that parameters give their axes. The rules of T5 are T5X's, and those of new
parameters the ones of our own runner.

    mesh                  T5X's PjitPartitioner
    v2, v3, v4            num_partitions = 1, 2, 4, …
    v5e, v5p, v6e         num_partitions = None and model_parallel_submesh = (x, y, z, cores), such
                          as (2, 1, 1, 1): T5X knows no default mesh of these
"""

from __future__ import annotations

from collections.abc import Sequence

from t5x import adafactor
from t5x import partitioning as base

from hyperdecoders_jax.training import partitioning as own

Rules = list[tuple[str, str | None]]

# Along which an update is scaled and clipped: within a layer, a task or a place, not across them.
_BATCHES = ("layers", "tasks", "places")
# So that the two large kernels are factored, an adapter's and the one of a hypernetwork's head.
_ROWS = ("hyper_in", "hyper_hidden")
_COLUMNS = ("bottleneck", "hyper_out")


def logical_axis_rules(
    activation_partitioning_dims: int = 1,
    parameter_partitioning_dims: int = 1,
    additional_rules: Sequence[tuple[str, str | None]] = (),
) -> Rules:
    """Returns T5X's rules and those of new parameters, for `PjitPartitioner.logical_axis_rules`.

    A hypernetwork's heads are cut over the model axis, whose size must then divide them: a head
    of a bias has as many features as the adapter's bottleneck. Adapters are small and stay whole.

    Args:
        activation_partitioning_dims: 1 or 2, T5X's.
        parameter_partitioning_dims: 1 or 2, T5X's.
        additional_rules: of a user; the first rule of an axis counts.
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
        **adafactor.standard_logical_factor_rules(),
        **dict.fromkeys(_BATCHES, dim.BATCH),
        **dict.fromkeys(_ROWS, dim.ROW),
        **dict.fromkeys(_COLUMNS, dim.COLUMN),
    }
