"""What one runner has trained the other continues, and predicts with as the first does."""

import gin
import numpy as np
import pytest

pytest.importorskip("t5x", reason="T5X is not installed")


from hyperdecoders_jax.commands import main
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.model import BACKBONE_KEYS
from hyperdecoders_jax.weights import t5x_checkpoint
from tests.commands import test_train
from tests.t5x import test_runs

pytestmark = pytest.mark.t5x

FILES = [*test_runs.FILES]
MACROS = {**test_train.TINY, "EVAL_SPLIT": None}
PREDICTED = {"INFER_SPLIT": "validation", "EVAL_BATCH_SIZE": 8}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A plain T5 as a T5X checkpoint."""
    folder = tmp_path_factory.mktemp("t5")
    start = test_train.tiny_start().arrays
    gin.clear_config()
    flat = {path: x for path, x in start.items() if path.split("/")[0] in BACKBONE_KEYS}
    return str(t5x_checkpoint.write(folder, flat, step=70))


@pytest.fixture(scope="module")
def ours(base, tmp_path_factory):
    """A run of our own runner, and its parameters as a T5X checkpoint."""
    model_dir = tmp_path_factory.mktemp("ours") / "run"
    macros = {**MACROS, "INITIAL_CHECKPOINT_PATH": base}
    test_runs.start(*test_runs.hyperdecoders("train", model_dir, FILES, **macros))
    convert(f"run:{model_dir}", f"t5x_orbax:{model_dir}/t5x")
    return model_dir, f"{model_dir}/t5x/checkpoint_3"


@pytest.fixture(scope="module")
def theirs(ours, tmp_path_factory):
    """A run under T5X that goes on from it, and its checkpoint."""
    model_dir = tmp_path_factory.mktemp("theirs") / "run"
    macros = {**MACROS, "INITIAL_CHECKPOINT_PATH": ours[1], "CHECKPOINT_PERIOD": 2}
    macros = {**macros, "TRAIN_STEPS": 2}
    command = test_runs.hyperdecoders("train", model_dir, FILES, **macros)
    test_runs.start(*command, "--runner=t5x")
    return model_dir, f"{model_dir}/checkpoint_2"


def convert(source, target):
    assert main.main(["convert", f"--from={source}", f"--to={target}"]) == 0
    gin.clear_config()
    vocabulary.set_run_vocabulary(None)


def parameters(path):
    return {name: array.read() for name, array in t5x_checkpoint.open(path).items()}


def predict_with_t5x(model_dir, folder, **macros):
    """The file of T5X's predictions."""
    macros = {**PREDICTED, **macros, "INFER_OUTPUT_DIR": folder}
    command = test_runs.hyperdecoders("infer", model_dir, [], **macros)
    test_runs.start(*command, "--runner=t5x")
    (file,) = folder.glob("demo_topic-*-of-00001")
    return file


def assert_predictions_are_equal(model_dir, path, tmp_path):
    """Compares texts and log-likelihoods of T5X with those of our own runner."""
    file = predict_with_t5x(model_dir, tmp_path / "theirs", CHECKPOINT_PATH=path)
    theirs = test_runs.jsonl(file)
    macros = {**PREDICTED, "INFER_OUTPUT_DIR": tmp_path / "ours"}
    test_runs.start(*test_runs.hyperdecoders("infer", model_dir, [], **macros))
    (file,) = (tmp_path / "ours").iterdir()
    ours = test_runs.jsonl(file)
    assert len(ours) > 100
    assert [line["prediction"] for line in ours] == [line["prediction"] for line in theirs]
    assert len({line["prediction"] for line in ours}) > 10
    np.testing.assert_allclose(
        [line["log_likelihood"] for line in ours],
        [line["aux"]["scores"] for line in theirs],
        atol=1e-5,
    )


def test_what_we_have_trained_t5x_predicts_with(ours, tmp_path):
    assert_predictions_are_equal(*ours, tmp_path)


def test_what_t5x_has_trained_we_predict_with(theirs, tmp_path):
    assert_predictions_are_equal(*theirs, tmp_path)


def test_t5x_goes_on_from_our_parameters_and_leaves_the_frozen_ones(base, ours, theirs):
    frozen, start, end = (parameters(path) for path in (base, ours[1], theirs[1]))
    for name, value in end.items():
        if name in frozen:
            np.testing.assert_array_equal(value, frozen[name], err_msg=name)
            np.testing.assert_array_equal(start[name], frozen[name], err_msg=name)
        else:
            assert 0 < np.max(np.abs(value - start[name])) < 0.1, name


def test_a_t5_and_an_adapter_folder_predict_as_the_whole_checkpoint(base, theirs, tmp_path):
    model_dir, path = theirs
    convert(f"run:{model_dir}", f"adapters:{tmp_path}/adapters")
    whole = predict_with_t5x(model_dir, tmp_path / "whole", CHECKPOINT_PATH=path)
    both = predict_with_t5x(
        model_dir, tmp_path / "both", CHECKPOINT_PATH=base, ADAPTERS_PATH=f"{tmp_path}/adapters"
    )
    assert both.read_bytes() == whole.read_bytes()
    # And back to a checkpoint for T5X.
    convert(f"adapters:{tmp_path}/adapters", f"t5x_orbax:{tmp_path}/back")
    back = parameters(f"{tmp_path}/back/checkpoint_2")
    expected = parameters(path)
    assert set(back) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)
