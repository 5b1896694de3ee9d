"""`make test-all`: the tests on every Python that the package supports, and a table of results.

Each Python that is found, on the PATH or in pyenv's folder, gets a virtual environment of its own
in a temporary folder, with the newest packages that pip takes there. Exits with 1 if any failed.
"""

from __future__ import annotations

import glob
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
HEADER = ("python", "jax", "passed", "failed", "skipped", "minutes")


def find(version: str) -> str | None:
    """A Python of a version that can make virtual environments, or None."""
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    on_path = shutil.which(f"python{version}")
    installed = sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python{version}"))
    for python in filter(None, (on_path, *reversed(installed))):
        # pyenv's shims are there for versions that are not chosen, too, and Debian splits `venv`.
        code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
        result = subprocess.run([python, "-c", code], capture_output=True, text=True)
        if result.returncode == 0 and result.stdout.strip() == version:
            return python
    return None


def run(python: str, folder: pathlib.Path) -> tuple[str, ...]:
    """Runs `make test` in an environment of its own; a row of the table without the first cell."""
    report, began = folder / "report.xml", time.monotonic()
    settings = [f"PYTHON={python}", f"VENV={folder / 'venv'}"]
    pytest_args = f"PYTEST_ARGS={os.environ.get('PYTEST_ARGS', '')} --junit-xml={report}"
    subprocess.run(["make", "-C", str(ROOT), "test", *settings, pytest_args])
    minutes = f"{(time.monotonic() - began) / 60:.1f}"
    code = "import importlib.metadata; print(importlib.metadata.version('jax'))"
    jax = subprocess.run([folder / "venv/bin/python", "-c", code], capture_output=True, text=True)
    return (jax.stdout.strip() or "-", *counts(report), minutes)


def counts(report: pathlib.Path) -> tuple[str, str, str]:
    """How many tests passed, failed and were skipped; "no run" without a report."""
    if not report.exists():
        return "-", "no run", "-"
    suites = list(xml.etree.ElementTree.parse(report).iter("testsuite"))
    names = ("tests", "failures", "errors", "skipped")
    total, failures, errors, skipped = (sum(int(x.get(name, 0)) for x in suites) for name in names)
    return str(total - failures - errors - skipped), str(failures + errors), str(skipped)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under `HEADER`, as text.

    >>> print(table([("3.13", "0.12.0", "2410", "0", "92", "18.2")]))
    python  jax     passed  failed  skipped  minutes
    3.13    0.12.0  2410    0       92       18.2
    """
    rows = [HEADER, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def main() -> int:
    """Prints a table of all versions; returns the exit code."""
    rows = []
    for version in VERSIONS:
        python = find(version)
        if python is None:
            rows.append((version, "-", "-", "no Python", "-", "-"))
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows.append((version, *run(python, pathlib.Path(folder))))
    print(table(rows))
    # A version that is not on this machine is no failure, all of them are.
    results = {row[HEADER.index("failed")] for row in rows} - {"no Python"}
    return 0 if results == {"0"} else 1


if __name__ == "__main__":
    sys.exit(main())
