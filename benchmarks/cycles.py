"""Estimated cycles of a program that was compiled for a TPU, by part of the model.

XLA's TPU compiler writes an estimate beside each instruction. It is the same for one version of the
compiler and one program, so that it tells programs apart without a chip; it is not a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# The first pattern that an instruction's name matches says what it belongs to.
PARTS = {
    "attention core": r"_read/|bhqk",
    "dropout": r"[Dd]ropout|bernoulli|threefry|random_bits|rng_bit",
    "feed-forward": r"mlp/w",
    "adapters": r"vmap|adapter|hypernetwork",
    "projections": r"_project",
    "logits": r"logits",
}


def count(text: str) -> dict[str, int]:
    """Cycles by part, from the text of a compiled program; loops count as often as they run."""
    found = dict.fromkeys([*PARTS, "other"], 0)
    for cycles, name in _instructions(_computations(text), "ENTRY", 1):
        parts = (part for part, pattern in PARTS.items() if re.search(pattern, name))
        found[next(parts, "other")] += cycles
    return found


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
    computations: dict[str, list[str]], name: str, times: int
) -> Iterator[tuple[int, str]]:
    for line in computations.get(name, ()):
        if loop := re.search(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)", line):
            runs = times * _trip_count(line, computations[loop[1]])
            yield from _instructions(computations, loop[2], runs)
        elif cycles := re.search(r'"estimated_cycles":"(\d+)"', line):
            named = re.search(r'op_name="([^"]*)"', line)
            yield int(cycles[1]) * times, named[1] if named else ""


def _trip_count(line: str, condition: list[str]) -> int:
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', line):
        return int(known[1])
    # Loops of JAX count from 0 to the one number that their condition holds.
    limits = [found[1] for x in condition if (found := re.search(r" constant\((\d+)\)", x))]
    return int(limits[0]) if len(limits) == 1 else 1
