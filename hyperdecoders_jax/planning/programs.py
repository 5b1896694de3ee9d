"""The programs of a run compiled ahead of time, from shapes: no weights, no data, no chip.

The compiler's figures of one program are `Figures`, per chip and call. Layers of a stack are alike,
so those of a deep model follow from programs of two and of four layers; see `by_difference`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from hyperdecoders_jax.planning import chips, program_text
from hyperdecoders_jax.trained import placed
from hyperdecoders_jax.training import optimizer as optimizer_lib
from hyperdecoders_jax.training import programs, train_state
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.training.partitioning import Partitioner
from hyperdecoders_jax.training.trainer import TrainingRecipe
from hyperdecoders_jax.types import Batch, PyTree

STACKS = ("num_encoder_layers", "num_decoder_layers")
# Layers of the shallow programs, and how many more one stack has in the second and the third: fewer
# would keep activations in the chip's fast memory, which a deep model cannot, and the differences
# would lack them.
SHALLOW, MORE = 2, 2
DEEPEST = SHALLOW + MORE
DEPTHS = ((SHALLOW, SHALLOW), (DEEPEST, SHALLOW), (SHALLOW, DEEPEST))


@dataclasses.dataclass(frozen=True)
class Figures:
    """What the compiler says of a program, for one chip and one call.

    Attributes:
        cycles: of all instructions; collectives have none.
        moved_bytes: XLA's count for the compiled program. It has a loop's body once, so it is
            multiplied by what loops multiply cycles by: exact without loops, rough with them.
        argument_bytes, temporary_bytes, program_bytes: of the chip's memory.
        sent_bytes, num_collectives: by kind of collective.
        compile_secs: to trace and compile; None where the whole model was not compiled.
    """

    cycles: float
    moved_bytes: float
    argument_bytes: float
    temporary_bytes: float
    program_bytes: float
    sent_bytes: Mapping[str, float]
    num_collectives: Mapping[str, float]
    compile_secs: float | None

    @property
    def peak_bytes(self) -> float:
        """Most memory that is in use at once."""
        return self.argument_bytes + self.temporary_bytes + self.program_bytes


class Lowered:
    """A jitted function and the shapes of its arguments, each with its sharding."""

    def __init__(self, function: Any, shapes: tuple[PyTree, ...]):
        self.function, self.shapes = function, shapes

    def compile(self) -> tuple[Any, float]:
        """Compiles; also returns the seconds that took."""
        start = time.perf_counter()
        with chips.off_a_tpu(), _no_cache():
            compiled = self.function.lower(*self.shapes).compile()
        return compiled, time.perf_counter() - start

    def figures(self) -> Figures:
        """Compiles, and reads what the compiler says."""
        compiled, secs = self.compile()
        text, memory = compiled.as_text(), compiled.memory_analysis()
        analysis = compiled.cost_analysis() or {}
        cycles = check_cycles(sum(program_text.count_cycles(text).values()))
        collectives, repeated = program_text.count_collectives(text), program_text.repetition(text)
        # A donated argument shares its memory with a result.
        results = memory.output_size_in_bytes - memory.alias_size_in_bytes
        return Figures(
            cycles=cycles,
            moved_bytes=analysis.get("bytes accessed", 0.0) * repeated,
            argument_bytes=memory.argument_size_in_bytes,
            temporary_bytes=memory.temp_size_in_bytes + results,
            program_bytes=memory.generated_code_size_in_bytes,
            sent_bytes={kind: x.num_bytes for kind, x in collectives.items()},
            num_collectives={kind: x.count for kind, x in collectives.items()},
            compile_secs=secs,
        )


def check_cycles(cycles: int) -> int:
    """The cycles of a program; ValueError if its compiler wrote none."""
    if cycles == 0:
        raise ValueError(
            "The TPU's compiler must write estimated cycles into its programs; libtpu "
            f"{importlib.metadata.version('libtpu')} wrote none. Install the one that JAX asks "
            "for: pip install 'hyperdecoders_jax[train,tpu]'"
        )
    return cycles


@contextlib.contextmanager
def _no_cache() -> Iterator[None]:
    """JAX would write programs for described chips into its cache, and fail to read them again."""

    def enable(is_enabled):
        jax.config.update("jax_enable_compilation_cache", is_enabled)
        compilation_cache.reset_cache()  # Which remembers whether it was enabled.

    before = jax.config.jax_enable_compilation_cache
    enable(False)
    try:
        yield
    finally:
        enable(before)


def train_step(
    recipe: TrainingRecipe,
    trainable: trainable_lib.TrainableConfig,
    frozen_dtype: str,
    partitioner: Partitioner,
    batch: Batch,
) -> Lowered:
    """The train step of a run, with the shapes of its state, its frozen parameters and a batch."""
    model, config = recipe.model, recipe.config
    axes = model.param_axes()
    trained, frozen = trainable_lib.split(model.param_shapes(), trainable)
    rate = recipe.schedule.make(config.num_train_steps)
    tx = optimizer_lib.make_optimizer(recipe.optimizer, rate)

    def create(params):
        return train_state.create(params, tx, jax.random.key(config.seed))

    state = jax.eval_shape(create, trained)
    placements = partitioner.param_shardings(trained, axes)
    shardings = partitioner.state_shardings(state, tx, placements)
    frozen = jax.eval_shape(lambda x: trainable_lib.cast_frozen(x, frozen_dtype), frozen)
    made = programs.of(
        model, recipe.optimizer, recipe.schedule, config.num_train_steps,
        config.num_microbatches, shardings,
    )  # fmt: skip
    frozen = with_shardings(frozen, partitioner.param_shardings(frozen, axes))
    return Lowered(made.train_step, (with_shardings(state, shardings), frozen, batch))


def predict(verbs: placed.Verbs, task_name: str | None, params: PyTree, batch: Batch) -> Lowered:
    """The decoding of a batch as a task's texts are decoded, given shapes of all parameters."""
    partitioner = verbs.partitioner
    shardings = partitioner.param_shardings(params, verbs.model.param_axes())
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = with_shardings(key, partitioner.replicated)
    return Lowered(verbs.predict(task_name), (with_shardings(params, shardings), batch, key))


