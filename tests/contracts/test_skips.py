"""A test run may skip only what its machine cannot have."""

import pathlib
import subprocess
import sys

import pytest

CONFTEST = pathlib.Path(__file__).parents[1] / "conftest.py"


def run_with_skip(folder, reason):
    (folder / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"))
    (folder / "test_one.py").write_text(
        f"import pytest\ndef test_one(): pytest.skip({reason!r})\ndef test_two(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:jaxtyping"]
    return subprocess.run(
        [*command, str(folder)], cwd=folder, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "reason",
    [
        "needs T5X",
        "needs PyTorch",
        "could not import 'torch': No module",
        "needs a GPU",
        "GLUE's data are not here",
    ],
)
def test_a_skip_for_what_a_machine_cannot_have_passes(tmp_path, reason):
    assert run_with_skip(tmp_path, reason).returncode == 0


@pytest.mark.parametrize("reason", ["no network", "takes too long", "could not import 'yaml'"])
def test_any_other_skip_fails_the_run_and_is_named(tmp_path, reason):
    result = run_with_skip(tmp_path, reason)
    assert result.returncode == 1
    assert "A test may skip only for a missing T5X, PyTorch, GPU" in result.stdout
    assert f"test_one.py::test_one: {reason}" in result.stdout
