"""An analysis in, one HTML page that shows it out: interactive, whole in itself, for any browser.

The page asks no host for anything. plotly.js is part of it, as the Python package plotly ships it;
examples are packed (zlib, base64), so that 20,000 of them stay a few megabytes and no text of
theirs can end a script. What the page does with them is in page.js.
"""

from __future__ import annotations

import base64
import html
import importlib.resources
import json
import math
import string
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from hyperdecoders_jax import files
from hyperdecoders_jax.analysis import groups
from hyperdecoders_jax.analysis.results import Ablation, Examples, Probe, Variance

# Longer texts are cut; the table of examples has them whole.
INPUT_CHARS = 200
ANSWER_CHARS = 100

ABLATION_NOTE = (
    "Each task's metric when examples are adapted by another condition than their own; below it "
    "the difference from their own, with its 95 % interval over resampled examples. Bold: the "
    "interval leaves out 0. Of twenty such intervals one does so by mere chance. Same: not one "
    "prediction changes."
)
PROBE_NOTE = (
    "How well groups can be told apart by each kind of vector, on examples held out, with a 95 % "
    "interval: accuracies in %, silhouettes from −1 to 1; below it the same with the groups "
    "shuffled, which is what chance gives."
)
VARIANCE_NOTE = (
    "Where the variance of the generated parameters of each layer lies: between the means of "
    "tasks, between the means of labels within a task, and within labels. Of a task without labels "
    "all that its examples differ in is within."
)


def write(
    path: epath.PathLike,
    examples: Examples,
    maps: Mapping[tuple[str, str], Float[np.ndarray, "examples 2"]],
    neighbours: Int[np.ndarray, "examples k"],
    probes: Sequence[Probe],
    ablations: Sequence[Ablation],
    variances: Sequence[Variance],
    title: str,
    captions: Sequence[str] = (),
    neighbours_by: str = "condition",
) -> None:
    """Writes the page; the same analysis gives the same bytes.

    Args:
      path: of the file; one that is there is replaced.
      examples: what the maps show.
      maps: positions by features and projection; NaN where an example is not on a map.
      neighbours: rows of the examples most like each, the nearest first.
      probes: one section; none, where there are none.
      ablations: likewise.
      variances: likewise.
      title: of the page, plain text.
      captions: paragraphs below the title, plain text: the model, the data, how many examples.
      neighbours_by: the vectors that make them neighbours.

    Raises:
      ImportError: plotly is not installed.
      ValueError: maps or neighbours are not of these examples.
    """
    _check(examples, maps, neighbours)
    sections = {
        "ablations": ("Ablations", ABLATION_NOTE, _ablation_table(ablations)),
        "probes": ("Probes", PROBE_NOTE, _probe_table(probes)),
        "variance": ("Variance by layer", VARIANCE_NOTE, _variance_bars(variances)),
    }
    sections = {name: section for name, section in sections.items() if section[-1]}
    folder = importlib.resources.files("hyperdecoders_jax.analysis")
    text = string.Template((folder / "page.html").read_text("utf-8")).substitute(
        title=html.escape(title),
        captions="".join(f"<p>{html.escape(caption)}</p>" for caption in captions),
        links="".join(f'<a href="#{name}">{section[0]}</a>' for name, section in sections.items()),
        num_examples=f"{len(examples):,}",
        input_chars=INPUT_CHARS,
        answer_chars=ANSWER_CHARS,
        sections="".join(_section(name, *section) for name, section in sections.items()),
        neighbours_by=html.escape(neighbours_by),
        data=_pack(_data(examples, maps, neighbours, variances, neighbours_by)),
        plotly=_plotly_js(),
        style=(folder / "page.css").read_text("utf-8"),
        script=(folder / "page.js").read_text("utf-8"),
    )
    files.write_text(epath.Path(path), text)


