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

RESULTS_FILE = "results.json"
TEXT_FILE = "tables.txt"
PAGE_FILE = "page.html"
PICTURES_FOLDER = "pictures"


def write(output_dir: epath.PathLike, found: results.Study, about: Mapping[str, Any]) -> None:
    """Writes numbers, tables as text, the page and the pictures.

    Args:
        output_dir: existing folder, with the table of examples.
        found: the study.
        about: what was studied, as JSON takes it: "mixture", "split", "checkpoint" and more.
    """
    folder = epath.Path(output_dir)
    # Other programs read it: an unexpected NaN is an error here rather than invalid JSON there.
    files.write_text(
        folder / RESULTS_FILE, json.dumps(_to_dict(found, about), indent=1, allow_nan=False) + "\n"
    )
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
        lines.append(
            f"Probes and maps are of {num_drawn:,} of them, drawn from each task at random."
        )
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
    """Short name of what was studied.

    >>> title({"mixture": "glue", "split": "validation"})
    'glue, validation'
    """
    return f"{about['mixture']}, {about['split']}"


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
        parts.append(
            "What vectors tell, and tell of shuffled groups\n" + _probe_table(found.probes)
        )
    if found.variances:
        parts.append(
            "Where what is written for a layer varies\n" + _variance_table(found.variances)
        )
    return "\n\n".join(parts)


def _task_table(rows: Sequence[results.Task]) -> str:
    lines = [("task", "examples", "output type", "labels", "correct (%)")]
    for row in rows:
        labels = f"{row.num_labels:,}" if row.num_labels else "-"
        lines.append(
            (row.name, f"{row.num_examples:,}", row.output_type, labels, f"{row.correct:.1f}")
        )
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
        lines.append((task, metric, own, *(_change(found.get(kind)) for kind in kinds[1:])))
    return text_table.align(lines)


def _change(row: results.Ablation | None) -> str:
    if row is None:
        return "-"
    if row.is_same:
        return "same"
    # NaN: too few examples for an interval.
    interval = "" if math.isnan(row.low) else f" [{row.low:+.1f}, {row.high:+.1f}]"
    return f"{row.difference:+.1f}{interval}"


def _probe_table(rows: Sequence[results.Probe]) -> str:
    lines = [("groups", "vector", "method", "score", "95 % interval", "shuffled", "examples")]
    for row in rows:
        digits = 2 if row.method == "silhouette" else 1
        lines.append(
            (
                f"{row.grouping} ({row.task})" if row.task else row.grouping,
                row.features,
                row.method,
                f"{row.score:.{digits}f}",
                f"{row.low:.{digits}f} to {row.high:.{digits}f}",
                f"{row.shuffled:.{digits}f}",
                f"{row.num_examples:,}",
            )
        )
    return text_table.align(lines)


def _variance_table(rows: Sequence[results.Variance]) -> str:
    lines = [("written by", "layer", "between tasks", "between labels", "within labels")]
    for row in rows:
        lines.append((row.side, str(row.layer), *(f"{share:.1%}" for share in row.shares)))
    return text_table.align(lines)


def _to_dict(found: results.Study, about: Mapping[str, Any]) -> dict[str, Any]:
    """All results but the examples, which are in the table."""
    tables = {
        "tasks": found.tasks,
        "probes": found.probes,
        "ablations": found.ablations,
        "variances": found.variances,
    }
    return {
        **about,
        "step": found.step,
        "num_examples": found.num_examples,
        "num_drawn_examples": len(found.examples),
        "readers": list(found.readers),
        **{name: [_row(row) for row in rows] for name, rows in tables.items()},
    }


def _row(row: Any) -> dict[str, Any]:
    """Fields of a row; None for NaN and infinity, which JSON does not have."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in dataclasses.asdict(row).items()
    }
