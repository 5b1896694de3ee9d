"""What a run under T5X says of itself is what it did."""

import gin
import pytest

pytest.importorskip("t5x", reason="T5X is not installed")

from hyperdecoders_jax.commands import configured
from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.config.run_config import StartConfig
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.data.pipeline import PipelineConfig
from hyperdecoders_jax.t5x import saved_config
from hyperdecoders_jax.tasks import demo  # noqa: F401 (registers the tasks of the run)
from hyperdecoders_jax.weights import run_folder
from tests.commands import tiny_runs

pytestmark = pytest.mark.t5x


def test_a_run_tells_how_its_tasks_were_numbered(tmp_path):
    gin.parse_config("TASK_NAMES = None\nFROZEN_DTYPE = 'bfloat16'\nTRAIN_STEPS = 3\n")
    gin.finalize()
    vocabulary.set_run_vocabulary(vocabulary.load_vocabulary("bytes"))
    data = PipelineConfig("demo_topic", tiny_runs.LENGTHS, batch_size=4)
    start = StartConfig("t5", "bytes", frozen_dtype="bfloat16")
    run = tiny_runs.make_config(data=data, start=start)
    try:
        saved_config.write(str(tmp_path), None, 0, task_names=["sst2", "cola"], run=run)
    finally:
        gin.clear_config()
        vocabulary.set_run_vocabulary(None)
    found = gin_files.read([str(tmp_path / configured.SAVED_CONFIG)], (), [""]).macro_values
    assert {name: value for name, (value, _) in found.items()} == {
        "TASK_NAMES": ("sst2", "cola"),
        "FROZEN_DTYPE": "bfloat16",
        "TRAIN_STEPS": 3,
    }
    described = run_folder.read_file(tmp_path)
    assert described.runner == run_folder.T5X_RUNNER
    assert (described.description.task_names, described.frozen_dtype) == (
        ("sst2", "cola"),
        "bfloat16",
    )
    assert described.description.model == run.model.config
    assert described.description.backbone is None
    assert described.initial_checkpoint_path == "t5"
    assert {path.split("/")[0] for path in described.trained} == {
        "encoder_adapters", "decoder_adapters"
    }  # fmt: skip


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
