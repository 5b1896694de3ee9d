"""What the text of a program compiled for a TPU says: estimated cycles by part, and collectives.

XLA's TPU compiler writes an estimate beside each instruction. It is the same for one version of the
compiler and one program, so that it tells programs apart without a chip; it is not a time.
Collectives have none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

# The first pattern that an instruction's name matches says what it belongs to.
PARTS = {
    "attention core": r"_read/|bhqk",
    "dropout": r"[Dd]ropout|bernoulli|threefry|random_bits|rng_bit",
    "feed-forward": r"mlp/w",
    "adapters": r"vmap|adapter|hypernetwork",
    "projections": r"_project",
    "logits": r"logits",
}
COLLECTIVES = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute",
)  # fmt: skip
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_WHOLE_NUMBER = re.compile(r" = [su]\d+\[\]\S* constant\((\d+)\)")
_COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(")
_BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2}
_BYTES |= {"bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}


class Collective(NamedTuple):
    """All collectives of a kind: how often a step runs one, and the bytes that a chip sends."""

    count: float
    num_bytes: float


def count_cycles(text: str) -> dict[str, int]:
    """Cycles by part, from the text of a compiled program; loops count as often as they run."""
    found = dict.fromkeys([*PARTS, "other"], 0)
    for line, times in _instructions(_computations(text), "ENTRY", 1):
        if cycles := _CYCLES.search(line):
            named = re.search(r'op_name="([^"]*)"', line)
            name = named[1] if named else ""
            parts = (part for part, pattern in PARTS.items() if re.search(pattern, name))
            found[next(parts, "other")] += int(cycles[1]) * times
    return found


def repetition(text: str) -> float:
    """Cycles that run by cycles that are written: how much more loops do than their bodies say."""
    run = written = 0
    for line, times in _instructions(_computations(text), "ENTRY", 1):
        if cycles := _CYCLES.search(line):
            run, written = run + int(cycles[1]) * times, written + int(cycles[1])
    return run / written if written else 1.0


def count_collectives(text: str) -> dict[str, Collective]:
    """Communication by kind; see `list_collectives`."""
    found = list_collectives(text)
    return {
        kind: Collective(*map(sum, zip(*rows, strict=True)))
        for kind in COLLECTIVES
        if (rows := [collective for (name, _), collective in found if name == kind])
    }


def list_collectives(text: str) -> list[tuple[tuple[str, str], Collective]]:
    """(kind, the operation that needs it) of each collective; loops count as often as they run.

    Bytes are those that a ring needs: a chip of `n` sends `(n - 1) / n` of what it gathers, and
    twice as much where it reduces for all.
    """
    computations, by_channel = _computations(text), {}
    of_all = re.match(r"HloModule .*\bnum_partitions=(\d+)", text)
    num_chips = int(of_all[1]) if of_all else 1
    for line, times in _instructions(computations, "ENTRY", 1):
        # The steps of one that runs beside others' work are fused with that, each in its own
        # computation and all of one channel.
        for inner in (line, *_called(computations, line)):
            if found := _COLLECTIVE.search(inner):
                channel = re.search(r"channel_id=(\d+)", inner)
                key = (found[2], channel[1] if channel else inner)
                named = re.search(r'op_name="([^"]*)"', inner)
                place = (found[2], named[1] if named else "")
                num_bytes = times * _sent_bytes(inner, found[1], found[2], num_chips)
                by_channel[key] = (place, Collective(times, num_bytes))
    return list(by_channel.values())


def _called(computations: Mapping[str, Sequence[str]], line: str) -> Iterator[str]:
    for name in re.findall(r"calls=%?([\w.\-]+)", line):
        for inner in computations.get(name, ()):
            yield inner
            yield from _called(computations, inner)


def _sent_bytes(line: str, result: str, kind: str, num_chips: int) -> float:
    shapes = re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", result)
    group, size = _group_size(line, num_chips), 0.0
    is_start = "-start(" in line
    for dtype, shape in shapes:
        if not (is_start and (dtype, shape) == ("u32", "")):  # A counter of what is waited for.
            size += _BYTES.get(dtype, 4) * math.prod(map(int, filter(None, shape.split(","))))
    if is_start and kind != "all-reduce":  # The others have their operands in the result, too.
        operands = {"all-gather": 1 / group, "reduce-scatter": group}
        size /= 1 + operands.get(kind, 1)
    share = (group - 1) / group
    factors = {"all-reduce": 2 * share, "reduce-scatter": group - 1, "collective-permute": 1}
    return size * factors.get(kind, share)


def _group_size(line: str, num_chips: int) -> int:
    """Chips that take part in a collective, as one of three notations writes it."""
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(found[1])
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return found[1].count(",") + 1
    if found := re.search(r"replica_groups=mesh\[(.*?)\] ?\{(.*?)\}", line):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", found[1]))
        return math.prod(int(sizes.get(axis, 1)) for axis in re.findall(r"'([^']+)'", found[2]))
    return num_chips  # Of no groups, written {}, or of pairs.


def _computations(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)
        if header:
            lines = found["ENTRY" if header[1] else header[2]] = []
        elif line.startswith("  "):
            lines.append(line)
    return found


def _instructions(
    computations: Mapping[str, Sequence[str]], name: str, times: int
) -> Iterator[tuple[str, int]]:
    """Each instruction that runs, with how often it does; of branches, the costliest one's.

    ValueError for a loop whose trip count the text does not say.
    """
    for line in computations.get(name, ()):
        if loop := re.search(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)", line):
            runs = times * _trip_count(computations, line, loop[1])
            yield from _instructions(computations, loop[2], runs)
            continue
        yield line, times
        if " conditional(" in line:
            branches = [list(_instructions(computations, x, times)) for x in _branches(line)]
            is_counted = _CYCLES.search(line)  # The branch's cycles, which then count once.
            for inner, runs in max(branches, key=_cycles, default=()):
                yield _CYCLES.sub("", inner) if is_counted else inner, runs


def _cycles(instructions: Sequence[tuple[str, int]]) -> int:
    found = ((_CYCLES.search(line), times) for line, times in instructions)
    return sum(int(cycles[1]) * times for cycles, times in found if cycles)


def _branches(line: str) -> list[str]:
    """Computations of which a `conditional` runs one."""
    if listed := re.search(r"branch_computations=\{(.*?)\}", line):
        return re.findall(r"[\w.\-]+", listed[1])
    return re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line)


def _trip_count(computations: Mapping[str, Sequence[str]], line: str, condition: str) -> int:
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
        return int(known[1])
    # Loops of JAX count from 0 to the one whole number that their condition holds, which may be
    # inside a fusion. Those that may end early, as decoding does, count in full.
    lines = computations.get(condition, ())
    lines = [*lines, *(inner for x in lines for inner in _called(computations, x))]
    limits = {found[1] for x in lines if (found := _WHOLE_NUMBER.search(x))}
    if len(limits) != 1 or not any(" compare(" in x for x in lines):
        name = line.partition(" = ")[0].strip()
        raise ValueError(
            f"A loop must say how often it runs; got {name}, whose condition {condition} compares "
            f"with {len(limits)} whole numbers. Use jax.lax.scan, or a limit known in advance."
        )
    return int(limits.pop())
