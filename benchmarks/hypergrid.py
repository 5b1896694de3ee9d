"""Time and memory of matrix products with a gated kernel, against the plain product.

    python -m benchmarks.hypergrid
    python -m benchmarks.hypergrid --topology=v5e:2x2

`gated` is what the model runs; `per example` makes a kernel for each example. A gradient step is
the product and its gradients with respect to states, gates and, unless frozen, kernel.

The products take turns in one process, and ratios are of median times; on a CPU, which other
processes may be using too, of CPU time. Memory is XLA's count of the temporary arrays of a gradient
step. For TPUs that are not attached, `--topology` prints the compiler's estimates instead, and "-"
for programs that it does not estimate.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp

from hyperdecoders_jax.data import text_table
from hyperdecoders_jax.modeling import gated_matmul
from hyperdecoders_jax.planning import chips


@dataclasses.dataclass(frozen=True)
class Case:
    """Shapes of a matrix product; in a decoding step `length` is the number of beams."""

    kernel: str
    batch: int
    length: int
    fans: tuple[int, int]
    grid: tuple[int, int]
    dtype: str = "float32"

    def __str__(self):
        states = f"[{self.batch}, {self.length}]"
        return f"{self.kernel} {states} x {self.fans[0]} x {self.fans[1]}, grid {self.grid}"

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of states, kernel and gates."""
        return (self.batch, self.length, self.fans[0]), self.fans, (self.batch, *self.grid)

    def products(self) -> dict[str, Callable]:
        """Name → product of (states, kernel, gates); the first is the baseline of the others."""
        # The mlp axis, which the model splits over devices: rows of `wo`, columns of `wi`.
        axis = {"wo": "rows", "wi": "cols"}[self.kernel]
        return {
            "plain": lambda x, kernel, gates: jnp.dot(x, kernel),
            "gated": lambda *args: gated_matmul.gated_matmul(*args, axis),
            "per example": per_example,
        }


TRAINING = (
    Case("wo", 8, 128, (2048, 512), (4, 8)),
    Case("wo", 8, 128, (2048, 512), (8, 8)),
    Case("wo", 8, 128, (2048, 512), (16, 16)),
    Case("wo", 32, 64, (2048, 512), (16, 16)),
    Case("wi", 8, 128, (512, 2048), (16, 16)),
)
DECODING = (
    Case("wo", 1, 1, (2048, 512), (16, 16)),
    Case("wo", 1, 4, (2048, 512), (16, 16)),
    Case("wo", 8, 1, (2048, 512), (16, 16)),
    Case("wo", 8, 4, (2048, 512), (16, 16)),
    Case("wo", 32, 1, (2048, 512), (16, 16)),
    Case("wi", 8, 1, (512, 2048), (16, 16)),
    Case("wi", 32, 1, (512, 2048), (16, 16)),
)
# Feed-forward kernels of T5 base, v1.1 and v1.0.
T5_BASE = (
    Case("wo", 128, 512, (2048, 768), (16, 16), "bfloat16"),
    Case("wi", 128, 512, (768, 2048), (16, 16), "bfloat16"),
    Case("wo", 128, 512, (3072, 768), (16, 16), "bfloat16"),
    Case("wo", 128, 512, (3072, 768), (8, 8), "bfloat16"),
    Case("wi", 128, 512, (768, 3072), (16, 16), "bfloat16"),
)


def per_example(x, kernel, gates):
    """The baseline, which makes a kernel for each example in memory."""
    return jax.vmap(lambda x, gates: jnp.dot(x, gated_matmul.fold(kernel, gates)))(x, gates)


def gradient_step(product: Callable, argnums: Sequence[int]) -> Callable:
    """The product and its gradients with respect to some of (states, kernel, gates)."""

    # Only chosen arguments are differentiated: no gradient of a frozen kernel is computed.
    def step(*args):
        def of_some(*some):
            chosen = dict(zip(argnums, some, strict=True))
            return product(*(chosen.get(i, arg) for i, arg in enumerate(args)))

        y, gradient = jax.vjp(of_some, *(args[i] for i in argnums))
        # Any cotangent that depends on y, so that the forward product cannot be dropped.
        return y, gradient(jnp.cos(y))

    return step


