"""Gin files of earlier versions: modules of then are those of today."""

import re

import gin
import pytest

from hyperdecoders_jax import errors
from hyperdecoders_jax.commands import flags as run_flags
from hyperdecoders_jax.commands import train
from hyperdecoders_jax.config import gin_binding, gin_files, moved_modules
from tests.config.parsing import bound, flags, parse

# As the version of commit 8ebce41 saved it, shortened; it had flags that name modules by paths.
OLD_FILE = """
from __gin__ import dynamic_registration
from hyperdecoders_jax import losses
from hyperdecoders_jax import train as train_script
import hyperdecoders_jax.preparation
from hyperdecoders_jax import trained_model
import hyperdecoders_jax.trained_model

LABEL_SMOOTHING = 0.25
MODEL_DIR = 'old'
OPEN = @trained_model.field
LENGTHS = 'a path'
START = @hyperdecoders_jax.preparation.TrainedConfig()

losses.LossConfig.label_smoothing = %LABEL_SMOOTHING
train_script.train.model_dir = %MODEL_DIR
train_script.train.trainer_config = @train_script.other()
train_script.train.open = %OPEN
hyperdecoders_jax.preparation.TrainedConfig.model_dir = %MODEL_DIR
hyperdecoders_jax.trained_model.field.path = %LENGTHS
scope/trained_model.field.path = [@in/hyperdecoders_jax.trained_model.field]
"""


def test_modules_that_moved_are_imported_from_where_they_are(folder):
    (folder / "old.gin").write_text(OLD_FILE)
    saved = parse(["old.gin"])
    assert bound("LABEL_SMOOTHING/gin.macro.value") == 0.25
    assert "from hyperdecoders_jax.trained import start" in saved
    assert "train_script" not in saved
    assert "preparation" not in saved
    assert "START" not in saved
    assert re.search(r"^\w+\.field\.path = %LENGTHS$", saved, re.MULTILINE)
    assert re.search(r"^scope/(\w+)\.field\.path = \[@in/\1\.field\]$", saved, re.MULTILINE)
    (folder / "new.gin").write_text(saved)
    assert parse(["new.gin"], readers=["old.gin"]) == saved


def test_a_module_that_moved_keeps_the_name_that_the_file_uses(folder, monkeypatch):
    monkeypatch.setitem(moved_modules.MOVED, "old.place", "hyperdecoders_jax")
    (folder / "old.gin").write_text(
        "from __gin__ import dynamic_registration\n"
        "from old.place import losses\n"
        "losses.LossConfig.z_loss = 0.5\n"
    )
    monkeypatch.setitem(moved_modules.MOVED, "of.old", "hyperdecoders_jax.modeling.config")
    (folder / "older.gin").write_text(
        "from __gin__ import dynamic_registration\n"
        "from of import old\n"
        "old.AdapterConfig.source = 'task'\n"
    )
    saved = parse(["old.gin", "older.gin"])
    assert "losses.LossConfig.z_loss = 0.5" in saved
    assert "from hyperdecoders_jax.modeling import config as old\n" in saved
    assert "old.AdapterConfig.source = 'task'" in saved


def test_a_value_that_would_be_lost_with_a_removed_module_is_told(folder):
    (folder / "old.gin").write_text(OLD_FILE + "train_script.train.pack = True\n")
    with pytest.raises(
        errors.ConfigurationError,
        match=r"old.gin:\d+ sets train_script.train.pack of hyperdecoders_jax.train.train, which "
        r"was removed. Set the macro .* remove this line",
    ):
        gin_files.read(["old.gin"])


OLD_RUN = """\
from __gin__ import dynamic_registration
from hyperdecoders_jax import train as train_script
from hyperdecoders_jax.training import trainer

TRAIN_STEPS = 3
ONLY_THEN = 4
train_script.train.trainer_config = @trainer.TrainerConfig()
train_script.train.model_dir = %MODEL_DIR
train_script.train.then = %ONLY_THEN
"""


def test_a_saved_configuration_of_an_earlier_version_trains_again(folder):
    (folder / "config.gin").write_text(OLD_RUN)
    files = ["runs/embedded/train.gin", "experiments/demo_hyperdecoder.gin", "config.gin"]
    text = gin_files.read(files, ["MODEL_DIR = '/nowhere'"])
    gin_files.check_macros(text, run_flags.TRAIN_FILES)
    gin_binding.parse(text, train.train, readers=run_flags.TRAIN_FILES)
    assert gin.query_parameter("TRAIN_STEPS/gin.macro.value") == 3


def test_the_last_name_of_a_parameter_wins(folder):
    (folder / "old.gin").write_text(
        "from __gin__ import dynamic_registration\n"
        "from hyperdecoders_jax.modeling import config\n"
        "config.AdapterConfig.sites = ('after_feed_forward',)\n"
        "config.AdapterConfig.targets = ('feed_forward',)\n"
    )
    assert "AdapterConfig.sites = ('feed_forward',)" in parse(["old.gin"])
    saved = parse(["old.gin"], flags("AdapterConfig.targets=('after_self_attention',)"))
    assert "AdapterConfig.sites = ('after_self_attention',)" in saved
    assert "targets" not in saved
