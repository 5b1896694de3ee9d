"""One HTML page of a comparison, which loads nothing from the network."""

from __future__ import annotations

import html
import importlib.resources
from collections.abc import Sequence

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.analysis import page
from hyperdecoders_jax.study import tables
from hyperdecoders_jax.study.results import Results

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}
figure {{ margin: 1rem 0; background: #ffffff; max-width: max-content; border-radius: .4rem; }}
figure svg {{ max-width: 100%; height: auto; }}
</style>
</head>
<body>
<header><h1>{title}</h1></header>
<main>
{body}
</main>
</body>
</html>
"""


def write(path: epath.PathLike, found: Results, pictures: Sequence[epath.Path]) -> None:
    """Writes the page: tables, warnings and the SVG pictures, which are part of it."""
    title = f"{found.about['mixture']}: {', '.join(found.methods)}"
    lines = [*found.about["choices"], *found.warnings]
    notes = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    sections = [
        f"<p>{html.escape(tables.caption(found))}</p>",
        f"<ul>{notes}</ul>" if notes else "",
        _section("Scores", _table("Scores", tables.scores(found))),
        *(_section(_heading(x), _figure(x)) for x in pictures if x.suffix == ".svg"),
        _section("Costs", _table("Costs", tables.costs(found))),
    ]
    if (paper := tables.published(found)) is not None:
        source = html.escape(found.about["published"]["source"])
        sections.append(_section("Published", f"<p>{source}</p>{_table('Published', paper)}"))
    style = importlib.resources.files("hyperdecoders_jax.analysis") / "page.css"
    body = "\n".join(filter(None, sections))
    text = _PAGE.format(title=html.escape(title), style=style.read_text("utf-8"), body=body)
    files.write_text(epath.Path(path), text)


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{heading}</h2>{body}</section>"


def _table(name: str, table: tables.Table) -> str:
    head, *rows = ([page.with_minus(html.escape(cell)) for cell in row] for row in table)
    return page.table(name, head, [(row[0], row[1:]) for row in rows])


def _heading(picture: epath.Path) -> str:
    return picture.stem.capitalize()


def _figure(picture: epath.Path) -> str:
    """The picture without its XML declaration, which HTML does not have."""
    text = picture.read_text()
    return f"<figure>{text[text.index('<svg') :]}</figure>"
