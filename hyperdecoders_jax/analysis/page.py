"""Interactive HTML page of an analysis, in one file that loads nothing from the network.

It includes plotly.js, from the Python package plotly. Examples are packed (zlib, base64): 20,000 of
them take a few megabytes, and none of their texts can end a script. page.js draws them.
"""

from __future__ import annotations

import base64
import html
import importlib.resources
import json
import re
import string
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.analysis import groups
from hyperdecoders_jax.analysis.maps import Layout
from hyperdecoders_jax.analysis.results import Ablation, Examples, Probe, Study, Variance

# Longer texts are cut; the table of examples has all of them.
INPUT_CHARS, ANSWER_CHARS = 200, 100
ABLATION_NOTE = (
    "Each task's metric when examples are adapted by another condition than their own; below it "
    "the difference from their own, with its 95 % interval over resampled examples. Bold: it "
    "leaves out 0, as one in twenty does by mere chance. Same: not one prediction changes."
)
PROBE_NOTE = (
    "How well groups can be told apart by each kind of vector, on examples held out, with a 95 % "
    "interval: accuracies in %, silhouettes from −1 to 1; below it the same with the groups "
    "shuffled, which is what chance gives."
)
# What each kind of vector is; `results.Examples` has them.
VECTOR_NOTES = {
    "condition": "what the hypernetwork reads of an example",
    "parameters": "what it generates from that, the example's adapters",
    "pooled": "pooled state: the mean of the encoder's output over an example's tokens",
    "backbone": "frozen T5: the same mean without adapters and gates, for comparison",
}
VARIANCE_NOTE = (
    "Where the variance of the generated parameters of each layer lies: between the means of "
    "tasks, between the means of labels within a task, and within labels. Of a task without labels "
    "all that its examples differ in is within."
)


def write(
    path: epath.PathLike, found: Study, layout: Layout, title: str, captions: Sequence[str] = ()
) -> None:
    """Writes the page; the same analysis gives the same bytes.

    Tables without rows get no section. Captions are paragraphs of plain text below the title.
    Raises ImportError without plotly, ValueError if the layout is not of these examples.
    """
    _check(found.examples, layout)
    sections = {
        "ablations": ("Ablations", ABLATION_NOTE, _ablation_table(found.ablations)),
        "probes": ("Probes", PROBE_NOTE, _probe_table(found.probes)),
        "variance": ("Variance by layer", VARIANCE_NOTE, _variance_bars(found.variances)),
    }
    sections = {name: section for name, section in sections.items() if section[-1]}
    # Sections are HTML made here; texts of users are escaped, or packed as data.
    folder = importlib.resources.files("hyperdecoders_jax.analysis")
    text = string.Template((folder / "page.html").read_text("utf-8")).substitute(
        title=html.escape(title),
        heading=_breakable(title),
        captions="".join(f"<p>{_breakable(caption)}</p>" for caption in captions),
        links="".join(f'<a href="#{name}">{section[0]}</a>' for name, section in sections.items()),
        vectors="; ".join(
            f"<b>{name}</b>, {note}"
            for name, note in VECTOR_NOTES.items()
            if any(name == features for features, _ in layout.positions)
        ),
        num_examples=f"{len(found.examples):,}",
        input_chars=INPUT_CHARS,
        answer_chars=ANSWER_CHARS,
        sections="".join(_section(name, *section) for name, section in sections.items()),
        neighbours_by=html.escape(layout.neighbours_by),
        data=_pack(_data(found.examples, layout, found.variances)),
        plotly=_plotly_js(),
        style=(folder / "page.css").read_text("utf-8"),
        script=(folder / "page.js").read_text("utf-8"),
    )
    files.write_text(epath.Path(path), text)


