"""Cost estimate of one slice and partitioning: memory, seconds, hours and money."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hyperdecoders_jax.planning.chips import Chip
from hyperdecoders_jax.planning.programs import Figures

# Examples that decoding is priced for: it is no experiment that ends.
NUM_PRICED = 1_000_000


@dataclasses.dataclass(frozen=True)
class Choice:
    """A slice, and the macros that share and save memory; None where there is no training."""

    topology: str
    model_parallel: int
    num_microbatches: int | None = None
    remat: str | None = None

    @property
    def flags(self) -> str:
        """What `train`, or a command that decodes, is to be given.

        >>> Choice("v5e:2x2", 2, 1, "layer").flags
        '--gin.MODEL_PARALLEL=2 --gin.NUM_MICROBATCHES=1 --gin.REMAT=layer'
        >>> Choice("v5e:2x2", 2).flags
        '--gin.MODEL_PARALLEL=2'
        """
        macros = vars(self).items()
        return " ".join(
            f"--gin.{name.upper()}={value}"
            for name, value in macros
            if name != "topology" and value is not None
        )


@dataclasses.dataclass(frozen=True)
class Work:
    """Workload: calls, examples and FLOPs.

    Attributes:
        num_calls: steps of the experiment; of decoding, batches of `NUM_PRICED` examples.
        num_examples: of one call; of packed rows without EXAMPLES_PER_STEP, rows.
        flops: that the mathematics of one call need; None for decoding.
    """

    num_calls: float
    num_examples: float
    flops: float | None


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one chip, by what takes them; `logits` are some of the temporaries."""

    weights: float
    optimiser: float
    batch: float
    temporaries: float
    logits: float
    program: float
    other: float  # Padding of arrays to the chip's tiles, and counters.

    @property
    def peak(self) -> float:
        """Most bytes that are in use at once."""
        return sum(vars(self).values()) - self.logits


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Cost estimate of one slice and partitioning; `problem` says why there are no figures."""

    choice: Choice
    chip: Chip
    num_chips: int
    work: Work
    figures: Figures | None = None
    memory: Memory | None = None
    problem: str | None = None
    price: float | None = None  # Of one chip for an hour.

    @property
    def fits(self) -> bool:
        """Whether it can be run."""
        return self.memory is not None and self.memory.peak <= self.chip.hbm_bytes

    @property
    def headroom_bytes(self) -> float:
        """Memory that is left; below 0 where it does not fit."""
        return self.chip.hbm_bytes - self.memory.peak

    @property
    def sent_secs(self) -> float:
        """Communication of a call over one link."""
        return sum(self.figures.sent_bytes.values()) / self.chip.link_bandwidth

    @property
    def secs(self) -> float:
        """Seconds of a call: the compiler's cycles, plus communication, assuming no overlap."""
        return self.figures.cycles / self.chip.clock + self.sent_secs

    @property
    def flops_secs(self) -> float | None:
        """The roofline of arithmetic: the mathematics' FLOPs at the chip's peak; None for decoding.

        What is computed again is not among them: XLA's count of a program has a loop's body once.
        """
        if self.work.flops is None:
            return None
        return self.work.flops / self.num_chips / self.chip.flops

    @property
    def moved_secs(self) -> float | None:
        """The time to move all operands and results, of which some stay in the fast memory.

        None for decoding: much of it is outside its loop, so `Figures.moved_bytes` is wrong.
        """
        if self.work.flops is None:
            return None
        return self.figures.moved_bytes / self.chip.hbm_bandwidth

    @property
    def mfu(self) -> float | None:
        """The share of the chips' FLOPs that the mathematics need."""
        return None if self.flops_secs is None else self.flops_secs / self.secs

    @property
    def examples_per_sec(self) -> float:
        """Of the whole slice."""
        return self.work.num_examples / self.secs

    @property
    def hours(self) -> float:
        """Of the experiment's steps, without evaluations, checkpoints and compiling."""
        return self.work.num_calls * self.secs / 3600

    @property
    def cost(self) -> float:
        """Money, or without a price chip-hours."""
        return self.hours * self.num_chips * (1.0 if self.price is None else self.price)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        told = {
            **dataclasses.asdict(self.choice),
            "num_chips": self.num_chips,
            "fits": self.fits,
            "problem": self.problem,
        }
        if self.figures is None:
            return told
        names = (
            "headroom_bytes", "secs", "sent_secs", "flops_secs", "moved_secs", "mfu",
            "examples_per_sec", "hours",
        )  # fmt: skip
        told |= {name: getattr(self, name) for name in names}
        told["chip_hours" if self.price is None else "cost"] = self.cost
        memory = {**vars(self.memory), "peak": self.memory.peak}
        return told | {"memory": memory, "compiled": dataclasses.asdict(self.figures)}


def pick(estimates: Sequence[Estimate]) -> Estimate | None:
    """The cheapest that fits, without prices that of the fewest chip-hours; None if none fits."""
    return min((x for x in estimates if x.fits), key=lambda x: x.cost, default=None)


def parse_prices(text: str | None, chips: Sequence[str]) -> Mapping[str, float | None]:
    """Price of a chip-hour by chip.

    >>> parse_prices("1.2", ["v5e"]), parse_prices("v5e=1.2,v5p=4.2", ["v5p"])
    ({'v5e': 1.2}, {'v5p': 4.2})
    >>> parse_prices(None, ["v5e"])
    {'v5e': None}
    """
    if text is None:
        return dict.fromkeys(chips)
    pairs = [part.rpartition("=") for part in text.split(",")]
    try:
        prices = {name: float(value) for name, _, value in pairs}
        found = {chip: prices[chip] if chip in prices else prices[""] for chip in chips}
    except (ValueError, KeyError):
        found = {}
    if not found or not all(0 < price < float("inf") for price in found.values()):
        raise ValueError(
            f"--price must be what a chip costs an hour, for each of {', '.join(chips)}; got "
            f"{text!r}. Write --price=1.20, or --price={','.join(f'{x}=1.20' for x in chips)}."
        )
    return found
