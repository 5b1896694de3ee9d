"""Predictions as JSON lines, one example a line."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.data import row_files


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's prediction for one example."""

    input: str
    target: str
    prediction: str  # The best generated text, as decoded, before any postprocessing.
    log_likelihood: float  # The sum of its tokens' log probabilities, EOS included.
    task: str


def write(
    path: str | os.PathLike[str],
    predictions: Iterable[Prediction],
    kept: Iterable[Mapping[str, Any]] | None = None,
) -> None:
    """Writes a file atomically; makes its folder, replaces the file of before.

    `kept` are columns of each example's row, written before its prediction.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(dataclasses.asdict(p), ensure_ascii=False) + "\n" for p in predictions]
    if kept is not None:
        # The first examples may be all that were predicted.
        rows = (row_files.to_json(row)[:-1] for row in kept)
        lines = [
            f"{row}{', ' if len(row) > 1 else ''}{line[1:]}"
            for row, line in zip(rows, lines, strict=False)
        ]
    files.write_text(path, "".join(lines))


def read(path: str | os.PathLike[str]) -> list[Prediction]:
    """Reads what `write` wrote; raises ValueError for a line that is not a prediction."""
    predictions = []
    fields = [field.name for field in dataclasses.fields(Prediction)]
    # Not splitlines, which also cuts at U+2028 and others that JSON allows inside strings.
    for number, line in enumerate(epath.Path(path).read_text().split("\n"), start=1):
        if not line:
            continue
        try:
            record = json.loads(line)
            predictions.append(Prediction(**{name: record[name] for name in fields}))
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(
                f"Every line must be a JSON object with the keys {fields}; line {number} of {path} "
                f"is {line[:80]!r}. Give a file that an evaluation wrote."
            ) from error
    return predictions