def batch_shapes(
    num_rows: int, lengths: Mapping[str, int], partitioner: Partitioner, max_segments: int = 0
) -> Batch:
    """Shapes of a batch, of packed rows if they have segments."""

    def shape(*sizes):
        return jax.ShapeDtypeStruct(sizes, jnp.int32, sharding=partitioner.batch_sharding)

    inputs, targets = (shape(num_rows, lengths[name]) for name in ("inputs", "targets"))
    if not max_segments:
        return Batch(inputs, targets, targets, targets, shape(num_rows))
    tasks = shape(num_rows, max_segments)
    return Batch(inputs, targets, targets, targets, tasks, inputs, inputs, targets, targets)


def with_shardings(shapes: PyTree, shardings: PyTree) -> PyTree:
    """The same shapes, each with its sharding."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
    )


def chip_bytes(shapes: PyTree) -> int:
    """Bytes of sharded arrays that one chip holds, without padding."""

    def num_bytes(x):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return 0
        return jnp.dtype(x.dtype).itemsize * math.prod(x.sharding.shard_shape(x.shape))

    return sum(map(num_bytes, jax.tree.leaves(shapes)))


def extend(
    shallow: float, encoder: float, decoder: float, num_encoder: int, num_decoder: int
) -> float:
    """A number of a deep model, from those of the `DEPTHS`.

    >>> extend(10, 16, 18, num_encoder=6, num_decoder=3)
    26.0
    """
    more_encoder, more_decoder = (num_encoder - SHALLOW) / MORE, (num_decoder - SHALLOW) / MORE
    return shallow + more_encoder * (encoder - shallow) + more_decoder * (decoder - shallow)


def by_difference(found: Sequence[Figures], num_encoder: int, num_decoder: int) -> Figures:
    """Figures of a deep model, from those of the `DEPTHS`.

    Of collectives there are never fewer than none: XLA may join more of them in a deeper program.
    >>> def figures(cycles, count):
    ...     return Figures(cycles, 0, 0, 0, 0, {"all-reduce": cycles}, {"all-reduce": count}, 2.0)
    >>> deep = by_difference([figures(10, 3), figures(16, 1), figures(18, 3)], 6, 3)
    >>> deep.cycles, deep.sent_bytes, deep.num_collectives, deep.compile_secs
    (26.0, {'all-reduce': 26.0}, {'all-reduce': 0}, None)
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Figures):
        parts = [getattr(figures, field.name) for figures in found]
        if field.name == "compile_secs":
            values[field.name] = None
        elif isinstance(parts[0], Mapping):
            values[field.name] = {
                kind: max(0, extend(*(x.get(kind, 0) for x in parts), num_encoder, num_decoder))
                for kind in dict.fromkeys(kind for part in parts for kind in part)
            }
        else:
            values[field.name] = extend(*parts, num_encoder, num_decoder)
    return Figures(**values)
