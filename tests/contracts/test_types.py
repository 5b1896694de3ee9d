"""The types of the public functions, as mypy shows them to a user of the installed package."""

import importlib.util
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
MISTAKES = """\
import hyperdecoders_jax

hyperdecoders_jax.laod("words")
hyperdecoders_jax.load(3)
hyperdecoders_jax.load("words").predict("a text")[0].score
hyperdecoders_jax.train("words")
"""


# Packages whose types are part of ours; mypy would take its time for all others.
TYPED = ("flax", "jax", "jaxlib", "jaxtyping", "numpy")


def installed(folder):
    """A Python with this package in its site-packages, beside those of `TYPED`."""
    command = [sys.executable, "-m", "venv", "--without-pip", folder]
    subprocess.run(command, check=True, timeout=300)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in TYPED:
        (site / name).symlink_to(importlib.util.find_spec(name).submodule_search_locations[0])
    (site / "hyperdecoders_jax").mkdir()
    for path in (*(ROOT / "hyperdecoders_jax").iterdir(), ROOT / "tasks"):
        (site / "hyperdecoders_jax" / path.name).symlink_to(path)
    return folder / "bin" / "python"


def test_public_functions_have_the_types_that_a_user_needs(tmp_path):
    python = installed(tmp_path / "venv")
    (tmp_path / "mistakes.py").write_text(MISTAKES)
    (tmp_path / "user.py").write_text((ROOT / "tests/contracts/typed_user.py").read_text())
    flags = ["--strict", "--cache-dir=/dev/null", f"--python-executable={python}"]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *flags, "user.py", "mistakes.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    lines = [line for line in result.stdout.splitlines() if ": error: " in line]
    assert [(line.split(":")[0], line.split("[")[-1].rstrip("]")) for line in lines] == [
        ("mistakes.py", "attr-defined"),
        ("mistakes.py", "arg-type"),
        ("mistakes.py", "attr-defined"),
        ("mistakes.py", "arg-type"),
    ], result.stdout + result.stderr
