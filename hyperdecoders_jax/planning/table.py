"""Text tables: summary, memory, communication."""

from __future__ import annotations

from collections.abc import Sequence

from hyperdecoders_jax.data import text_table
from hyperdecoders_jax.planning import program_text
from hyperdecoders_jax.planning.estimate import NUM_PRICED, Estimate

_CHOICE = ("slice", "MODEL_PARALLEL", "NUM_MICROBATCHES", "REMAT")


def summary(estimates: Sequence[Estimate], is_for_training: bool = True) -> str:
    """A row for each choice."""
    has_price = any(x.price is not None for x in estimates)
    call, of = ("step", "") if is_for_training else ("batch", f" of {NUM_PRICED:,}")
    header = (
        *_CHOICE, "fits", "GiB", "of", "Mcycles", f"s/{call}", "FLOPs s", "bytes s", "sent s",
        "MFU", "examples/s", f"hours{of}", "cost" if has_price else "chip-hours", "compile s",
    )  # fmt: skip
    rows = []
    for x in estimates:
        available = f"{x.chip.hbm_bytes / 2**30:.2f}"
        if x.figures is None:
            rows.append((*_choice(x), "no", "-", available, *["-"] * 10))
            continue
        roofline = ("-" if y is None else f"{y:.4f}" for y in (x.flops_secs, x.moved_secs))
        rows.append((
            *_choice(x), "yes" if x.fits else "no", gib(x.memory.peak), available,
            f"{x.figures.cycles / 1e6:,.2f}", f"{x.secs:.4f}", *roofline,
            f"{x.sent_secs:.4f}", "-" if x.mfu is None else f"{x.mfu:.1%}",
            f"{x.examples_per_sec:,.0f}", f"{x.hours:,.2f}", f"{x.cost:,.2f}",
            "-" if x.figures.compile_secs is None else f"{x.figures.compile_secs:.0f}",
        ))  # fmt: skip
    lines = [text_table.align([header, *rows])]
    lines += [f"{' '.join(_choice(x))}: {x.problem}" for x in estimates if x.problem]
    return "\n".join(lines)


def memory(estimates: Sequence[Estimate]) -> str:
    """GiB of one chip, by what takes them."""
    names = ("weights", "optimiser", "batch", "temporaries", "logits", "program", "other")
    header = [*_CHOICE, *names, "headroom"]
    header[header.index("logits")] = "(logits)"
    rows = [
        [*_choice(x), *(gib(getattr(x.memory, name)) for name in names), gib(x.headroom_bytes)]
        for x in estimates
        if x.memory is not None
    ]
    return text_table.align([header, *rows])


def communication(estimates: Sequence[Estimate]) -> str:
    """MB that a chip sends in a call, and by how many collectives, by kind."""
    rows = []
    for x in estimates:
        if x.figures is not None:
            sent, counts = x.figures.sent_bytes, x.figures.num_collectives
            cells = (
                f"{sent[kind] / 1e6:,.2f} ({counts[kind]:.0f})" if kind in sent else "-"
                for kind in program_text.COLLECTIVES
            )
            rows.append([*_choice(x), *cells])
    return text_table.align([[*_CHOICE, *program_text.COLLECTIVES], *rows])


def gib(num_bytes: float) -> str:
    """Bytes as GiB."""
    return f"{num_bytes / 2**30:.3f}"


def _choice(x: Estimate) -> tuple[str, ...]:
    return tuple("-" if value is None else str(value) for value in vars(x.choice).values())
