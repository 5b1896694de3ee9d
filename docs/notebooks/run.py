"""Runs the notebooks of this folder without Jupyter, and stores what they print.

`python docs/notebooks/run.py [NAME…]` runs them in an empty folder, one after the other: later ones
use the runs of earlier ones, and train them where they are not there.
"""

import ast
import contextlib
import io
import json
import os
import pathlib
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence

import gin

from hyperdecoders_jax.commands import main

FOLDER = pathlib.Path(__file__).parent
NAMES = ("quickstart", "compare_on_your_data", "what_the_hypernetwork_looks_at")
INSTALL = "%pip"


def run(cells: Sequence[Mapping], replace: Mapping[str, str]) -> list[str]:
    """Runs the code cells of a notebook in this folder and process; returns what each prints.

    `replace` are other texts in the code, such as fewer steps. Cells that install are skipped.
    """
    namespace, printed = {"__name__": "__main__"}, []
    for cell in cells:
        source = "".join(cell["source"])
        for old, new in replace.items():
            source = source.replace(old, new)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if source.startswith("!hyperdecoders "):
                gin.clear_config()
                arguments = shlex.split(source.removeprefix("!").replace("\\\n", " "))[1:]
                if main.main(arguments) != 0:
                    raise RuntimeError(f"A command must succeed; this failed: {source}")
            elif not source.startswith(INSTALL):
                run_python(source, namespace)
        printed.append(out.getvalue())
    return printed


def run_python(source: str, namespace: dict) -> None:
    """Runs Python; prints the value of a last line that is an expression, as Jupyter shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), namespace)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
        if value is not None:
            print(repr(value))


def code_cells(notebook: Mapping) -> list[dict]:
    """The code cells of a notebook."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def store(name: str) -> None:
    """Runs a notebook and writes it with its outputs."""
    path = FOLDER / f"{name}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = code_cells(notebook)
    for cell, text in zip(cells, run(cells, {}), strict=True):
        lines = text.splitlines(keepends=True)
        output = {"name": "stdout", "output_type": "stream", "text": lines}
        cell["outputs"] = [output] if lines else []
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    for chosen in sys.argv[1:] or NAMES:
        store(chosen)
