"""T5X restores all parameters of a model, or says what does not fit."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("t5x", reason="T5X is not installed")

from t5x import checkpoints as base
from t5x import utils

from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling.config import AdapterConfig
from hyperdecoders_jax.t5x import checkpoint_manager, checkpoints, optimizers
from hyperdecoders_jax.training import optimizer, run_directory, run_lock, schedules, trainer
from hyperdecoders_jax.training.identity import Identity
from hyperdecoders_jax.training.trainable import TrainableConfig
from hyperdecoders_jax.weights import (
    adapter_folder,
    arrays,
    fingerprints,
    names,
    t5x_checkpoint,
    trained_model,
)
from tests.t5x import runs
from tests.tiny import make_config
from tests.training import tiny

pytestmark = pytest.mark.t5x


def make_run(config=None):
    inner = optimizers.make_optimizer(
        config or optimizer.AdamWConfig(), schedules.ConstantConfig(1e-2), num_train_steps=4
    )
    return runs.Run(optimizers.TrainableOnly(inner, TrainableConfig()))


@pytest.fixture(scope="module", name="run")
def one_run():
    return make_run()


def write(folder, flat, layout="t5x"):
    return str(t5x_checkpoint.write(folder, arrays.in_memory(flat), step=70, layout=layout))


def test_the_best_checkpoint_is_kept_besides_the_newest(tmp_path, run, monkeypatch):
    lines = [
        {"step": step, "accuracy": value, "text": "seven"}
        for step, value in ((1, 9.0), (1, 5.0), (2, 3.0))
    ]
    (tmp_path / "inference_eval").mkdir()
    for task, wanted in (("one", lines), ("two", lines[:2])):  # Of step 2 one task is missing.
        text = "".join(json.dumps(line) + "\n" for line in wanted)
        (tmp_path / f"inference_eval/{task}-metrics.jsonl").write_text(text)
    best = trainer.BestCheckpointConfig("one/accuracy", greater_is_better=False)
    interface = base.OrbaxCheckpointManagerInterface
    monkeypatch.setattr(interface, "_CheckpointManagerImpl", interface._CheckpointManagerImpl)
    save = utils.SaveCheckpointConfig(period=7)
    assert checkpoint_manager.keep_best(save, best) is save
    manager = interface(str(tmp_path), run.shapes, run.partitioner, keep=1)
    assert checkpoint_manager.read_metrics(tmp_path / "inference_eval") == {
        1: {"one": {"accuracy": 5.0}, "two": {"accuracy": 5.0}}
    }
    assert (
        checkpoint_manager.find_best(tmp_path, [1], trainer.BestCheckpointConfig("one/f1")) is None
    )
    state = run.from_scratch()
    for step in range(1, 4):
        manager.save(state.replace_step(jnp.asarray(step)))
        manager.wait_until_finished()
    assert list(t5x_checkpoint.steps(tmp_path)) == [1, 3]
    assert t5x_checkpoint.best_or_newest(tmp_path) == 1
    manager.close()
    (tmp_path / t5x_checkpoint.BEST_FILE).write_text('{"step": 2}')
    assert t5x_checkpoint.best_or_newest(tmp_path) == 3


def test_evaluation_needs_the_new_parameters_too(tmp_path, run):
    path = write(tmp_path, runs.make_arrays())
    with pytest.raises(ValueError, match=r"the parameters of the model; missing: decoder_adapters"):
        run.start(tmp_path / "run", checkpoints.whole_checkpoint(path))


@pytest.mark.parametrize(
    "file", ["train_ds-000-of-001", "process_0-of-2/train_ds-000-of-002"], ids=["one", "two"]
)
def test_tasks_must_be_numbered_as_in_training(tmp_path, file):
    model = Model(make_config("manual_specific", "none"))
    path = tmp_path / "checkpoint_3"
    (path / "dataset" / file).parent.mkdir(parents=True)
    identity = Identity(task_names=("sst2", "cola"))
    written = json.dumps({"identity": identity.to_json(), "settings": None, "position": None})
    (path / "dataset" / file).write_text(written)

    def restore(model, *task_names):
        checkpoints.whole_checkpoint(str(path), model=model, task_names=task_names)

    restore(model, "sst2", "cola")
    with pytest.raises(ValueError, match=r"\['sst2', 'cola'\] there and \['cola', 'sst2'\] here"):
        restore(model, "cola", "sst2")
    restore(tiny.make_model(), "cola", "sst2")  # Tells no tasks apart.


def test_evaluation_reads_what_a_run_wrote(tmp_path, run):
    trained = run.from_scratch(seed=1)
    path = run.save(tmp_path, trained)
    found = runs.Run(None).start(tmp_path, checkpoints.whole_checkpoint(path, dtype=None))
    expected = runs.flatten(trained.params)
    for name, value in runs.flatten(found.params).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def describe(model, backbone):
    return trained_model.Description(
        model=model.config,
        decoding=model.decoding,
        backbone=trained_model.Backbone(
            "pretrained", fingerprints.fingerprint(names.unflatten(backbone)), "float32"
        ),
        vocabulary=trained_model.Vocabulary(tokenizer.BYTES_MODEL, 3),
        task_names=("mail",),
        task_feature_lengths={"inputs": 7, "targets": 5},
        step=12,
    )


def write_adapters(folder, flat, description):
    folder.mkdir()
    adapter_folder.write(folder, description, arrays.in_memory(flat))
    return str(folder)


@pytest.fixture(scope="module", name="parts")
def trained_parts():
    """The T5 of a trained model, and what was trained."""
    whole = runs.make_arrays((*runs.PLAIN, "decoder_adapters"))
    backbone = {path: x for path, x in whole.items() if path.split("/")[0] in runs.PLAIN}
    return backbone, {path: x for path, x in whole.items() if path not in backbone}


def predict(run, state):
    batch = runs.make_features(seed=5)
    tokens, aux = jax.jit(run.model.predict_batch_with_aux)(state.params, batch)
    return [np.asarray(x).tobytes() for x in (tokens, aux["scores"])]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", t5x_checkpoint.LAYOUTS)
def test_a_t5_with_an_adapter_folder_predicts_as_the_whole_checkpoint(
    tmp_path, parts, layout, dtype
):
    run, model = runs.Run(None), tiny.make_model()
    backbone, trained = parts
    base, whole = (
        write(tmp_path / name, flat, layout)
        for name, flat in {"base": backbone, "whole": backbone | trained}.items()
    )
    folder = write_adapters(tmp_path / "adapters", trained, describe(model, backbone))
    expected = run.start(tmp_path, checkpoints.whole_checkpoint(whole, dtype))
    # The adapters that a checkpoint has of its own make room for those of the folder.
    other = write(tmp_path / "other", backbone | {k: x + 1 for k, x in trained.items()}, layout)
    for path in (base, other):
        restore = checkpoints.whole_checkpoint(path, dtype, folder, model)
        state = run.start(tmp_path, restore)
        assert int(state.step) == 12
        assert {str(x.dtype) for x in jax.tree.leaves(state.params)} == {dtype}
        jax.tree.map(np.testing.assert_array_equal, state.params, expected.params)
        assert predict(run, state) == predict(run, expected)


def test_a_backbone_that_was_rounded_in_training_is_rounded(tmp_path, parts):
    run, model = runs.Run(None), tiny.make_model()
    backbone, trained = parts
    description = describe(model, backbone)
    rounded = dataclasses.replace(description.backbone, dtype="bfloat16")
    description = dataclasses.replace(description, backbone=rounded)
    folder = write_adapters(tmp_path / "adapters", trained, description)
    restore = checkpoints.whole_checkpoint(
        write(tmp_path / "base", backbone), "float32", folder, model
    )
    found = runs.flatten(run.start(tmp_path, restore).params)
    for name, value in backbone.items():
        np.testing.assert_array_equal(found[name], value.astype(jnp.bfloat16), err_msg=name)
    for name, value in trained.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_adapters_of_another_t5_or_model_are_refused(tmp_path, parts):
    run, model = runs.Run(None), tiny.make_model()
    backbone, trained = parts
    base = write(tmp_path / "base", backbone)
    folder = write_adapters(tmp_path / "adapters", trained, describe(model, backbone))
    moved = dict(backbone, **{"encoder/encoder_norm/scale": np.zeros(8, np.float32)})
    other = write(tmp_path / "other", moved)
    with pytest.raises(
        ValueError, match=r"must be the one .* with, pretrained of .* CHECKPOINT_PA"
    ):
        run.start(tmp_path, checkpoints.whole_checkpoint(other, None, folder, model))
    lacking = {path: x for path, x in backbone.items() if path != "encoder/encoder_norm/scale"}
    lacking = write(tmp_path / "lacking", lacking)
    with pytest.raises(ValueError, match=r"missing: encoder/encoder_norm/scale; unexpected: none"):
        run.start(tmp_path, checkpoints.whole_checkpoint(lacking, None, folder, model))
    plain = dataclasses.replace(model.config.decoder_adapter, norm_input=True)
    normed = Model(dataclasses.replace(model.config, decoder_adapter=plain))
    with pytest.raises(ValueError, match=r"decoder_adapter.norm_input is False there and True in"):
        checkpoints.whole_checkpoint(base, None, folder, normed)
    with pytest.raises(ValueError, match=r"must be compared with the model; got none"):
        checkpoints.whole_checkpoint(base, None, folder)
    manual = AdapterConfig("manual", bottleneck_dim=3)
    both = dataclasses.replace(
        model, config=dataclasses.replace(model.config, encoder_adapter=manual)
    )
    restore = checkpoints.whole_checkpoint(base, None, folder, both)
    with pytest.raises(ValueError, match=r"the parameters of the model; missing: encoder_adapters"):
        runs.Run(None, both).start(tmp_path, restore)


def test_an_adapter_folder_must_be_whole(tmp_path, parts):
    backbone, trained = parts
    trained = {name: x for name, x in trained.items() if "hidden/bias" not in name}
    model = tiny.make_model()
    folder = write_adapters(tmp_path / "adapters", trained, describe(model, backbone))
    with pytest.raises(
        ValueError, match=r"missing: decoder_adapters/hypernetwork/hidden.* Copy the"
    ):
        checkpoints.whole_checkpoint("t5/checkpoint_0", None, folder, model)


def test_another_optimizer_does_not_continue_a_run(tmp_path, run):
    path = run.save(tmp_path, run.from_scratch())
    other = make_run(optimizer.AdafactorConfig())
    with pytest.raises(
        ValueError, match=r"is continued .* missing: state/.*/v/.* unexpected: state/.*/mu/"
    ):
        other.resume(path, checkpoints.own_checkpoint(str(tmp_path)))


def test_a_run_of_our_own_runner_is_left_alone(tmp_path):
    own = run_directory.RunDirectory(str(tmp_path)).checkpoints().directory
    (own / "7").mkdir(parents=True)
    (own / "7" / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"must hold the run of one runner; .* of steps \[7\]\."):
        checkpoints.own_checkpoint(str(tmp_path))


def test_a_run_that_another_process_writes_is_refused(tmp_path):
    code = "import sys; from hyperdecoders_jax.training import run_lock as lock\n"
    code += "with lock.held(sys.argv[1]): print('held', flush=True); sys.stdin.read()\n"
    command = [sys.executable, "-c", code, tmp_path / "model"]
    options = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen(command, **options) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match=rf"is being written by process {other.pid} on .*Wai"):
            checkpoints.own_checkpoint(f"{tmp_path}/model")
        other.stdin.close()
        other.wait()
    checkpoints.own_checkpoint(f"{tmp_path}/model")
    assert (tmp_path / "model" / run_lock.FILE).exists()  # Until this process ends.


def test_a_checkpoint_of_t5x_is_known_by_its_name():
    found = checkpoints.whole_checkpoint("gs://bucket/t5/checkpoint_1100000/").path
    assert found == "gs://bucket/t5/checkpoint_1100000"


def test_other_weights_are_refused_with_the_command_that_converts_them():
    with pytest.raises(
        ValueError, match=r"got 'google/t5'\. .* convert --from=google/t5 --to=t5x:"
    ):
        checkpoints.whole_checkpoint("google/t5")
