"""Metrics of a run as JSON lines, appended to a file.

A line is `{"step": 100, "kind": "train", "loss": 1.5, …}` or, for each task of an evaluation,
`{"step": 100, "kind": "eval", "task": "cola", "accuracy": 70.0, …}`, then one of kind "average"; a
number that is not finite is null. (No writer of clu's can drop the lines that a resumed run writes
again, nor be read back without TensorFlow.)
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from absl import logging
from etils import epath

from hyperdecoders_jax import files

Value = float | str
# Kinds of lines that an evaluation writes.
OF_EVALUATION = ("eval", "average")


def append(path: str | os.PathLike, step: int, kind: str, values: Mapping[str, Value]) -> None:
    """Appends one line; OSError, with what to do, where it cannot be written."""
    # JSON has no NaN, and a reader of the file may be no Python program.
    line = {"step": step, "kind": kind, **{name: _to_json(v) for name, v in values.items()}}
    # Opened anew for each line, so that a killed process loses none.
    with files.writing(path), epath.Path(path).open("a") as file:
        file.write(json.dumps(line) + "\n")


def evaluated(path: str | os.PathLike, step: int) -> dict[str, dict[str, float]]:
    """The metrics of each task, evaluated at a step; empty if there is no file.

    Lines of other contents than `append` writes are skipped.
    """
    found = {}
    for line in _read(epath.Path(path)):
        task = line.field("task")
        if (line.field("step"), line.field("kind")) == (step, "eval") and isinstance(task, str):
            values = {name: x for name, x in line.record.items() if name != "step"}
            found[task] = {name: x for name, x in values.items() if isinstance(x, int | float)}
    return found


def drop_after(path: str | os.PathLike, step: int, *, is_evaluated: bool = True) -> None:
    """Drops the lines that a run which continues after `step` writes again; atomic.

    These are later ones, one that was cut off, and the step's evaluation unless it `is_evaluated`.
    Lines of others stay, and the last one gets its newline. Of damaged lines, bytes that are no
    UTF-8 become U+FFFD, and what is no JSON goes; a warning says so, and a copy is kept.
    """
    path = epath.Path(path)
    lines, before = _read(path), path.read_bytes() if path.exists() else b""
    content = "".join(f"{x.text}\n" for x in lines if _is_kept(x, step, is_evaluated)).encode()
    if content == before:
        return
    if damaged := [str(x.number) for x in lines if x.is_damaged]:
        copy = path.parent / f"{path.name}.damaged"
        files.write_bytes(copy, before)
        logging.warning(
            "Lines of %s are damaged, being no UTF-8 or no JSON: %s. They are mended or dropped; "
            "%s is the file as it was.", path, ", ".join(damaged[:8]), copy.name,
        )  # fmt: skip
    files.write_bytes(path, content)


@dataclasses.dataclass(frozen=True)
class _Line:
    number: int  # From 1.
    text: str
    record: Any  # What its JSON holds; None where it is no JSON.
    is_json: bool
    is_damaged: bool  # Not where it was cut off, as a killed process leaves its last line.

    def field(self, name: str) -> Any:
        return self.record.get(name) if isinstance(self.record, dict) else None


def _read(path: epath.Path) -> list[_Line]:
    """The lines of a file; none where there is no file."""
    *whole, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
    lines = []
    for number, line in enumerate([*whole, rest] if rest else whole, start=1):
        text, record, is_json = line.decode(errors="replace"), None, True
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            is_json = False
        is_cut = not is_json and number > len(whole)
        is_damaged = text.encode() != line or not is_json
        lines.append(_Line(number, text, record, is_json, is_damaged and not is_cut))
    return lines


def _is_kept(line: _Line, last: int, is_evaluated: bool) -> bool:
    step = line.field("step")
    if not line.is_json or not isinstance(step, int):
        return line.is_json  # Written by somebody else.
    if step == last and line.field("kind") in OF_EVALUATION:
        return is_evaluated
    return step <= last


def _to_json(value: Value) -> Value | None:
    if isinstance(value, str):
        return value
    return float(value) if math.isfinite(value) else None
