"""TPU chips that the compiler knows, and slices of them that are described, not attached."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator

import jax

from hyperdecoders_jax import errors


@dataclasses.dataclass(frozen=True)
class Chip:
    """Speeds and memory of one chip.

    Attributes:
        hbm_bytes: memory that a program may use; what the compiler says when one needs more.
        flops: products and sums of bfloat16 a second, at most.
        hbm_bandwidth: bytes a second between memory and chip.
        link_bandwidth: bytes a second that one link to another chip carries one way.
        clock: cycles a second, `flops` / (FLOPs of the matrix units in a cycle). Those are 131,072
            for v5e, 262,144 for v5p and, as an assumption, 524,288 for v6e.
        example: a slice, as `--topology` names it.

    Source: docs.cloud.google.com/tpu/docs/v5e, v5p and v6e; `hbm_bytes` of libtpu 0.0.52.
    """

    hbm_bytes: int
    flops: float
    hbm_bandwidth: float
    link_bandwidth: float
    clock: float
    example: str


_GIB = 2**30
# A chip's bandwidth to others is told for all its links, both ways: 400, 1,200 and 800 GB/s over
# four, six and four.
CHIPS = {
    "v5e": Chip(int(15.75 * _GIB), 197e12, 819e9, 50e9, 1.50e9, "v5e:2x2"),
    "v5p": Chip(int(95.73 * _GIB), 459e12, 2765e9, 100e9, 1.75e9, "v5p:2x2x1"),
    "v6e": Chip(int(31.24 * _GIB), 918e12, 1638e9, 100e9, 1.75e9, "v6e:2x2"),
}
# Off a TPU VM libtpu would wait for its metadata server, and complain of variables that such a
# machine has; a compiler alone may be loaded beside another process's. A flag of XLA_FLAGS that it
# does not know, such as one for CPUs, would end the process.
_OFF_A_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}


def of(topology: str) -> Chip:
    """The chip of a slice such as v5e:2x2; ValueError for one that is not known."""
    name = topology.partition(":")[0]
    if name not in CHIPS:
        raise ValueError(f"{_must(topology)}.{errors.suggestion(name, CHIPS)} Correct it.")
    return CHIPS[name]


def devices(topology: str) -> list[jax.Device]:
    """The chips of a slice that is not attached.

    ImportError without the TPU's compiler, or with one of another JAX; ValueError where there is
    no such slice.
    """
    of(topology)
    _check_compiler()
    from jax.experimental import topologies

    with off_a_tpu():
        try:
            described = topologies.get_topology_desc(
                platform="tpu", topology_name=topology, **_host_of(topology)
            )
        except jax.errors.JaxRuntimeError as error:
            if "INVALID_ARGUMENT" not in str(error):
                raise
            reason = str(error).partition(": ")[2].partition("\n")[0].rstrip(".")
            raise ValueError(f"{_must(topology)} ({reason}). Correct it.") from error
    return described.devices


def _host_of(topology: str) -> dict[str, tuple[int, ...]]:
    """What the compiler must be told of a machine of one chip, such as v5e:1x1."""
    sizes = topology.partition(":")[2].split("x")
    return {"chips_per_host_bounds": (1, 1, 1)} if set(sizes) == {"1"} else {}


def _check_compiler() -> None:
    if importlib.util.find_spec("libtpu") is None:
        raise ImportError(
            "Compiling for a TPU needs its compiler, libtpu; it is not installed here. Run: "
            "pip install 'hyperdecoders_jax[train,tpu]'; it needs no TPU."
        )
    try:
        found = importlib.metadata.version("libtpu")
    except importlib.metadata.PackageNotFoundError:  # A nightly one has another name.
        return
    asked = [x for x in importlib.metadata.requires("jax") or () if x.startswith("libtpu==")]
    for requirement in asked:
        version = requirement.partition("==")[2].partition(";")[0].strip()
        # Another one's programs may have instructions that JAX cannot read.
        if not f"{found}.".startswith(version.rstrip("*")):
            raise ImportError(
                f"The TPU's compiler must be the one that JAX asks for, libtpu {version}; got "
                f"{found}. Run: pip install 'libtpu=={version}'"
            )


def _must(topology: str) -> str:
    known = ", ".join(chip.example for chip in CHIPS.values())
    return f"A slice must be named by its chip and shape, such as {known}; got {topology!r}"


@contextlib.contextmanager
def off_a_tpu() -> Iterator[None]:
    """The environment that the compiler needs on any machine, while it is loaded and compiles."""
    jax.devices()  # Those attached read XLA_FLAGS before it is removed.
    before = dict(os.environ)
    os.environ.update({name: x for name, x in _OFF_A_TPU.items() if name not in before})
    os.environ.pop("XLA_FLAGS", None)
    try:
        yield
    finally:
        for name in (*_OFF_A_TPU, "XLA_FLAGS"):
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
