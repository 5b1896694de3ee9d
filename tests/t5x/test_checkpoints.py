"""A run under T5X starts from all of T5's parameters, or says what does not fit."""

import jax
import numpy as np
import pytest
from flax.core import unfreeze

pytest.importorskip("t5x", reason="T5X is not installed")

from hyperdecoders_jax.interop import arrays, names, t5x_checkpoint
from hyperdecoders_jax.t5x import checkpoints, optimizers
from hyperdecoders_jax.training import optimizer, schedules
from hyperdecoders_jax.training.trainable import TrainableConfig
from tests.t5x import runs
from tests.training import tiny

pytestmark = pytest.mark.t5x

PLAIN = ("token_embedder", "encoder", "decoder")


def make_run(config=None):
    inner = optimizers.make_optimizer(
        config or optimizer.AdamWConfig(), schedules.ConstantConfig(1e-2), num_train_steps=4
    )
    return runs.Run(optimizers.TrainableOnly(inner, TrainableConfig()))


@pytest.fixture(scope="module", name="run")
def one_run():
    return make_run()


def make_arrays(parts=PLAIN):
    rng = np.random.default_rng(3)
    shapes = tiny.make_model().param_shapes()
    flat = names.flatten({key: shapes[key] for key in parts})
    return {path: rng.normal(size=x.shape).astype(np.float32) for path, x in flat.items()}


def write(folder, flat, layout="t5x"):
    return str(t5x_checkpoint.write(folder, arrays.in_memory(flat), step=70, layout=layout))


def flatten(params):
    return {path: np.asarray(x) for path, x in names.flatten(unfreeze(params)).items()}


@pytest.mark.parametrize("layout", t5x_checkpoint.LAYOUTS)
def test_a_run_starts_from_the_bits_of_a_plain_t5(tmp_path, run, layout):
    stored = make_arrays()
    path = write(tmp_path / "pretrained", stored, layout)
    state = run.start(tmp_path / "run", checkpoints.initial_checkpoint(path))
    assert int(state.step) == 0
    before, drawn = flatten(state.params), flatten(run.from_scratch().params)
    for name, value in before.items():
        expected = stored[name] if name in stored else drawn[name]
        np.testing.assert_array_equal(value, expected, err_msg=name)
    after = flatten(run.train(state, [0, 1]).params)
    for name, value in stored.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_a_run_starts_at_step_0_from_what_another_run_wrote(tmp_path, run):
    trained = run.train(run.from_scratch(seed=1), [0, 1])
    expected = flatten(trained.params)
    path = run.save(tmp_path / "first", trained)
    state = run.start(tmp_path / "second", checkpoints.initial_checkpoint(path))
    assert int(state.step) == 0
    for name, value in flatten(state.params).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert not np.any(jax.tree.leaves(state.param_states)[1])  # Moments start anew.


@pytest.mark.parametrize("layout", t5x_checkpoint.LAYOUTS)
def test_arrays_that_do_not_fit_are_refused_by_name(tmp_path, run, layout):
    whole = make_arrays()
    lacking = {path: x for path, x in whole.items() if path != "encoder/encoder_norm/scale"}
    more = {**whole, "decoder/layers_7/mlp/wo/kernel": np.zeros((2, 3), np.float32)}
    other = {**whole, "encoder/encoder_norm/scale": np.zeros(9, np.float32)}
    adapters = make_arrays((*PLAIN, "decoder_adapters"))
    adapters.pop("decoder_adapters/hypernetwork/hidden/bias")
    for i, (flat, message) in enumerate(
        [
            (lacking, r"missing: encoder/encoder_norm/scale; unexpected: none"),
            (more, r"missing: none; unexpected: decoder/layers_7/mlp/wo/kernel"),
            (other, r"encoder/encoder_norm/scale has shape \(9,\) there and \(8,\)"),
            (adapters, r"missing: decoder_adapters/hypernetwork/hidden/bias"),
        ]
    ):
        path = write(tmp_path / str(i), flat, layout)
        with pytest.raises(ValueError, match=message):
            run.start(tmp_path / "run", checkpoints.initial_checkpoint(path))


def test_evaluation_needs_the_new_parameters_too(tmp_path, run):
    path = write(tmp_path, make_arrays())
    with pytest.raises(ValueError, match=r"all parameters of the model; missing: decoder_adapters"):
        run.start(tmp_path / "run", checkpoints.whole_checkpoint(path))


def test_evaluation_reads_what_a_run_wrote(tmp_path, run):
    trained = run.from_scratch(seed=1)
    path = run.save(tmp_path, trained)
    found = runs.Run(None).start(tmp_path, checkpoints.whole_checkpoint(path, dtype=None))
    expected = flatten(trained.params)
    for name, value in flatten(found.params).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_another_optimizer_does_not_continue_a_run(tmp_path, run):
    path = run.save(tmp_path, run.from_scratch())
    other = make_run(optimizer.AdafactorConfig())
    with pytest.raises(
        ValueError, match=r"is continued .* missing: state/.*/v/.* unexpected: state/.*/mu/"
    ):
        other.resume(path, checkpoints.initial_checkpoint(None))


@pytest.mark.parametrize("make", [checkpoints.initial_checkpoint, checkpoints.whole_checkpoint])
def test_other_weights_are_refused_with_the_command_that_converts_them(make):
    assert make("gs://bucket/t5/checkpoint_1100000/").path == "gs://bucket/t5/checkpoint_1100000"
    with pytest.raises(
        ValueError, match=r"got 'google/t5'\. .* convert --from=google/t5 --to=t5x:"
    ):
        make("google/t5")


def test_without_a_path_all_is_drawn():
    assert not checkpoints.initial_checkpoint(None).path