def cut(text: str, limit: int) -> str:
    """Cuts a text to `limit` characters, the last of which is then "…".

    >>> cut("a long story", 7)
    'a long…'
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _check(examples: Examples, layout: Layout) -> None:
    shapes = {f"map {key}": positions.shape for key, positions in layout.positions.items()}
    wrong = [f"{name} {shape}" for name, shape in shapes.items() if shape != (len(examples), 2)]
    if len(layout.neighbours) != len(examples):
        wrong.append(f"neighbours {layout.neighbours.shape}")
    if wrong or not shapes:
        raise ValueError(
            f"A page must get maps and neighbours of its {len(examples)} examples, a row each; "
            f"got {', '.join(wrong) or 'no map'}. Make them of the same examples: analysis.maps."
        )


def _plotly_js() -> str:
    try:
        from plotly import offline
    except ImportError as error:
        raise ImportError(
            f"A page needs plotly; importing it failed: {error}. Run: pip install "
            "'hyperdecoders_jax[plots]'"
        ) from error
    return offline.get_plotlyjs()


def _data(examples: Examples, layout: Layout, variances: Sequence[Variance]) -> dict[str, Any]:
    """Data of page.js, as JSON takes them."""
    by_side: dict[str, list[Variance]] = {}
    for variance in variances:
        by_side.setdefault(variance.side, []).append(variance)
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
                # Little-endian whatever this machine is: the page makes typed arrays of the bytes.
                "x": _base64(positions[:, 0].astype("<f4")),
                "y": _base64(positions[:, 1].astype("<f4")),
            }
            for (features, projection), positions in layout.positions.items()
        ],
        "k": layout.neighbours.shape[1],
        "neighbours_by": layout.neighbours_by,
        "neighbours": _base64(layout.neighbours.astype("<i4")),
        "shares": [{"name": name, "colour": colour} for name, colour in groups.SHARES.items()],
        "variances": {
            side: {
                "layers": [variance.layer for variance in rows],
                "shares": (100 * np.transpose([row.shares for row in rows])).tolist(),
            }
            for side, rows in by_side.items()
        },
        "colours": groups.COLOURS,
        "shapes": list(groups.SHAPES.values()),
    }


def _codes(members: Sequence[str]) -> dict[str, Any]:
    # As objects: numpy's own strings lose trailing NULs and take memory of the longest.
    names, codes = np.unique(np.array(members, dtype=object), return_inverse=True)
    return {"names": names.tolist(), "codes": _base64(codes.astype("<i4"))}


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _pack(data: Mapping[str, Any]) -> str:
    # Texts may hold half a surrogate pair, which UTF-8 cannot encode.
    text = json.dumps(data, ensure_ascii=False).encode("utf-8", errors="replace")
    # Base64 has no "<": no text can close the script element that holds it.
    return base64.b64encode(zlib.compress(text, level=9)).decode("ascii")


def _breakable(text: str) -> str:
    """Text as HTML; on a narrow screen its names and paths break after a "_" or "/", not in a word.

    >>> _breakable("demo_topic & runs/seed-1")
    'demo_<wbr>topic &amp; runs/<wbr>seed-1'
    """
    return re.sub("([_/])", r"\1<wbr>", html.escape(text))


def _section(name: str, heading: str, note: str, body: str) -> str:
    attributes = f'id="{name}" aria-labelledby="{name}-heading"'
    head = f'<h2 id="{name}-heading">{heading}</h2><p class="note">{note}</p>'
    return f"<section {attributes}>{head}{body}</section>"


def table(name: str, columns: Iterable[str], rows: Iterable[tuple[str, Iterable[str]]]) -> str:
    """A table of HTML cells, in a region of its own that scrolls."""
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{row}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for row, cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _pivot(name: str, corner: str, rows: Sequence[tuple[tuple[str, str], str, Any, str]]) -> str:
    """A table of (name and detail of a line, column, result, cell); empty without rows."""
    cells = {(line, column): (result, cell) for line, column, result, cell in rows}
    columns = list(dict.fromkeys(column for _, column, _, _ in rows))
    lines = []
    for line in dict.fromkeys(line for line, _, _, _ in rows):
        found = [cells.get((line, column)) for column in columns]
        num = max(result.num_examples for result, _ in filter(None, found))
        what, detail = map(_breakable, line)
        heading = f"{what}<small>{detail}, {num:,} examples</small>"
        lines.append((heading, [x[1] if x else "" for x in found]))
    return table(name, [corner, *map(html.escape, columns)], lines) if lines else ""


def _ablation_table(ablations: Sequence[Ablation]) -> str:
    rows = []
    for row in ablations:
        cell = f"{row.value:.1f}"
        if row.condition != "own":
            apart = ' class="apart"' if row.low > 0 or row.high < 0 else ""  # Never with NaN.
            cell += f"<small{apart}>{with_minus(row.change)}</small>"
        rows.append(((row.task, row.metric), row.condition, row, cell))
    return _pivot("Table of ablations", "task and metric", rows)


def _probe_table(probes: Sequence[Probe]) -> str:
    rows = []
    for row in probes:
        grouping = f"{row.grouping} within {row.task}" if row.task else row.grouping
        score, low, high, shuffled = map(with_minus, row.rounded)
        cell = f"{score} [{low}, {high}]<small>shuffled {shuffled}</small>"
        rows.append(((grouping, row.method), row.features, row, cell))
    return _pivot("Table of probes", "what is told apart", rows)


def _variance_bars(variances: Sequence[Variance]) -> str:
    if not variances:
        return ""
    key = "".join(
        f'<li><span class="mark" style="color: {colour}" aria-hidden="true">■</span> {name}</li>'
        for name, colour in groups.SHARES.items()
    )
    figures = "".join(
        f'<div><h3>{side}</h3><div class="shares" data-side="{side}" role="img"'
        f' aria-label="Bars of the table below, {side}"></div></div>'
        for side in dict.fromkeys(variance.side for variance in variances)
    )
    rows = [(f"{x.side} {x.layer}", [f"{100 * y:.1f}" for y in x.shares]) for x in variances]
    as_table = table("Table of variances", ["layer", *(f"{x} (%)" for x in groups.SHARES)], rows)
    return (
        f'<ul class="key">{key}</ul><div class="side-by-side">{figures}</div>'
        f"<details><summary>The same as a table</summary>{as_table}</details>"
    )


def with_minus(text: str) -> str:
    """Minus signs for hyphens, at which browsers break lines."""
    return text.replace("-", "\N{MINUS SIGN}")
