"""All files of a comparison's results: tables, pictures and the page."""

from __future__ import annotations

import importlib.util

from etils import epath

from hyperdecoders_jax.study import page, pictures, tables
from hyperdecoders_jax.study.results import Results


def write(folder: epath.PathLike, found: Results) -> str:
    """Writes the files into an existing folder; returns where, in a line."""
    tables.write(folder, found)
    where = f"Written: {folder}/table.txt, .md, .tex, .json"
    if importlib.util.find_spec("matplotlib") is None:
        return f"{where}; for pictures and a page: pip install 'hyperdecoders_jax[plots]'"
    page.write(f"{folder}/page.html", found, pictures.write(f"{folder}/pictures", found))
    return f"{where}, pictures/ and {folder}/page.html"
