"""A run under T5X starts from weights in any format, each array where the mesh wants it."""

import jax
import numpy as np
import pytest
from flax.core import unfreeze

pytest.importorskip("t5x", reason="T5X is not installed")

from hyperdecoders_jax.interop import arrays, names, safetensors_files
from hyperdecoders_jax.t5x import checkpoints, initialization, optimizers
from hyperdecoders_jax.training import optimizer, schedules
from hyperdecoders_jax.training.trainable import TrainableConfig
from tests.t5x import runs
from tests.training import tiny

pytestmark = pytest.mark.t5x

PLAIN = ("token_embedder", "encoder", "decoder")


@pytest.fixture(scope="module")
def run():
    inner = optimizers.make_optimizer(optimizer.AdamWConfig(), schedules.ConstantConfig(1e-2), 4)
    return runs.Run(optimizers.TrainableOnly(inner, TrainableConfig()))


def make_initializer(run, path):
    return initialization.TrainStateInitializer(
        run.model.optimizer_def,
        run.model.get_initial_variables,
        {name: x.shape for name, x in runs.make_features().items()},
        run.partitioner,
        initial_checkpoint_path=path,
    )


def write(path):
    rng = np.random.default_rng(3)
    shapes = tiny.make_model().param_shapes()
    flat = names.flatten({key: shapes[key] for key in PLAIN})
    stored = {name: rng.normal(size=x.shape).astype(np.float32) for name, x in flat.items()}
    safetensors_files.write_file(path, arrays.in_memory(stored))
    return stored


def flatten(state):
    return {name: np.asarray(x) for name, x in names.flatten(unfreeze(state.params)).items()}


def test_weights_of_our_own_are_loaded_and_the_rest_is_drawn(run, tmp_path):
    path = str(tmp_path / "t5.safetensors")
    stored = write(path)
    assert not checkpoints.initial_checkpoint(path).path
    rng = jax.random.PRNGKey(0)
    state = make_initializer(run, path).from_scratch(rng)
    found, drawn = flatten(state), flatten(run.initializer.from_scratch(rng))
    for name, array in found.items():
        np.testing.assert_array_equal(array, stored.get(name, drawn[name]), err_msg=name)
    # The step takes it as it takes what T5X has drawn.
    trained = flatten(run.train(state, [1]))
    moved = {name for name, array in trained.items() if not np.array_equal(array, found[name])}
    assert {name.split("/")[0] for name in moved} == {"decoder_adapters"}


@pytest.mark.parametrize("path", [None, "gs://bucket/t5/checkpoint_1000"])
def test_what_t5x_restores_itself_is_left_to_it(run, path):
    rng = jax.random.PRNGKey(0)
    found = flatten(make_initializer(run, path).from_scratch(rng))
    for name, array in flatten(run.initializer.from_scratch(rng)).items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_weights_of_another_model_are_an_error(run, tmp_path):
    path = str(tmp_path / "t5.safetensors")
    stored = write(path)
    del stored["encoder/encoder_norm/scale"]
    safetensors_files.write_file(path, arrays.in_memory(stored))
    with pytest.raises(ValueError, match="encoder/encoder_norm/scale"):
        make_initializer(run, path).from_scratch(jax.random.PRNGKey(0))