def cut(text: str, limit: int) -> str:
    """Ends a text that is longer than `limit` characters with "…", which counts.

    >>> cut("a long story", 7)
    'a long…'
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _check(examples, maps, neighbours) -> None:
    shapes = {f"map {key}": positions.shape for key, positions in maps.items()}
    wrong = [f"{name} {shape}" for name, shape in shapes.items() if shape != (len(examples), 2)]
    if len(neighbours) != len(examples):
        wrong.append(f"neighbours {neighbours.shape}")
    if wrong or not maps:
        raise ValueError(
            f"A page must get maps and neighbours of its {len(examples)} examples, a row each; "
            f"got {', '.join(wrong) or 'no map'}. Make them of the same examples: analysis.maps."
        )


def _plotly_js() -> str:
    try:
        from plotly import offline
    except ImportError as error:
        raise ImportError(
            "The page of an analysis needs plotly, which is not installed. "
            "Run: pip install 'hyperdecoders_jax[plots]'"
        ) from error
    return offline.get_plotlyjs()


def _data(examples, maps, neighbours, variances, neighbours_by) -> dict[str, Any]:
    """What page.js reads."""
    by_side = {variance.side: [] for variance in variances}
    for variance in variances:
        by_side[variance.side].append(variance)
    return {
        "ids": list(examples.ids),
        "inputs": [cut(text, INPUT_CHARS) for text in examples.inputs],
        "targets": [cut(text, ANSWER_CHARS) for text in examples.targets],
        "predictions": [cut(text, ANSWER_CHARS) for text in examples.predictions],
        "groups": {name: _codes(members) for name, members in groups.of(examples).items()},
        "maps": [
            {
                "features": features,
                "projection": projection,
                "x": _base64(positions[:, 0].astype("<f4")),
                "y": _base64(positions[:, 1].astype("<f4")),
            }
            for (features, projection), positions in maps.items()
        ],
        "k": neighbours.shape[1],
        "neighbours_by": neighbours_by,
        "neighbours": _base64(neighbours.astype("<i4")),
        "shares": [{"name": name, "colour": colour} for name, colour in _shares()],
        "variances": {
            side: {
                "layers": [variance.layer for variance in rows],
                "shares": np.transpose([_percentages(row) for row in rows]).tolist(),
            }
            for side, rows in by_side.items()
        },
        "colours": groups.COLOURS,
        "shapes": list(groups.SHAPES.values()),
    }


def _codes(members: Sequence[str]) -> dict[str, Any]:
    names, codes = np.unique(np.array(members, dtype=object), return_inverse=True)
    return {"names": names.tolist(), "codes": _base64(codes.astype("<i4"))}


def _shares() -> list[tuple[str, str]]:
    return [(name.replace("_", " "), colour) for name, colour in groups.SHARES.items()]


def _percentages(variance: Variance) -> list[float]:
    return [100 * float(share) for share in variance.shares]


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _pack(data: Mapping[str, Any]) -> str:
    # A text may hold half a surrogate pair, which no encoding takes.
    text = json.dumps(data, ensure_ascii=False).encode("utf-8", errors="replace")
    return base64.b64encode(zlib.compress(text, level=9)).decode("ascii")


def _section(name: str, heading: str, note: str, body: str) -> str:
    return (
        f'<section id="{name}" aria-labelledby="{name}-heading">'
        f'<h2 id="{name}-heading">{heading}</h2><p class="note">{note}</p>{body}</section>'
    )


def _table(name: str, columns: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """A table of cells that are HTML; a region of its own, that scrolls where it must."""
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{row}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for row, cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _ablation_table(ablations: Sequence[Ablation]) -> str:
    cells = {(row.task, row.metric, row.condition): row for row in ablations}
    conditions = list(dict.fromkeys(row.condition for row in ablations))
    rows = []
    for task, metric in dict.fromkeys((row.task, row.metric) for row in ablations):
        found = [cells.get((task, metric, condition)) for condition in conditions]
        num = max(row.num_examples for row in found if row)
        heading = f"{html.escape(task)}<small>{html.escape(metric)}, {num:,} examples</small>"
        rows.append((heading, [_ablation_cell(row) if row else "" for row in found]))
    columns = ["task and metric", *map(html.escape, conditions)]
    return _table("Table of ablations", columns, rows) if rows else ""


def _ablation_cell(row: Ablation) -> str:
    if row.condition == "own":
        return f"{row.value:.1f}"
    if row.is_same:
        return f"{row.value:.1f}<small>same</small>"
    is_apart = row.low > 0 or row.high < 0
    apart = ' class="apart"' if is_apart else ""
    change = f"{row.difference:+.1f}"
    if not math.isnan(row.low):
        change += f" [{row.low:+.1f}, {row.high:+.1f}]"
    return f"{row.value:.1f}<small{apart}>{_minus(change)}</small>"


def _probe_table(probes: Sequence[Probe]) -> str:
    cells = {(row.grouping, row.task, row.method, row.features): row for row in probes}
    features = list(dict.fromkeys(row.features for row in probes))
    rows = []
    for group in dict.fromkeys((row.grouping, row.task, row.method) for row in probes):
        grouping, task, method = group
        what = f"{grouping} within {task}" if task else grouping
        found = [cells.get((*group, name)) for name in features]
        num = max(row.num_examples for row in found if row)
        heading = f"{html.escape(what)}<small>{html.escape(method)}, {num:,} examples</small>"
        rows.append((heading, [_probe_cell(row) if row else "" for row in found]))
    columns = ["what is told apart", *map(html.escape, features)]
    return _table("Table of probes", columns, rows) if rows else ""


def _probe_cell(row: Probe) -> str:
    digits = 2 if row.method == "silhouette" else 1
    score, low, high, shuffled = (
        _minus(f"{number:.{digits}f}") for number in (row.score, row.low, row.high, row.shuffled)
    )
    return f"{score} [{low}, {high}]<small>shuffled {shuffled}</small>"


def _variance_bars(variances: Sequence[Variance]) -> str:
    if not variances:
        return ""
    key = "".join(
        f'<li><span class="mark" style="color: {colour}" aria-hidden="true">■</span> {name}</li>'
        for name, colour in _shares()
    )
    figures = "".join(
        f'<div><h3>{side}</h3><div class="shares" data-side="{side}" role="img"'
        f' aria-label="Bars of the table below, {side}"></div></div>'
        for side in dict.fromkeys(variance.side for variance in variances)
    )
    rows = [
        (f"{row.side} {row.layer}", [f"{share:.1f}" for share in _percentages(row)])
        for row in variances
    ]
    table = _table("Table of variances", ["layer", *(f"{name} (%)" for name, _ in _shares())], rows)
    return (
        f'<ul class="key">{key}</ul><div class="side-by-side">{figures}</div>'
        f"<details><summary>The same as a table</summary>{table}</details>"
    )


def _minus(text: str) -> str:
    """A hyphen breaks lines, a minus sign does not."""
    return text.replace("-", "\N{MINUS SIGN}")
