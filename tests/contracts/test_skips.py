"""A test run may skip only what its machine cannot have."""

import os
import pathlib
import subprocess
import sys

CONFTEST = pathlib.Path(__file__).parents[1] / "conftest.py"


def run_with_skips(folder, reasons):
    """A test run of its own: a test that skips for each reason, and one that passes."""
    (folder / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"))
    (folder / "test_one.py").write_text(
        "import pytest\n"
        f"@pytest.mark.parametrize('reason', {reasons!r}, ids=range({len(reasons)}))\n"
        "def test_skipped(reason): pytest.skip(reason)\n"
        "def test_passing(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:jaxtyping"]
    environment = {**os.environ, "PYTHONPATH": str(CONFTEST.parents[1])}  # Of its imports.
    return subprocess.run(
        [*command, str(folder)], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


def test_a_skip_for_what_a_machine_cannot_have_passes(tmp_path):
    reasons = [
        "needs T5X",
        "needs PyTorch",
        "could not import 'torch': No module",
        "needs a GPU",
        "GLUE's data are not here",
        "needs the TPU compiler",
    ]
    assert run_with_skips(tmp_path, reasons).returncode == 0


def test_any_other_skip_fails_the_run_and_is_named(tmp_path):
    reasons = ["needs T5X", "no network", "takes too long", "could not import 'yaml'"]
    result = run_with_skips(tmp_path, reasons)
    assert result.returncode == 1
    assert "A test may skip only for a missing T5X, PyTorch, GPU" in result.stdout
    assert "test_one.py::test_skipped[0]" not in result.stdout
    for number, reason in list(enumerate(reasons))[1:]:
        assert f"test_one.py::test_skipped[{number}]: {reason}" in result.stdout
