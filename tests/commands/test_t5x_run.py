"""What T5X's trainer leaves is a run for our commands, on a machine without T5X."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import hyperdecoders_jax
from hyperdecoders_jax.commands import configured, main
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.trained import opened
from hyperdecoders_jax.training import metric_lines
from hyperdecoders_jax.weights import (
    adapter_folder,
    arrays,
    backbone,
    formats,
    run_folder,
    t5x_checkpoint,
    trained_model,
)
from tests.commands import test_train, tiny_runs

# In place of what our own runner's configuration binds.
THEIR_BINDINGS = """
import __main__ as train_script
from gin import config as gin_config
from hyperdecoders_jax.t5x import model as t5x_model
from hyperdecoders_jax.t5x import saved_config
from hyperdecoders_jax.t5x import tasks
from t5x import utils

T5X_MODEL = @t5x_model.HyperdecoderModel()
t5x_model.HyperdecoderModel.model = %MODEL
saved_config.write.task_names = ('demo_topic',)
saved_config.write.run = @run_config.RunConfig()
train_script.train.model = %T5X_MODEL
REGISTERED = @registered/gin_config.singleton()
registered/gin_config.singleton.constructor = @tasks.register_task_ids
pipeline.PipelineConfig.mixture_or_task_name = %REGISTERED
train_script.train.checkpoint_cfg = @utils.CheckpointConfig()
train/utils.DatasetConfig.batch_size = %BATCH_SIZE
TASK_NAMES = ('demo_topic',)
"""


pytestmark = pytest.mark.usefixtures("forget_configuration")


def convert(source, target, *flags):
    return main.main(["convert", f"--from={source}", f"--to={target}", *flags])


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A run of our own runner, from a T5 in a file."""
    folder = tmp_path_factory.mktemp("ours")
    tokens = vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH)
    metadata = {trained_model.VOCABULARY_KEY: vocabulary.fingerprint(tokens)}
    backbone.save(folder / "t5.safetensors", test_train.tiny_start().params(), metadata)
    arguments = test_train.train_arguments(
        folder / "run",
        INITIAL_CHECKPOINT_PATH=folder / "t5.safetensors",
        TRAIN_STEPS=2,
        EVAL_SPLIT=None,
    )
    assert main.main(arguments) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def theirs(ours, tmp_path_factory):
    """The same parameters as T5X leaves them."""
    folder = tmp_path_factory.mktemp("theirs") / "run"
    assert convert(f"run:{ours}", f"t5x_orbax:{folder}") == 0
    lines = (ours / configured.SAVED_CONFIG).read_text().splitlines()
    lines = [line for line in lines if "train_script" not in line]
    text = "\n".join([*lines, THEIR_BINDINGS]).replace(str(ours), str(folder))
    (folder / configured.SAVED_CONFIG).write_text(text)
    run = run_folder.read_file(ours)
    # T5X holds all parameters, so that nobody hashes the frozen ones while it trains.
    description = dataclasses.replace(run.description, backbone=None)
    run = dataclasses.replace(run, description=description, runner=run_folder.T5X_RUNNER)
    run_folder.write(folder, run)
    return folder


def test_it_is_exported_as_a_run_of_our_own(ours, theirs, tmp_path):
    metric_lines.append(ours / "metrics.jsonl", 2, "eval", {"task": "demo_topic", "accuracy": 25.0})
    for model_dir, name in ((ours, "ours"), (theirs, "theirs")):
        flags = [f"--checkpoint={model_dir}", f"--output={tmp_path / name}"]
        assert main.main(["export", *flags]) == 0
    files = {name: sorted(path.name for path in (tmp_path / name).iterdir()) for name in
             ("ours", "theirs")}  # fmt: skip
    assert files["ours"] == files["theirs"]
    for name in files["ours"]:
        one, other = ((tmp_path / run / name).read_bytes() for run in ("ours", "theirs"))
        assert one == other or name == "README.md", name
    card = (tmp_path / "ours/README.md").read_text()
    assert "Training began with `t5.safetensors`." in card
    assert "Trained on `demo_topic`. Tasks, in their order: `demo_topic`." in card
    assert "at step 2, which is exported here:" in card
    assert "| demo_topic | accuracy | 25.00 |" in card
    assert "of them are those of the T5 that was adapted, unchanged." in card


