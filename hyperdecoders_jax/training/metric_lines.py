"""Metrics as JSON lines: a step and numbers in, a line at the end of a file out.

A line is `{"step": 100, "kind": "train", "loss": 1.5, …}` or
`{"step": 100, "kind": "eval", "task": "cola", "accuracy": 70.0, …}`; a number that is not finite is
null. A run that resumes from step 80 first drops the lines of later steps, since it will write them
again.
"""

import json
import math
import os
from collections.abc import Mapping

from etils import epath

Value = float | str


def append(path: str | os.PathLike, step: int, kind: str, values: Mapping[str, Value]) -> None:
    """Appends one line."""
    line = {"step": step, "kind": kind, **{name: _to_json(v) for name, v in values.items()}}
    with epath.Path(path).open("a") as file:
        file.write(json.dumps(line) + "\n")


def drop_after(path: str | os.PathLike, step: int) -> None:
    """Drops the lines of steps after `step`, and a last line that was cut off in mid-writing."""
    path = epath.Path(path)
    if not path.exists():
        return
    lines = path.read_text().splitlines()
    kept = [line for line in lines if _is_of_step(line, step)]
    if len(kept) < len(lines):
        path.write_text("".join(line + "\n" for line in kept))


def _is_of_step(line: str, last: int) -> bool:
    try:
        return json.loads(line)["step"] <= last
    except ValueError:
        return False


def _to_json(value: Value) -> Value | None:
    if isinstance(value, str):
        return value
    return float(value) if math.isfinite(value) else None
