"""All files of a comparison's results: tables, pictures and the page."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.study import archive, floors, page, pictures, results, settings, tables
from hyperdecoders_jax.study.comparison import Comparison
from hyperdecoders_jax.study.results import Results


def make(comparison: Comparison, published: Mapping[str, Any] | None) -> tuple[Results, str]:
    """The results of a comparison whose runs are finished, and where they are written, in a line.

    `published` are a paper's numbers, to stand beside.
    """
    archive.write(comparison.output)
    differences = settings.differences(comparison.methods)
    # Tables have a row of parameters.
    told = [line for what, line in differences.items() if what != settings.NUM_PARAMETERS]
    about = {
        "mixture": comparison.mixture.name,
        "matched": [settings.equal(comparison.methods), *differences.values()],
        "choices": [*comparison.choices, *told],
        "version": files.VERSION,
        "published": published,
    }
    found = results.collect(comparison, floors.of(comparison), about)
    return found, write(comparison.output, found)


def write(folder: epath.PathLike, found: Results) -> str:
    """Writes the files into an existing folder; returns where, in a line."""
    tables.write(folder, found)
    where = f"Written: {folder}/table.txt, .md, .tex, .json"
    if importlib.util.find_spec("matplotlib") is None:
        return f"{where}; for pictures and a page: pip install 'hyperdecoders_jax[plots]'"
    page.write(f"{folder}/page.html", found, pictures.write(f"{folder}/pictures", found))
    return f"{where}, pictures/ and {folder}/page.html"
