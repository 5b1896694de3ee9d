"""A run under T5X starts from weights in any format, or says what does not fit."""

import jax
import numpy as np
import pytest

pytest.importorskip("t5x", reason="T5X is not installed")

from hyperdecoders_jax.t5x import initialization, optimizers
from hyperdecoders_jax.training import optimizer, schedules
from hyperdecoders_jax.training.trainable import TrainableConfig
from hyperdecoders_jax.weights import arrays, safetensors_files, t5x_checkpoint
from tests.t5x import runs

pytestmark = pytest.mark.t5x

FORMATS = ("safetensors", *t5x_checkpoint.LAYOUTS)


@pytest.fixture(scope="module", name="run")
def one_run():
    inner = optimizers.make_optimizer(optimizer.AdamWConfig(), schedules.ConstantConfig(1e-2), 4)
    return runs.Run(optimizers.TrainableOnly(inner, TrainableConfig()))


def start(run, path):
    initializer = initialization.TrainStateInitializer(
        run.model.optimizer_def,
        run.model.get_initial_variables,
        {name: x.shape for name, x in runs.make_features().items()},
        run.partitioner,
        initial_checkpoint_path=path,
    )
    return initializer.from_scratch(jax.random.PRNGKey(0))


def write(folder, flat, kind="safetensors"):
    stored = arrays.in_memory(flat)
    if kind != "safetensors":
        return str(t5x_checkpoint.write(folder, stored, step=70, layout=kind))
    folder.mkdir()
    safetensors_files.write_file(folder / "t5.safetensors", stored)
    return str(folder / "t5.safetensors")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_run_starts_from_the_bits_of_a_plain_t5_and_keeps_them(run, tmp_path, kind):
    stored = runs.make_arrays()
    state = start(run, write(tmp_path / "t5", stored, kind))
    assert int(state.step) == 0
    found, drawn = runs.flatten(state.params), runs.flatten(run.from_scratch().params)
    for name, array in found.items():
        np.testing.assert_array_equal(array, stored.get(name, drawn[name]), err_msg=name)
    # The step takes it as it takes what T5X has drawn.
    trained = runs.flatten(run.train(state, [0, 1]).params)
    moved = {name for name, array in trained.items() if not np.array_equal(array, found[name])}
    assert {name.split("/")[0] for name in moved} == {"decoder_adapters"}


def test_a_run_starts_anew_from_what_another_run_wrote(run, tmp_path):
    trained = run.train(run.from_scratch(seed=1), [0, 1])
    expected = runs.flatten(trained.params)
    state = start(run, run.save(tmp_path, trained))
    assert int(state.step) == 0
    for name, value in runs.flatten(state.params).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert not np.any(jax.tree.leaves(state.param_states)[1])  # Moments start anew.


def test_without_a_path_all_is_drawn(run):
    found, drawn = (runs.flatten(state.params) for state in (start(run, None), run.from_scratch()))
    for name, array in drawn.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("kind", FORMATS)
def test_arrays_that_do_not_fit_are_refused_by_name(run, tmp_path, kind):
    whole = runs.make_arrays()
    lacking = {path: x for path, x in whole.items() if path != "encoder/encoder_norm/scale"}
    more = {**whole, "decoder/layers_0/mlp/more/kernel": np.zeros((2, 3), np.float32)}
    other = {**whole, "encoder/encoder_norm/scale": np.zeros(9, np.float32)}
    adapters = runs.make_arrays((*runs.PLAIN, "decoder_adapters"))
    adapters.pop("decoder_adapters/hypernetwork/hidden/bias")
    for i, (flat, message) in enumerate(
        [
            (lacking, r"missing: encoder/encoder_norm/scale; unexpected: none"),
            (more, r"missing: none; unexpected: decoder/layers_0/mlp/more/kernel"),
            (other, r"encoder/encoder_norm/scale is \(9,\) there and \(8,\) in"),
            (adapters, r"missing: decoder_adapters/hypernetwork/hidden/bias"),
        ]
    ):
        path = write(tmp_path / str(i), flat, kind)
        with pytest.raises(ValueError, match=message):
            start(run, path)