STEPS = {
    "forward": lambda product: product,
    "gradient": lambda product: gradient_step(product, (0, 1, 2)),
    "frozen": lambda product: gradient_step(product, (0, 2)),
}


def compile_case(case: Case, step: str, device=None) -> dict[str, jax.stages.Compiled]:
    """Compiles a step with each product of a case."""
    sharding = None if device is None else jax.sharding.SingleDeviceSharding(device)
    shapes = [jax.ShapeDtypeStruct(s, case.dtype, sharding=sharding) for s in case.shapes()]
    return {
        name: jax.jit(STEPS[step](product)).lower(*shapes).compile()
        for name, product in case.products().items()
    }


def time_ratios(case: Case, compiled: dict[str, Callable], num_rounds: int) -> dict[str, float]:
    """Each product's median time, relative to the plain product's."""
    keys = jax.random.split(jax.random.key(0), 3)
    args = [jax.random.uniform(k, s, case.dtype) for k, s in zip(keys, case.shapes(), strict=True)]
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    # A decoding step's products are too small for the clock, so they are timed by the hundred.
    num_calls = max(1, min(200, 2**28 // (case.batch * case.length * case.fans[0] * case.fans[1])))
    times = {name: [] for name in compiled}
    for _ in range(num_rounds + 1):  # the first round warms up
        for name, function in compiled.items():
            start = clock()
            for _ in range(num_calls):
                result = function(*args)
            jax.block_until_ready(result)
            times[name].append(clock() - start)
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}
    return {name: median / medians["plain"] for name, median in medians.items()}


def timed_rows(cases: Iterable[Case], steps: Sequence[str], num_rounds: int):
    """One row for each case: time ratios of each step, and the memory of the first step."""
    for case in cases:
        cells = {"gated": [], "per example": []}
        compiled = {step: compile_case(case, step) for step in steps}
        ratios = [time_ratios(case, compiled[step], num_rounds) for step in steps]
        for name, row in cells.items():
            row += [f"{ratio[name]:.2f}" for ratio in ratios]
            row.append(f"{_temp_mib(compiled[steps[0]][name]):.1f}")
        yield [str(case), *cells["gated"], *cells["per example"]]


def estimated_rows(cases: Iterable[Case], device: jax.Device):
    """One row for each case, step and product: the compiler's estimates."""
    for case in cases:
        for step in STEPS:
            compiled = compile_case(case, step, device)
            plain = compiled.pop("plain")
            for name, function in compiled.items():
                yield [
                    str(case),
                    step,
                    name,
                    _ratio(function, plain, "optimal_seconds"),
                    _ratio(function, plain, "flops"),
                    _ratio(function, plain, "bytes accessed"),
                    f"{_temp_mib(function):,.0f}",
                ]


def _temp_mib(compiled: jax.stages.Compiled) -> float:
    return compiled.memory_analysis().temp_size_in_bytes / 2**20


def _ratio(compiled: jax.stages.Compiled, plain: jax.stages.Compiled, what: str) -> str:
    found, baseline = (c.cost_analysis().get(what, -1.0) for c in (compiled, plain))
    return "-" if min(found, baseline) <= 0 else f"{found / baseline:.2f}"


def main() -> None:
    """Prints ratios to the plain product."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topology", help="TPU slice to compile for, such as v5e:2x2")
    parser.add_argument("--num_rounds", type=int, default=9, help="rounds to time")
    args = parser.parse_args()
    if args.topology is not None:
        device = chips.devices(args.topology)[0]
        header = ("T5 base", "step", "product", "time", "FLOPs", "bytes", "temporary MiB")
        print(f"estimates for {device.device_kind}, bfloat16, over the plain product")
        print(text_table.align([header, *estimated_rows(T5_BASE, device)]))
        return
    print(f"time over the plain product's, {jax.devices()[0].device_kind}, float32")
    steps = ("gradient", "frozen", "forward")
    header = [f"{name} {what}" for name in ("gated", "per example") for what in (*steps, "MiB")]
    print(text_table.align([("training", *header), *timed_rows(TRAINING, steps, args.num_rounds)]))
    steps = ("forward",)
    header = [f"{name} {what}" for name in ("gated", "per example") for what in (*steps, "MiB")]
    print(text_table.align([("decoding", *header), *timed_rows(DECODING, steps, args.num_rounds)]))


if __name__ == "__main__":
    main()
