"""What a run has saved is read without Orbax, by who has no run."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from hyperdecoders_jax.training.checkpoints import Checkpoints
from hyperdecoders_jax.weights import names, run_checkpoints, t5x_checkpoint
from tests.formats import test_formats
from tests.training import test_checkpoints

# In another process, in which nothing can import Orbax.
READ = """
import sys
sys.modules["orbax"] = sys.modules["orbax.checkpoint"] = None
import numpy as np
from hyperdecoders_jax.weights import run_checkpoints, t5x_checkpoint
found = run_checkpoints.CheckpointFiles(sys.argv[1])
print(found.steps(), found.newest_step(), found.best_step(), found.best_value())
print(found.evaluation(2)["metrics"], found.read_run(2)["identity"]["task_names"])
item = found.folder(2) / run_checkpoints.TRAINABLE
np.savez(sys.argv[2], **{p: x.read() for p, x in t5x_checkpoint.open_item(item).items()})
assert not any(name.startswith("hyperdecoders_jax.training") for name in sys.modules)
"""


@pytest.fixture
def directory(tmp_path):
    """Checkpoints of steps 2, evaluated and the best, 3 and 4, which is not evaluated."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", test_checkpoints.IDENTITY)
    for step, value in ((2, 9.0), (3, 5.0), (4, None)):
        checkpoints.save(test_checkpoints.make_state(step, seed=step), position=None)
        if value is not None:
            checkpoints.record(step, {"cola": {"accuracy": value}}, value)
    return checkpoints.directory


def trainable(step):
    state = test_checkpoints.make_state(step, seed=step)
    return {path: np.asarray(x) for path, x in names.flatten(dict(state.trainable)).items()}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for path, value in found.items():
        assert value.dtype == expected[path].dtype
        np.testing.assert_array_equal(value, expected[path])


def test_a_checkpoint_is_read_where_there_is_no_orbax(directory, tmp_path):
    read = subprocess.run(
        [sys.executable, "-c", READ, str(directory), str(tmp_path / "read.npz")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert read.returncode == 0, read.stderr
    assert read.stdout.splitlines() == [
        "[2, 3, 4] 4 2 9.0", "{'cola': {'accuracy': 9.0}} ['cola', 'sst2']"
    ]  # fmt: skip
    assert_equal(dict(np.load(tmp_path / "read.npz")), trainable(2))


def test_arrays_are_known_before_they_are_read(directory):
    item = directory / "4" / run_checkpoints.TRAINABLE
    stored = t5x_checkpoint.open_item(item)
    shapes = {path: (x.shape, x.dtype) for path, x in trainable(4).items()}
    assert {path: (x.shape, x.dtype) for path, x in stored.items()} == shapes
    assert_equal({path: x.read() for path, x in stored.items()}, trainable(4))


def test_a_directory_that_is_not_there_has_no_checkpoints(tmp_path):
    absent = run_checkpoints.CheckpointFiles(tmp_path / "absent")
    assert (absent.steps(), absent.newest_step(), absent.best_step()) == ([], None, None)
    with pytest.raises(ValueError, match=r"must be whole .*absent/3: it has no readable manifest"):
        absent.check_usable(3)
    assert not (tmp_path / "absent").exists()


def test_what_is_damaged_is_refused_and_passed_over(directory, caplog):
    found = run_checkpoints.CheckpointFiles(directory)
    found.check_usable(2)
    (directory / "2" / "run" / "metadata").write_text("{")
    with pytest.raises(
        ValueError,
        match=r"got .*2: run/metadata has 1 bytes .* of steps \[2, 3, 4\], intact or not",
    ):
        found.check_usable(2)
    assert (found.best_step(), found.best_value()) == (3, 5.0)
    (directory / "4" / run_checkpoints.TRAINABLE / "_METADATA").unlink()
    assert found.newest_step() == 3
    assert "trainable/_METADATA is missing" in caplog.text
    with pytest.raises(ValueError, match=r"must be JSON .*4/trainable/_METADATA is not: .* again"):
        t5x_checkpoint.open_item(directory / "4" / run_checkpoints.TRAINABLE)
    (directory / "3" / "run" / "metadata").write_text("{")
    with pytest.raises(ValueError, match=r"At least one .* got damaged ones .*: 4 \(.*; 3 \(.*; 2"):
        found.newest_step()


@pytest.mark.parametrize("name", ["trainable/_METADATA", "manifest.json", "evaluation.json"])
def test_a_pipe_in_a_checkpoint_is_not_waited_for(tmp_path, name):
    run = test_formats.HERE / "before_versions" / "run" / "checkpoints"
    folder = shutil.copytree(run, tmp_path / "checkpoints") / "20"
    (folder / name).unlink()
    os.mkfifo(folder / name)
    checkpoints = run_checkpoints.CheckpointFiles(tmp_path / "checkpoints")
    reason = checkpoints.why_not_usable(20)
    assert (reason is None) == (name == "evaluation.json")
    assert (checkpoints.evaluation(20)["metrics"] is None) == (name == "evaluation.json")
