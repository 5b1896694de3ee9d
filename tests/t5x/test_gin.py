"""Every experiment binds T5X's scripts as it does our own runner's."""

import gin
import numpy as np
import pytest

pytest.importorskip("t5x", reason="T5X is not installed")

from hyperdecoders_jax.commands import configured, flags
from hyperdecoders_jax.config import gin_binding, gin_files
from hyperdecoders_jax.t5x import launch, periods
from hyperdecoders_jax.weights import arrays, t5x_checkpoint
from tests.contracts import test_gin as embedded

pytestmark = pytest.mark.t5x


@pytest.fixture(autouse=True)
def _forget_configuration():
    yield
    gin.clear_config()


def parse_experiment(name, command):
    text = embedded.read_experiment(name, f"runs/t5x/{command}.gin")
    return gin_binding.parse(
        text, launch.script(command), are_macros_checked=False, readers=flags.TRAIN_FILES
    )


@pytest.mark.parametrize("name", embedded.EXPERIMENTS)
def test_every_experiment_parses(name):
    assert "MODEL_DIR = '/nowhere'" in parse_experiment(name, "train")


@pytest.mark.parametrize("command", ["eval", "infer"])
@pytest.mark.parametrize("name", embedded.KINDS)
def test_every_script_parses_every_kind_of_experiment(name, command):
    assert "MODEL_DIR = '/nowhere'" in parse_experiment(name, command)


@pytest.mark.parametrize("command", ["train", "eval", "infer"])
def test_heads_at_a_time_must_divide_over_the_devices_of_a_copy(command):
    parse_experiment(embedded.KINDS[0], command)
    with gin.unlock_config():
        gin.parse_config(["ATTENTION_HEADS = 1", "MODEL_PARALLEL = 2"])
    with pytest.raises(ValueError, match="ATTENTION_HEADS must be a multiple of MODEL_PARALLEL"):
        gin.get_configurable("axes.model_parallel_submesh")()


def test_pretraining_decodes_nothing():
    files = ["runs/t5x/pretrain.gin", "experiments/demo_pretrain.gin"]
    sources = configured.Sources(files)
    assert sources.first("runs/t5x/train.gin") == sources
    text = gin_files.read(files, ["MODEL_DIR = '/nowhere'"])
    text = gin_binding.parse(text, launch.script("train"), readers=flags.TRAIN_FILES)
    assert "infer_eval_dataset_cfg = None" in text


def test_what_t5x_does_not_read_is_told():
    files = ["runs/t5x/train.gin", "experiments/glue/glue_manual_generated.gin"]
    assert not gin_files.unread_macros(gin_files.read(files), "runs/run.gin")
    patience = ["EARLY_STOPPING_PATIENCE = 3"]
    (unread,) = gin_files.unread_macros(gin_files.read(files, patience), "runs/run.gin")
    assert unread.startswith("EARLY_STOPPING_PATIENCE (set in ")
    files[0] = "runs/embedded/train.gin"
    assert not gin_files.unread_macros(gin_files.read(files, patience))


def test_periods_that_t5x_would_refuse_are_told_by_their_names():
    with pytest.raises(ValueError, match=r"EVAL_PERIOD and CHECKPOINT_PERIOD .* got 30 and 20\."):
        periods.eval_period(30, 20, 60)
    assert periods.eval_period(30, 20, 60, split=None) == 60


def test_the_newest_checkpoint_is_evaluated_unless_one_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds none\. .* --gin\.CHECKPOINT_PATH="):
        launch.checkpoint(str(tmp_path))
    flat = {"encoder/encoder_norm/scale": np.ones(3, np.float32)}
    for step in (9, 10):
        t5x_checkpoint.write(tmp_path, arrays.in_memory(flat), step=step, layout="orbax")
    assert launch.checkpoint(str(tmp_path)) == f"{tmp_path}/checkpoint_10"
    assert launch.checkpoint("elsewhere", f"{tmp_path}/checkpoint_9/") == f"{tmp_path}/checkpoint_9"
    with pytest.raises(
        FileNotFoundError, match=r"none at .*checkpoint_8\. .* holds \[.*/checkpoint_9'"
    ):
        launch.checkpoint(str(tmp_path), f"{tmp_path}/checkpoint_8")
    folder = launch.output_dir("run/", "infer", "test", "checkpoint_9", adapters="of/mine/")
    assert folder == "run/infer_test/mine"


def test_without_a_split_nothing_is_evaluated():
    with pytest.raises(ValueError, match=r"EVAL_SPLIT must name .* got None.* --gin\.EVAL_SPLIT="):
        launch.output_dir("/nowhere", "eval", None, "/nowhere/checkpoint_3")
