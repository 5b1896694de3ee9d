"""Files of a study: numbers as JSON, tables as text, a page and pictures."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.analysis import ablations, maps, page, pictures, results
from hyperdecoders_jax.data import text_table

RESULTS_FILE, TEXT_FILE, PAGE_FILE = "results.json", "tables.txt", "page.html"
PICTURES_FOLDER = "pictures"


def write(output_dir: epath.PathLike, found: results.Study, about: Mapping[str, Any]) -> None:
    """Writes numbers, tables as text, the page and the pictures into an existing folder.

    `about` says what was studied, as JSON takes it: "mixture", "split", "checkpoint" and more.
    """
    folder = epath.Path(output_dir)
    # Other programs read it: an unexpected NaN is an error here rather than invalid JSON there.
    numbers = json.dumps(_to_dict(found, about), indent=1, allow_nan=False)
    files.write_text(folder / RESULTS_FILE, numbers + "\n")
    # Before maps and pictures, which take longer and need further packages.
    files.write_text(folder / TEXT_FILE, text(found, about) + "\n")
    features = found.examples.features
    key = "condition" if "condition" in features else "pooled"
    layout = maps.Layout(maps.make(found.examples), maps.neighbours(features[key]), key)
    (folder / PICTURES_FOLDER).mkdir(exist_ok=True)
    pictures.write(folder / PICTURES_FOLDER, found, layout.positions)
    about_page = [_describe(about), *captions(found)]
    page.write(folder / PAGE_FILE, found, layout, title(about), about_page)


def captions(found: results.Study) -> list[str]:
    """Sentences that a reader needs to understand the tables."""
    num_tasks, num_drawn = len(set(found.examples.tasks)), len(found.examples)
    lines = [f"{found.num_examples:,} examples of {num_tasks} task{'s'[: num_tasks > 1]}"]
    # Some exported folders do not know their step.
    lines[0] += f", at step {found.step}." if found.step else "."
    if num_drawn < found.num_examples:
        lines += [f"Probes and maps are of {num_drawn:,} of them, drawn from each task at random."]
    if not found.readers:
        lines.append(
            "Nothing of this model reads a condition: all examples, or all of a task, are adapted "
            "alike, and no ablation changes anything."
        )
        return lines
    lines.append(f"What reads a condition: {', '.join(found.readers)}.")
    if len(found.readers) > 1:
        lines.append(
            'Ablations replace the conditions of all of them; as "condition" that of '
            f"{found.readers[0]} is probed and shown."
        )
    for side in dict.fromkeys(row.side for row in found.variances):
        if not any(sum(row.shares) for row in found.variances if row.side == side):
            lines.append(f"Mind that {side} writes the same for all examples.")
    return lines


def title(about: Mapping[str, Any]) -> str:
    """The model and the data that were studied.

    >>> title({"checkpoint": "runs/glue_hyperdecoder/", "mixture": "glue", "split": "validation"})
    'glue_hyperdecoder on glue, validation'
    """
    model = str(about["checkpoint"]).rstrip("/").rpartition("/")[2]
    return f"{model} on {about['mixture']}, {about['split']}"


def _describe(about: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in about.items()) + "."


def text(found: results.Study, about: Mapping[str, Any]) -> str:
    """All tables as text."""
    parts = [_describe(about), *captions(found), _task_table(found.tasks)]
    if found.ablations:
        parts.append(
            "Metrics with own conditions, and what others change (95 % interval; same: not one "
            "prediction changes)\n" + _ablation_table(found.ablations)
        )
    if found.probes:
        heading = "What vectors tell, and tell of shuffled groups"
        parts.append(f"{heading}\n{_probe_table(found.probes)}")
    if found.variances:
        heading = "Where what is written for a layer varies"
        parts.append(f"{heading}\n{_variance_table(found.variances)}")
    return "\n\n".join(parts)


def _task_table(rows: Sequence[results.Task]) -> str:
    lines = [("task", "examples", "output type", "labels", "correct (%)")]
    for row in rows:
        labels, correct = f"{row.num_labels:,}" if row.num_labels else "-", f"{row.correct:.1f}"
        lines.append((row.name, f"{row.num_examples:,}", row.output_type, labels, correct))
    return text_table.align(lines)


def _ablation_table(rows: Sequence[results.Ablation]) -> str:
    """One line for each metric of a task, one column for each condition."""
    kinds = list(dict.fromkeys(row.condition for row in rows))
    of_metric: dict[tuple[str, str], dict[str, results.Ablation]] = {}
    for row in rows:
        of_metric.setdefault((row.task, row.metric), {})[row.condition] = row
    lines = [("task", "metric", *kinds)]  # The first kind is "own", in full; others are changes.
    for (task, metric), found in of_metric.items():
        own = f"{found[ablations.OWN].value:.1f}"
        changes = [found[kind].change if kind in found else "-" for kind in kinds[1:]]
        lines.append((task, metric, own, *changes))
    return text_table.align(lines)


def _probe_table(rows: Sequence[results.Probe]) -> str:
    lines = [("groups", "vector", "method", "score", "95 % interval", "shuffled", "examples")]
    for row in rows:
        group = f"{row.grouping} ({row.task})" if row.task else row.grouping
        score, low, high, shuffled = row.rounded
        numbers = (score, f"{low} to {high}", shuffled, f"{row.num_examples:,}")
        lines.append((group, row.features, row.method, *numbers))
    return text_table.align(lines)


def _variance_table(rows: Sequence[results.Variance]) -> str:
    head = ("written by", "layer", "between tasks", "between labels", "within labels")
    lines = [(row.side, str(row.layer), *(f"{x:.1%}" for x in row.shares)) for row in rows]
    return text_table.align([head, *lines])


def _to_dict(found: results.Study, about: Mapping[str, Any]) -> dict[str, Any]:
    """All results but the examples, which are in the table."""
    tables = ("tasks", "probes", "ablations", "variances")
    return {
        **about,
        "step": found.step,
        "num_examples": found.num_examples,
        "num_drawn_examples": len(found.examples),
        "readers": list(found.readers),
        **{name: [_row(row) for row in getattr(found, name)] for name in tables},
    }


def _row(row: Any) -> dict[str, Any]:
    """Fields of a row; None for NaN and infinity, which JSON does not have."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in dataclasses.asdict(row).items()
    }
