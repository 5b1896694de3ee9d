"""Predictions as JSON lines, one example a line."""

import dataclasses
import itertools
import json
import math
import os
from collections.abc import Iterable
from typing import Any

from etils import epath

from hyperdecoders_jax import files


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's prediction for one example."""

    input: str
    target: str
    prediction: str  # The best generated text, as decoded, before any postprocessing.
    # The sum of its tokens' log probabilities, EOS included; in a file null where not finite.
    log_likelihood: float
    task: str


def write(
    path: str | os.PathLike[str],
    predictions: Iterable[Prediction],
    kept: Iterable[str] = (),
) -> int:
    """Writes a file atomically, line by line as predictions come; returns how many.

    Makes the file's folder, replaces the file of before. `kept` are JSON objects with columns of
    the first examples' rows, written before predictions. OSError, with what to do, if the file
    cannot be written.
    """
    path = epath.Path(path)
    with files.writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with files.replacing(path) as write_part:
        for prediction, row in zip(
            predictions, itertools.chain(kept, itertools.repeat("{}")), strict=False
        ):
            line = _to_json(prediction)
            write_part((line if row == "{}" else f"{row[:-1]}, {line[1:]}").encode() + b"\n")
            count += 1
    return count


def _to_json(prediction: Prediction) -> str:
    fields = dict(vars(prediction))
    if not math.isfinite(prediction.log_likelihood):  # JSON has neither NaN nor infinity.
        fields["log_likelihood"] = None
    return json.dumps(fields, ensure_ascii=False, allow_nan=False)


def read(path: str | os.PathLike[str]) -> list[Prediction]:
    """Reads what `write` wrote, null as NaN; ValueError for a line that is not a prediction."""
    predictions = []
    fields = [field.name for field in dataclasses.fields(Prediction)]
    # Not splitlines, which also cuts at U+2028 and others that JSON allows inside strings.
    for number, line in enumerate(epath.Path(path).read_bytes().split(b"\n"), start=1):
        if not line:
            continue
        try:
            record = json.loads(line.decode())
            predictions.append(_from_json({name: record[name] for name in fields}))
        except (TypeError, ValueError, KeyError, RecursionError) as error:
            raise ValueError(
                f"Every line must be a JSON object with the keys {fields}, a number and texts; "
                f"line {number} of {path} is {line[:80].decode(errors='replace')!r}. Give a file "
                "that an evaluation wrote."
            ) from error
    return predictions


def _from_json(fields: Any) -> Prediction:
    """A line's prediction; TypeError if its keys or their types are others."""
    found = Prediction(**fields)
    if found.log_likelihood is None:
        found = dataclasses.replace(found, log_likelihood=math.nan)
    for name, value in vars(found).items():
        wanted = int | float if name == "log_likelihood" else str
        if not isinstance(value, wanted):
            raise TypeError(f"{name} must be of type {wanted}; got {value!r}.")
    return found
