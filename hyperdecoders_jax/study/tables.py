"""A comparison as text, Markdown, LaTeX and JSON; all show the same cells."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.data import text_table
from hyperdecoders_jax.study.intervals import Interval
from hyperdecoders_jax.study.results import AVERAGE, Cell, Results, Row

NOT_SHOWN = "not shown"
_LATEX = {"_": r"\_", "%": r"\%", "&": r"\&", "±": r"$\pm$", "#": r"\#", "$": r"\$"}

Table = list[list[str]]


def write(folder: epath.PathLike, found: Results) -> None:
    """Writes table.txt, .md, .tex and .json."""
    folder = epath.Path(folder)
    files.write_text(folder / "table.txt", text(found) + "\n")
    files.write_text(folder / "table.md", markdown(found) + "\n")
    files.write_text(folder / "table.tex", latex(scores(found)) + "\n")
    numbers = json.dumps(to_json(found), indent=1, allow_nan=False)
    files.write_text(folder / "table.json", numbers + "\n")


def caption(found: Results) -> str:
    """What the numbers are, in a sentence or two."""
    about = found.about
    count = about["corrected for"]
    level = "one 95 % interval"
    if count:
        level = f"one of {count} simultaneous 95 % intervals (Bonferroni)"
    return (
        f"{about['split']} split: mean ± standard deviation over {len(about['seeds'])} seeds; "
        f"chosen on: {about['chosen on']}. Differences are from {about['baseline']}, paired by "
        f"seed and example, with {level} over seeds and examples; not shown: the interval "
        "holds 0."
    )


def scores(found: Results) -> Table:
    """The scores of all methods, floors and published numbers, with differences."""
    baseline = found.about["baseline"]
    floors = list(dict.fromkeys(name for row in found.rows for name in row.floors))
    others = [name for name in found.methods if name != baseline]
    head = ["task", "metric", "n", *floors, baseline]
    for name in others:
        head += [name, "difference"]
    table = [head]
    for row in found.rows:
        line = [row.task, row.metric, f"{row.num_examples:,}"]
        line += [f"{row.floors[x]:.1f}" if x in row.floors else "-" for x in floors]
        line.append(_mean(row.cells[baseline]))
        for name in others:
            cell = row.cells[name]
            line += [_mean(cell), describe(cell.difference)]
        table.append(line)
    return table


def _mean(cell: Cell) -> str:
    return f"{cell.mean:.1f}" + ("" if math.isnan(cell.sd) else f" ± {cell.sd:.1f}")


def describe(difference: Interval | None) -> str:
    """A difference in words.

    >>> describe(Interval(1.2, -0.4, 2.8, 0.13)), describe(Interval(-3.0, -4.0, -2.0, 0.001))
    ('+1.2 [-0.4, +2.8] not shown', '-3.0 [-4.0, -2.0]')
    """
    if difference is None:
        return "-"
    if math.isnan(difference.low):
        return f"{difference.difference:+.1f} {NOT_SHOWN}"
    ends = f"[{difference.low:+.1f}, {difference.high:+.1f}]"
    shown = "" if difference.is_shown else f" {NOT_SHOWN}"
    return f"{difference.difference:+.1f} {ends}{shown}"


def costs(found: Results) -> Table:
    """What each method costs."""
    methods = found.methods.values()
    keys = list(dict.fromkeys(key for method in methods for key in method.parameters))
    table = [["", *found.methods]]
    table.append(["trained parameters", *(f"{x.num_parameters:,}" for x in methods)])
    if len(keys) > 1:
        table += [[f"  {key}", *(f"{x.parameters.get(key, 0):,}" for x in methods)] for key in keys]
    table.append(["checkpoint (MB)", *(f"{x.checkpoint_bytes / 1e6:,.1f}" for x in methods)])
    table.append(["steps", *(f"{x.steps:,.0f}" for x in methods)])
    table.append(["examples", *(f"{x.examples:,.0f}" for x in methods)])
    secs = ("-" if x.secs is None else f"{x.secs:,.0f}" for x in methods)
    table.append(["seconds of steps", *secs])
    table.append(["MFLOP an example", *(f"{x.flops_per_example / 1e6:,.1f}" for x in methods)])
    return table


def published(found: Results) -> Table | None:
    """Published numbers beside the means of this comparison; None if none were asked for."""
    paper = found.about.get("published")
    if paper is None:
        return None
    lines = [["task", "metric", *found.methods, *(f"{x} (paper)" for x in paper["methods"])]]
    keys = dict.fromkeys(key for values in paper["methods"].values() for key in values)
    names = {key: key.partition("/")[::2] for key in keys}
    rows = {key: next((x for x in found.rows if _is_of(x, *names[key])), None) for key in keys}
    has_all_tasks = all(rows[key] for key in keys if names[key][0] != AVERAGE)
    for key, (task, metric) in names.items():
        row = rows[key] if task != AVERAGE or has_all_tasks else None
        ours = [f"{row.cells[x].mean:.1f}" if row else "-" for x in found.methods]
        theirs = [str(values.get(key, "-")) for values in paper["methods"].values()]
        lines.append([task, metric, *ours, *theirs])
    return lines


def _is_of(row: Row, task: str, metric: str) -> bool:
    """Whether a row is of a published task; glue_cola_v200 is of glue_cola."""
    return (row.task == task or row.task.startswith(f"{task}_v")) and metric in ("", row.metric)


def text(found: Results) -> str:
    """All tables as text."""
    parts = [caption(found), text_table.align(scores(found)), text_table.align(costs(found))]
    parts += ["\n".join(lines)] if (lines := found.about["choices"]) else []
    if (paper := published(found)) is not None:
        parts += [found.about["published"]["source"], text_table.align(paper)]
    if found.warnings:
        parts.append("\n".join(f"Mind: {line}" for line in found.warnings))
    return "\n\n".join(parts)


def markdown(found: Results) -> str:
    """All tables as Markdown."""
    tables = [scores(found), costs(found)]
    if (paper := published(found)) is not None:
        tables.append(paper)
    lines = "\n".join(f"- {line}" for line in [*found.about["choices"], *found.warnings])
    return "\n\n".join(filter(None, [caption(found), *map(_markdown, tables), lines]))


def _markdown(table: Table) -> str:
    head, *rows = ([cell.replace("|", r"\|") for cell in row] for row in table)
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def latex(table: Table) -> str:
    r"""A table for LaTeX with booktabs.

    >>> print(latex([["a_b", "n"], ["x", "1 ± 2"]]))
    \begin{tabular}{lr}
    \toprule
    a\_b & n \\
    \midrule
    x & 1 $\pm$ 2 \\
    \bottomrule
    \end{tabular}
    """
    head, *rows = (" & ".join("".join(_LATEX.get(c, c) for c in x) for x in row) for row in table)
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(table[0]) - 1)}}}", r"\toprule", rf"{head} \\"]
    lines += [r"\midrule", *(rf"{row} \\" for row in rows), r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines)


def to_json(found: Results) -> dict[str, Any]:
    """All numbers, without those of single examples."""
    return _plain(
        {
            "about": found.about,
            "rows": [dataclasses.asdict(row) | {"cells": _cells(row)} for row in found.rows],
            "methods": {name: dataclasses.asdict(x) for name, x in found.methods.items()},
            "curves": {
                name: {title: curve._asdict() for title, curve in of_method.items()}
                for name, of_method in found.curves.items()
            },
            "warnings": found.warnings,
        }
    )


def _cells(row: Row) -> dict[str, Any]:
    return {
        name: {
            "mean": cell.mean,
            "sd": cell.sd,
            "values": cell.values,
            "difference": None if cell.difference is None else cell.difference._asdict(),
        }
        for name, cell in row.cells.items()
    }


def _plain(value: Any) -> Any:
    """Values as JSON has them: no NaN, and four decimals."""
    if isinstance(value, Mapping):
        return {str(key): _plain(x) for key, x in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(x) for x in value]
    if isinstance(value, float):
        return round(value, 4) if math.isfinite(value) else None
    return value