def test_it_predicts_as_a_run_of_our_own_with_these_parameters(ours, theirs, tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("topic: a pear\ntopic: a kind of dog\n")
    capsys.readouterr()
    for model_dir in (ours, theirs):
        assert main.main(["infer", f"--model_dir={model_dir}", f"--input={lines}"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4
    assert out[:2] == out[2:]


def test_it_becomes_the_same_adapter_folder(ours, theirs, tmp_path):
    for name, run in {"ours": ours, "theirs": theirs}.items():
        assert convert(f"run:{run}", f"adapters:{tmp_path}/{name}") == 0
    (wanted, arrays), (found, same) = (
        adapter_folder.read(tmp_path / name) for name in ("ours", "theirs")
    )
    assert found == wanted
    assert found.backbone is not None
    assert set(same) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(same[name], array, err_msg=name)


def test_it_is_evaluated(theirs, tmp_path, capsys):
    code = main.main(["eval", f"--model_dir={theirs}", "--gin.EVAL_SPLIT=test",
                     f"--gin.EVAL_OUTPUT_DIR={tmp_path}"])  # fmt: skip
    assert code == 0
    assert "demo_topic  accuracy" in capsys.readouterr().out
    assert (tmp_path / "metrics-2.json").exists()


@pytest.fixture
def copied(theirs, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(theirs, tmp_path / "copied")


def test_the_newest_checkpoint_is_taken_unless_another_is_named(copied, tmp_path, capsys):
    shutil.copytree(copied / "checkpoint_2", copied / "checkpoint_10")
    for step, flags in {10: [], 2: ["--step=2"]}.items():
        assert convert(f"run:{copied}", f"t5x:{tmp_path}/{step}", *flags) == 0
        assert (tmp_path / str(step) / f"checkpoint_{step}").is_dir()
    capsys.readouterr()
    assert convert(f"run:{copied}", f"t5x:{tmp_path}/4", "--step=4") == 2
    assert "and " + str(copied) + " holds those of steps [2, 10]" in capsys.readouterr().err


def test_the_best_checkpoint_is_taken_where_the_run_names_it(copied):
    shutil.copytree(copied / "checkpoint_2", copied / "checkpoint_10")
    t5x_checkpoint.write_best(copied, 2, "average_metrics")
    assert run_folder.find_step(str(copied), "best") == 2
    assert run_folder.find_step(str(copied), "last") == 10
    shutil.rmtree(copied / "checkpoint_2")
    assert run_folder.find_step(str(copied), "best") == 10


@pytest.fixture
def rounded(ours, copied):
    """A copy of a run whose frozen parameters were rounded to bfloat16."""
    run = run_folder.read_file(copied)
    stored = {p: x.read() for p, x in t5x_checkpoint.open(copied / "checkpoint_2").items()}
    shutil.rmtree(copied / "checkpoint_2")
    dtype = trained_model.DTYPES["bfloat16"]
    rounded = {p: x.astype(dtype).astype(np.float32) for p, x in stored.items()}
    kept = {p: stored[p] if p in run.trained else x for p, x in rounded.items()}
    t5x_checkpoint.write(copied, arrays.in_memory(kept), step=2)
    run_folder.write(copied, dataclasses.replace(run, frozen_dtype="bfloat16"))
    return copied


def test_adapters_of_rounded_weights_name_the_t5_that_was_rounded(ours, rounded, caplog):
    wanted = run_folder.read(str(ours), "last", formats.read).description.backbone
    found = run_folder.read(str(rounded), "last", formats.read)
    assert found.description.backbone == dataclasses.replace(wanted, dtype="bfloat16")
    assert set(found.own) == set(run_folder.read_file(rounded).trained)
    # With other weights in its place the checkpoint is whole all the same.
    run = run_folder.read_file(rounded)
    other = rounded / "other.safetensors"
    params = jax.tree.map(lambda x: x + 1, test_train.tiny_start().params())
    backbone.save(other, params, {})
    for source in (str(other), str(rounded / "nowhere")):
        run_folder.write(rounded, dataclasses.replace(run, initial_checkpoint_path=source))
        caplog.clear()
        alone = run_folder.read(str(rounded), "last", formats.read)
        assert alone.description.backbone is None
        assert len(alone.own) == len(alone.arrays)
        assert "are not there as they were" in caplog.text


def test_parameters_that_are_not_the_models_are_refused(copied, tmp_path, capsys):
    config = copied / run_folder.CONFIG_FILE
    whole = json.loads(config.read_text())
    for (name, value), message in {
        ("mlp_dim", 25): "is (16, 24) there and (16, 25)",
        ("num_decoder_layers", 2): "missing: decoder/layers_1/",
    }.items():
        fields = {**whole, "model": {**whole["model"], name: value}}
        config.write_text(json.dumps(fields))
        assert convert(f"run:{copied}", f"adapters:{tmp_path}/new") == 2
        assert message in capsys.readouterr().err


def test_our_runner_does_not_continue_it(copied, capsys):
    assert main.main(test_train.train_arguments(copied)) == 2
    assert "must be continued by its own runner" in capsys.readouterr().err


def test_a_folder_of_two_runs_is_refused(ours, copied, capsys):
    shutil.copytree(ours / "checkpoints", copied / "checkpoints")
    assert main.main(["infer", f"--model_dir={copied}", "--input=-"]) == 2
    assert "must hold the run of one runner" in capsys.readouterr().err


def test_tasks_have_the_numbers_that_the_run_says(copied, tmp_path, capsys):
    config = copied / run_folder.CONFIG_FILE
    fields = json.loads(config.read_text())
    fields["task_names"] = ["demo_find", "demo_topic"]
    config.write_text(json.dumps(fields))
    assert hyperdecoders_jax.load(copied).task_names == ("demo_find", "demo_topic")
    model = Model(run_folder.read_file(copied).description.model)
    run = tiny_runs.make_config(model=model, model_dir=str(copied))
    assert opened.task_names(run, "last") == ("demo_find", "demo_topic")
    # A run that does not say so is none, whatever its configuration has.
    config.unlink()
    flags = ["--gin.EVAL_SPLIT=test", "--gin.TASK_NAMES=('demo_topic',)"]
    assert main.main(["eval", f"--model_dir={copied}", *flags]) == 2
    assert f"hyperdecoders upgrade --model_dir={copied}" in capsys.readouterr().err
