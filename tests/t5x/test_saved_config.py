"""What a run under T5X says of itself is what it did."""

import gin
import pytest

pytest.importorskip("t5x", reason="T5X is not installed")


from hyperdecoders_jax.commands import configured
from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.t5x import saved_config

pytestmark = pytest.mark.t5x


def test_a_run_tells_how_its_tasks_were_numbered_and_that_nothing_was_cast(tmp_path):
    gin.parse_config("TASK_NAMES = None\nFROZEN_DTYPE = 'bfloat16'\nTRAIN_STEPS = 3\n")
    gin.finalize()
    try:
        saved_config.write(str(tmp_path), None, 0, task_names=["sst2", "cola"])
    finally:
        gin.clear_config()
    found = gin_files.read([str(tmp_path / configured.SAVED_CONFIG)], (), [""]).macro_values
    assert {name: value for name, (value, _) in found.items()} == {
        "TASK_NAMES": ("sst2", "cola"),
        "FROZEN_DTYPE": "float32",
        "TRAIN_STEPS": 3,
    }


def test_predictions_of_another_configuration_are_not_taken_for_new_ones(tmp_path):
    def predict(num_beams):
        gin.parse_config(f"NUM_BEAMS = {num_beams}")
        saved_config.write_beside_predictions(str(tmp_path), None, 0)

    try:
        predict(1)
        predict(2)  # Nothing was predicted.
        (tmp_path / "tmp-cola-00000-of-00001").mkdir()
        predict(2)
        with pytest.raises(ValueError, match=r"are of another one, .* Remove the folder, or name"):
            predict(4)
    finally:
        gin.clear_config()
