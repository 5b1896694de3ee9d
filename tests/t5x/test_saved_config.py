"""What a run under T5X says of itself is what it did, and replaces nothing of another run."""

import gin
import pytest

pytest.importorskip("t5x", reason="T5X is not installed")

from hyperdecoders_jax import cli, configuration
from hyperdecoders_jax.t5x import saved_config
from hyperdecoders_jax.training import trainer

pytestmark = pytest.mark.t5x


def test_a_run_tells_how_its_tasks_were_numbered_and_that_nothing_was_cast(tmp_path):
    gin.parse_config("TASK_NAMES = None\nFROZEN_DTYPE = 'bfloat16'\nTRAIN_STEPS = 3\n")
    gin.finalize()
    try:
        saved_config.write(str(tmp_path), None, 0, task_names=["sst2", "cola"])
    finally:
        gin.clear_config()
    found = configuration.read([str(tmp_path / cli.SAVED_CONFIG)], (), [""]).macro_values
    assert {name: value for name, (value, _) in found.items()} == {
        "TASK_NAMES": ("sst2", "cola"),
        "FROZEN_DTYPE": "float32",
        "TRAIN_STEPS": 3,
    }


def test_a_run_of_our_own_runner_is_left_alone(tmp_path):
    checkpoints = trainer.open_checkpoints(str(tmp_path))
    (checkpoints.directory / "7").mkdir(parents=True)
    (checkpoints.directory / "7" / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"must hold the run of one runner; .* of steps \[7\]\."):
        saved_config.write(str(tmp_path), None, 0, task_names=["cola"])
    assert not (tmp_path / cli.SAVED_CONFIG).exists()
