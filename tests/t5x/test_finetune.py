"""T5X's own files (a model's, and finetune.gin), with a task of T5X's own kind: what is adapted is
all that is ours."""

import pathlib
import re
import sys

import jax
import numpy as np
import pytest

pytest.importorskip("t5x", reason="T5X is not installed")

from t5x.examples.t5.network import T5Config

from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.model import BACKBONE_KEYS, Model
from hyperdecoders_jax.t5x import network
from hyperdecoders_jax.weights import arrays as arrays_lib
from hyperdecoders_jax.weights import names, t5x_checkpoint
from tests.t5x import test_runs

pytestmark = pytest.mark.t5x

TASK = """\
import seqio
import tensorflow as tf

def read(split, shuffle_files, seed=None):
    words = ["red", "green", "blue", "white"] * 8
    return tf.data.Dataset.from_tensor_slices({"inputs": words, "targets": [x[:2] for x in words]})

feature = seqio.Feature(vocabulary=seqio.ByteVocabulary())
for name in ("initials", "others"):
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(read, splits=["train", "validation"]),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features={"inputs": feature, "targets": feature},
        metric_fns=[lambda targets, predictions: {"accuracy": 0.0}],
    )
seqio.MixtureRegistry.add("both", [("initials", 1), ("others", 1)])
"""
OWN_SETTINGS = """\
from __gin__ import dynamic_registration
import my_task
import seqio
VOCABULARY = @seqio.ByteVocabulary()
MIXTURE_OR_TASK_NAME = 'initials'
TASK_FEATURE_LENGTHS = {'inputs': 8, 'targets': 4}
USE_CACHED_TASKS = False
BATCH_SIZE = 4
TRAIN_STEPS = 2
EVAL_STEPS = 1
EVAL_PERIOD = 2
RANDOM_SEED = 7
HYPERNETWORK_BOTTLENECK_DIM = 5
DECODER_BOTTLENECK_DIM = 4
"""
# As finetune.gin says it.
T5X_START = """\
import __main__ as train_script
from t5x import utils
train_script.train.train_state_initializer_cls = @utils.TrainStateInitializer
utils.CheckpointConfig.restore = @utils.RestoreCheckpointConfig()
"""
SIZES = dict(emb_dim=8, num_heads=4, head_dim=3, mlp_dim=16)
LAYERS = dict(num_encoder_layers=2, num_decoder_layers=2)
PLAIN = T5Config(vocab_size=32128, mlp_activations=("gelu", "linear"), **SIZES, **LAYERS)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A plain T5 as a T5X checkpoint, of the sizes of T5X's tiny.gin."""
    params = Model(network.adapted(PLAIN)).init(jax.random.key(3))
    flat = arrays_lib.in_memory(names.flatten(params))
    return str(t5x_checkpoint.write(tmp_path_factory.mktemp("t5"), flat, step=0))


def train(folder, base, adapters, settings=""):
    """Trains by T5X's own command; the folder's newest checkpoint, and the log."""
    (folder / "my_task.py").write_text(TASK)
    (folder / "own.gin").write_text(OWN_SETTINGS + settings)
    files = ["t5x/examples/t5/t5_1_1/tiny.gin", "runs/t5x/finetune.gin", adapters, "own.gin"]
    where = f"--gin_search_paths={gin_files.package_config_folder()},{folder}"
    macros = {"MODEL_DIR": f"{folder}/run", "INITIAL_CHECKPOINT_PATH": base}
    code = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    code += "runpy.run_module('t5x.train', run_name='__main__', alter_sys=True)"
    log = test_runs.start(
        sys.executable, "-c", code, str(folder), where,
        *(f"--gin_file={file}" for file in files),
        *(f"--gin.{name}={value!r}" for name, value in macros.items()),
    )  # fmt: skip
    return t5x_checkpoint.open(f"{folder}/run/checkpoint_2"), log


@pytest.mark.parametrize("settings", ["", T5X_START], ids=["our initialiser", "T5X's restore"])
def test_t5x_fine_tunes_a_frozen_t5_of_its_own(tmp_path, base, settings):
    if settings:
        text = (
            pathlib.Path(gin_files.package_config_folder()) / "runs/t5x/finetune.gin"
        ).read_text()
        commented = re.search(r"#   (utils\.RestoreCheckpointConfig:\n(#     .*\n)+)", text)[1]
        settings += commented.replace("#     ", "  ")
    arrays, _ = train(tmp_path, base, "adapters/hyperdecoder.gin", settings)
    plain = t5x_checkpoint.open(base)
    for name, array in plain.items():
        np.testing.assert_array_equal(arrays[name].read(), array.read(), err_msg=name)
    new = {name.split("/")[0] for name in arrays.keys() - plain.keys()}
    assert new == {"encoder_adapters", "decoder_adapters"}
    assert {name.split("/")[0] for name in plain} == set(BACKBONE_KEYS)


def test_tasks_are_numbered_for_methods_that_tell_them_apart(tmp_path, base):
    settings = "ENCODER_BOTTLENECK_DIM = 3\nMIXTURE_OR_TASK_NAME = 'both'\n"
    arrays, _ = train(tmp_path, base, "adapters/per_task_adapter.gin", settings)
    biases = arrays["decoder_adapters/feed_forward/up_bias"].read()  # Zero before training.
    assert biases.shape[1] == 2
    assert np.abs(biases).sum(axis=(0, 2)).all()
