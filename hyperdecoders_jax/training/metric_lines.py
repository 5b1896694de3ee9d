"""Metrics of a run as JSON lines, appended to a file.

A line is `{"step": 100, "kind": "train", "loss": 1.5, …}` or, for each task of an evaluation,
`{"step": 100, "kind": "eval", "task": "cola", "accuracy": 70.0, …}`, then one of kind "average"; a
number that is not finite is null. (No writer of clu's can drop the lines that a resumed run writes
again, nor be read back without TensorFlow.)
"""

import json
import math
import os
from collections.abc import Mapping

from etils import epath

from hyperdecoders_jax import files

Value = float | str
# Kinds of lines that an evaluation writes.
OF_EVALUATION = ("eval", "average")


def append(path: str | os.PathLike, step: int, kind: str, values: Mapping[str, Value]) -> None:
    """Appends one line."""
    # JSON has no NaN, and a reader of the file may be no Python program.
    line = {"step": step, "kind": kind, **{name: _to_json(v) for name, v in values.items()}}
    # Opened anew for each line, so that a killed process loses none.
    with epath.Path(path).open("a") as file:
        file.write(json.dumps(line) + "\n")


def evaluated(path: str | os.PathLike, step: int) -> dict[str, dict[str, float]]:
    """The metrics of each task, evaluated at a step; empty if there is no file."""
    path, found = epath.Path(path), {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # Cut off.
        if isinstance(record, dict) and (record.get("step"), record.get("kind")) == (step, "eval"):
            values = {k: x for k, x in record.items() if k not in ("step", "kind", "task")}
            found[record["task"]] = {k: x for k, x in values.items() if x is not None}
    return found


def drop_after(path: str | os.PathLike, step: int, *, is_evaluated: bool = True) -> None:
    """Drops the lines that a run which continues after `step` writes again; atomic.

    These are later ones, one that was cut off, and the step's evaluation unless it `is_evaluated`.
    """
    path = epath.Path(path)
    if not path.exists():
        return
    lines = path.read_text().splitlines()
    kept = [line for line in lines if _is_kept(line, step, is_evaluated)]
    if len(kept) < len(lines):
        files.write_text(path, "".join(line + "\n" for line in kept))


def _is_kept(line: str, last: int, is_evaluated: bool) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    if not isinstance(record, dict) or "step" not in record:
        return True  # Written by somebody else.
    if record["step"] == last and record.get("kind") in OF_EVALUATION:
        return is_evaluated
    return record["step"] <= last


def _to_json(value: Value) -> Value | None:
    if isinstance(value, str):
        return value
    return float(value) if math.isfinite(value) else None
