"""Whole runs of a tiny model on one demo task: train, continue, evaluate, predict; and what is
refused before anything is written."""

import contextlib
import functools
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess

import gin
import jax
import numpy as np
import pytest
import safetensors.numpy

from hyperdecoders_jax import model
from hyperdecoders_jax.commands import compilation_cache, configured, main
from hyperdecoders_jax.config import gin_binding, gin_files
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.hub import tokenizer_files
from hyperdecoders_jax.trained import describe, start
from hyperdecoders_jax.training import run_lock, trainable, trainer
from hyperdecoders_jax.weights import (
    backbone,
    fingerprints,
    run_folder,
    trained_model,
)
from tests import warm_python

TINY = {
    "EMB_DIM": 16,
    "NUM_HEADS": 2,
    "HEAD_DIM": 4,
    "MLP_DIM": 24,
    "NUM_ENCODER_LAYERS": 1,
    "NUM_DECODER_LAYERS": 1,
    "ENCODER_BOTTLENECK_DIM": 3,
    "DECODER_BOTTLENECK_DIM": 2,
    "HYPERNETWORK_BOTTLENECK_DIM": 4,
    "MIXTURE_OR_TASK_NAME": "demo_topic",
    "TASK_FEATURE_LENGTHS": "{'inputs': 48, 'targets': 4}",
    "INITIAL_CHECKPOINT_PATH": None,
    "TRAIN_STEPS": 3,  # Runs of as many steps share their compiled programs.
    "BATCH_SIZE": 8,
    "EVAL_PERIOD": 3,
    "EVAL_EXAMPLES": 10,
    "CHECKPOINT_PERIOD": 3,
    "LOG_PERIOD": 1,
}


def train_arguments(model_dir, **macros):
    flags = [f"--gin.{name}={value}" for name, value in {**TINY, **macros}.items()]
    return ["train", "--gin_file=experiments/demo_hyperdecoder.gin", f"--model_dir={model_dir}",
            *flags]  # fmt: skip


pytestmark = pytest.mark.usefixtures("forget_configuration")


def run_and_listen(arguments):
    """Runs a command for a fixture; returns its output and its messages."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main.main(arguments) == 0, err.getvalue()
    return out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def trained_and_told(tmp_path_factory):
    """A model directory after three steps, made once, and what was printed."""
    model_dir = tmp_path_factory.mktemp("run") / "model"
    return model_dir, *run_and_listen(train_arguments(model_dir))


@pytest.fixture
def trained(trained_and_told):
    return trained_and_told[0]


@pytest.fixture(scope="module")
def from_files(tmp_path_factory):
    """A folder with a run from a T5 and a vocabulary in it, not evaluated, and what was told."""
    home = tmp_path_factory.mktemp("from_files")
    fingerprint = vocabulary.fingerprint(
        vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH)
    )
    backbone.save(
        home / "t5.safetensors", tiny_start().params(), {trained_model.VOCABULARY_KEY: fingerprint}
    )
    shutil.copy(vocabulary.DEMO_VOCABULARY_PATH, home / "spiece.model")
    macros = {"INITIAL_CHECKPOINT_PATH": "t5.safetensors", "CHECKPOINT_PERIOD": 2}
    macros |= {"EVAL_SPLIT": None, "BEST_METRIC": "demo_topic/accuracy"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        _, told = run_and_listen([*train_arguments("model", **macros), "--vocabulary=spiece.model"])
    return home, told


def losses(model_dir):
    lines = map(json.loads, (model_dir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}


def test_a_run_leaves_configuration_metrics_predictions_and_a_checkpoint(trained):
    assert "TRAIN_STEPS = 3" in (trained / configured.SAVED_CONFIG).read_text()
    assert sorted(losses(trained)) == [1, 2, 3]
    assert list((trained / "tensorboard").iterdir())
    predictions = (trained / "eval" / "demo_topic" / "3.jsonl").read_text().splitlines()
    assert len(predictions) == 10
    assert {"input", "target", "prediction", "log_likelihood"} <= set(json.loads(predictions[0]))
    run = trainer.RunDirectory(str(trained)).checkpoints().read_run(3)
    assert run["identity"]["task_names"] == ["demo_topic"]
    assert run["config"] == (trained / configured.SAVED_CONFIG).read_text()


def test_a_run_says_what_it_is(trained):
    run = run_folder.read_file(trained)
    assert (run.runner, run.initial_checkpoint_path, run.random_seed) == ("embedded", None, 42)
    assert run.frozen_dtype == "float32"
    assert {path.split("/")[0] for path in run.trained} == {"encoder_adapters", "decoder_adapters"}
    assert run.description.task_names == ("demo_topic",)
    assert run.description.task_feature_lengths == {"inputs": 48, "targets": 4}
    assert run.description.model.emb_dim == TINY["EMB_DIM"]
    vocabulary_file = pathlib.Path(vocabulary.DEMO_VOCABULARY_PATH)
    assert run.description.vocabulary.model == vocabulary_file.read_bytes()
    assert run.data == {
        "mixture": "demo_topic",
        "tasks": {"demo_topic": None},
        "batch_size": 8,
        "use_cached": False,
        "eval_split": "validation",
        "eval_batch_size": None,
        "eval_examples": 10,
        "generation": None,
    }


def test_a_run_is_traced_and_keeps_programs_where_it_is_told(trained, tmp_path, capsys):
    before = jax.config.jax_compilation_cache_dir
    arguments = [*train_arguments(tmp_path / "run"), f"--compilation_cache_dir={tmp_path}/kept"]
    try:
        assert main.main([*arguments, "--profile=2-3"]) == 0
        assert jax.config.jax_compilation_cache_dir == f"{tmp_path}/kept"
    finally:
        compilation_cache._set(before)
    assert list((tmp_path / "run").glob("tensorboard/plugins/profile/*/*.xplane.pb"))
    assert main.main([*arguments, "--profile=x"]) == 2
    assert "Write --profile=10-15" in capsys.readouterr().err


def test_a_run_ends_with_a_table(trained_and_told):
    _, printed, told = trained_and_told
    assert "demo_topic  accuracy" in printed
    assert "parameters are trained" in told


def test_a_packed_run_that_is_continued_equals_one_that_is_not(tmp_path):
    # One row would hold nearer five examples; two micro-batches need two.
    macros = {"PACK": True, "EXAMPLES_PER_STEP": 5, "ROW_LENGTHS": "{'inputs': 64, 'targets': 16}"}
    macros |= {"TRAIN_STEPS": 4, "CHECKPOINT_PERIOD": 2, "EVAL_SPLIT": None, "MAX_SEGMENTS": 6}
    assert main.main(train_arguments(tmp_path / "whole", **macros, NUM_MICROBATCHES=2)) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    # As a kill behind the second step's checkpoint leaves it.
    shutil.rmtree(tmp_path / "killed" / "checkpoints" / "4")
    # Other devices or micro-batches: the run's rows, not those that would be chosen today.
    assert main.main(train_arguments(tmp_path / "killed", **macros, NUM_MICROBATCHES=1)) == 0
    whole, killed = (
        [
            {key: line[key] for key in ("step", "loss", "grad_norm", "fill", "examples_per_step")}
            for line in map(json.loads, (tmp_path / name / "metrics.jsonl").open())
        ]
        for name in ("whole", "killed")
    )
    assert killed == [pytest.approx(line, rel=1e-5) for line in whole]
    assert [line["step"] for line in whole] == [1, 2, 3, 4]
    assert whole[-1]["examples_per_step"] > 5


def test_eval_reads_the_configuration_of_the_run(trained, capsys, tmp_path):
    code = main.main(["eval", f"--model_dir={trained}", "--gin.EVAL_SPLIT=test",
                     f"--gin.EVAL_OUTPUT_DIR={tmp_path}/out"])  # fmt: skip
    assert code == 0
    assert "demo_topic  accuracy" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "out" / "metrics-3.json").read_text())) == {"demo_topic"}


def test_eval_of_the_parameters_before_training(trained, tmp_path):
    code = main.main(["eval", f"--model_dir={trained}", "--gin.CHECKPOINT_STEP=None",
                     f"--gin.EVAL_OUTPUT_DIR={tmp_path}/out"])  # fmt: skip
    assert code == 0
    assert (tmp_path / "out" / "metrics-0.json").exists()


def test_infer_predicts_for_lines_and_keeps_what_came_with_them(trained, tmp_path, capsys):
    lines = tmp_path / "lines.jsonl"
    lines.write_text('topic: a pear\n\n{"inputs": "topic: a dog", "id": 7, "task": "demo_topic"}\n')
    assert main.main(["infer", f"--model_dir={trained}", f"--input={lines}"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["inputs"] == "topic: a pear"
    assert (second["id"], second["task"]) == (7, "demo_topic")
    assert np.isfinite(second["log_likelihood"])


def test_parameters_are_those_of_the_run_whatever_seed_samples(trained, tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("topic: a pear\n")
    for flags in ([], ["--gin.RANDOM_SEED=3"]):
        assert main.main(["infer", f"--model_dir={trained}", f"--input={lines}", *flags]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_infer_does_not_depend_on_the_rest_of_the_batch(trained, tmp_path, capsys):
    alone, among = tmp_path / "alone.txt", tmp_path / "among.txt"
    alone.write_text("topic: a pear\n")
    among.write_text("topic: " + "long " * 30 + "\ntopic: a pear\n")
    for path in (alone, among):
        assert main.main(["infer", f"--model_dir={trained}", f"--input={path}"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[0]["prediction"] == records[2]["prediction"]
    assert records[0]["log_likelihood"] == pytest.approx(records[2]["log_likelihood"], abs=1e-5)


def test_infer_writes_a_split(trained, tmp_path):
    code = main.main(["infer", f"--model_dir={trained}", "--gin.INFER_EXAMPLES=4",
                     f"--gin.INFER_OUTPUT_DIR={tmp_path}"])  # fmt: skip
    assert code == 0
    assert len((tmp_path / "demo_topic-test-3.jsonl").read_text().splitlines()) == 4


def test_backbone_weights_of_a_file_are_the_frozen_ones(from_files):
    home, told = from_files
    assert f"the others are from {home}/t5.safetensors" in told
    identity = trainer.RunDirectory(str(home / "model")).checkpoints().read_run(3)["identity"]
    _, frozen = trainable.split(tiny_start().params(), trainable.TrainableConfig())
    assert identity["frozen_fingerprint"] == fingerprints.fingerprint(frozen)


@functools.cache
def tiny_start():
    """What the tiny model starts from without weights, with another seed than its run."""
    _, flags = main.split_gin_flags(train_arguments("/nowhere"))
    bindings = [gin_files.to_binding(*flag) for flag in flags]
    bindings.append("MODEL_DIR = '/nowhere'")
    files = ["runs/embedded/train.gin", "experiments/demo_hyperdecoder.gin"]
    gin_binding.parse(gin_files.read(files, bindings))
    model = gin.query_parameter("MODEL/gin.macro.value").scoped_configurable_fn()
    gin.clear_config()
    return start.open_start(model, None, seed=1)


# What is refused, in under 15 seconds, with nothing written.


@pytest.mark.parametrize(
    ("macros", "message"),
    [
        ({"MIXTURE_OR_TASK_NAME": "demo_topik"}, "Did you mean 'demo_topic'?"),
        ({"MIXTURE_OR_TASK_NAME": "glue_stsb_v200"}, "must be on disk"),
        ({"EXAMPLES_PER_STEP": 8}, "examples_per_step must be None unless rows are packed"),
        ({"TASK_FEATURE_LENGTHS": "{'inputs': 48, 'targets': 1}"}, "has one of 2 tokens"),
        ({"NUM_MICROBATCHES": 3}, "The batch size must divide by 3"),
        ({"INITIAL_CHECKPOINT_PATH": "/nowhere/t5"}, "there is nothing at /nowhere/t5"),
        ({"VOCABULARY": "/nowhere/spiece.model"}, "nothing is at /nowhere/spiece.model"),
        ({"VOCAB_SIZE": 128}, "must have a row in the model's embedding"),
        ({"EVAL_SPLIT": "validatoin"}, "Did you mean 'validation'?"),
        ({"TRAIN_STEPS": 0}, "num_train_steps must be an integer of at least 1"),
        ({"FROZEN_DTYPE": "float16"}, "must be one of ('float32', 'bfloat16'); got 'float16'"),
        ({"MIN_LEN": 5}, "got GreedyConfig.min_len=5 and targets of 4 tokens"),
        (
            {
                "TrainerConfig.best": "@BestCheckpointConfig()",
                "BestCheckpointConfig.metric": "demo_topik/f1",
                "EVAL_SPLIT": None,
            },
            "the tasks ['demo_topic']",
        ),
        ({"TASK_FEATURE_LENGTHS": "{'inputs': 8, 'targets': 4, 'target': 4}"}, "mean 'targets'?"),
        ({"BEST_METRIC": "demo_topic/f1"}, "Choose one of ['demo_topic/accuracy']"),
        ({"TRAINSTEPS": 3}, "Did you mean 'TRAIN_STEPS'?"),
        ({"TrainerConfig.keep_lsat": 3}, "Did you mean 'keep_last'?"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_refused_before_anything_is_written(tmp_path, capsys, macros, message):
    model_dir = tmp_path / "model"
    assert main.main(train_arguments(model_dir, **macros)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "compiling the train step" not in told
    assert not model_dir.exists()


def test_a_model_directory_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main.main(train_arguments(tmp_path / "file" / "model")) == 2
    assert "must be writable" in capsys.readouterr().err


def test_a_vocabulary_of_other_weights_is_refused(tmp_path, capsys):
    path = tmp_path / "t5.safetensors"
    weights = {"a": np.zeros(2, np.float32)}
    path.write_bytes(
        safetensors.numpy.save(weights, {trained_model.VOCABULARY_KEY: "0123456789abcd"})
    )
    assert main.main(train_arguments(tmp_path / "model", INITIAL_CHECKPOINT_PATH=path)) == 2
    assert "with one of fingerprint 0123456789ab" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_weights_of_another_model_are_refused(tmp_path, capsys):
    path = tmp_path / "t5.safetensors"
    backbone.save(path, tiny_start().params(), {})
    arguments = train_arguments(tmp_path / "model", INITIAL_CHECKPOINT_PATH=path, MLP_DIM=25)
    assert main.main(arguments) == 2
    assert "is (16, 24) there and (16, 25) in the model" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_model_directory_of_another_model_is_refused_and_left_alone(trained, capsys):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    assert main.main(train_arguments(trained, EMB_DIM=24)) == 2
    assert "a checkpoint of another model" in capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    assert after == before


def test_a_run_is_found_from_every_folder_and_continued(from_files, tmp_path, monkeypatch, capsys):
    home, _ = from_files
    monkeypatch.chdir(tmp_path)
    assert run_folder.read_file(home / "model").initial_checkpoint_path == f"{home}/t5.safetensors"
    (tmp_path / "lines.txt").write_text("topic: a pear\n")
    assert main.main(["infer", f"--model_dir={home}/model", "--input=lines.txt"]) == 0
    assert main.main(["eval", f"--model_dir={home}/model", "--gin.EVAL_SPLIT=test"]) == 0
    assert "demo_topic  accuracy" in capsys.readouterr().out
    unbroken = losses(home / "model")
    assert sorted(unbroken) == [1, 2, 3]
    # As a kill behind the second step's checkpoint leaves it.
    shutil.rmtree(home / "model" / "checkpoints" / "3")
    assert main.main(["train", f"--gin_file={home}/model/config.gin"]) == 0
    assert f"continuing from step 2 of {home}/model/checkpoints" in capsys.readouterr().err
    assert losses(home / "model") == unbroken
    assert [path.name for path in tmp_path.iterdir()] == ["lines.txt"]


def test_a_run_that_another_process_writes_is_refused_and_left_alone(trained, capsys):
    with run_lock.held(trained):
        before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
        assert main.main(train_arguments(trained, TRAIN_STEPS=6)) == 2
        assert f"{trained} is being written by process {os.getpid()}" in capsys.readouterr().err
        assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before
    assert not (trained / run_lock.FILE).exists()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (3, "has made 3 steps, that is all. To train on"),
        (2, "made 3 steps, more than the 2"),
    ],
)
def test_a_run_that_is_done_says_so_and_stays(trained, steps, message, capsys):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    assert main.main(train_arguments(trained, TRAIN_STEPS=steps)) == 0
    told = capsys.readouterr().err
    assert message in told
    assert "continuing" not in told
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_stopping_early_needs_evaluations(tmp_path, capsys):
    changed = {"EARLY_STOPPING_PATIENCE": 2, "EVAL_SPLIT": None, "EVAL_PERIOD": 1}
    assert main.main(train_arguments(tmp_path, **changed)) == 2
    assert "got 2 and EVAL_SPLIT = None. Give an EVAL_SPLIT" in capsys.readouterr().err


def test_a_best_metric_that_nothing_computes_is_told(from_files):
    _, told = from_files
    assert "BEST_METRIC = 'demo_topic/accuracy' chooses no checkpoint, for EVAL_SPLIT is" in told
    assert (
        "nothing is evaluated, and whether the task has a metric 'accuracy' is not known." in told
    )


def test_a_run_is_not_continued_with_another_order_of_its_data(trained, capsys):
    assert main.main(train_arguments(trained, BATCH_SIZE=4, TRAIN_STEPS=6)) == 2
    assert "batch_size is 8 there and 4 here" in capsys.readouterr().err


def test_a_run_knows_its_vocabulary_as_another_program_saved_it(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    description = run_folder.read_file(trained).description
    tokenizer_files.write(tmp_path, description.vocabulary, max_len=48)
    (tmp_path / "spiece.model").unlink()
    of_run = (str(trained), model.Model(description.model), description.task_names)
    try:
        vocabulary.set_run_vocabulary(vocabulary.load_vocabulary(tmp_path))
        describe.check_newest_checkpoint(*of_run)
        vocabulary.set_run_vocabulary(vocabulary.load_vocabulary(tmp_path, extra_ids=3))
        with pytest.raises(ValueError, match="vocabulary_fingerprint is"):
            describe.check_newest_checkpoint(*of_run)
    finally:
        vocabulary.set_run_vocabulary(None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gin.CHECKPOINT_STEP=4"], "holds those of steps [3]"),
        (["--gin.EMB_DIM=24"], "a checkpoint of another model"),
        (["--vocabulary=bytes"], "vocabulary_fingerprint"),
        (["--input=/nowhere.txt"], "there is no file /nowhere.txt"),
    ],
)
def test_infer_refuses_what_does_not_belong_to_the_run(trained, capsys, arguments, message):
    assert main.main(["infer", f"--model_dir={trained}", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_line_that_is_no_text_is_refused(trained, tmp_path, capsys):
    lines = tmp_path / "lines.jsonl"
    lines.write_text('topic: a pear\n{"input": "topic: a dog"}\n')
    assert main.main(["infer", f"--model_dir={trained}", f"--input={lines}"]) == 2
    assert 'must have "inputs", a text; line 2 of' in capsys.readouterr().err


def with_devices(count):
    """This environment, with so many virtual devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    return {**os.environ, "XLA_FLAGS": flags}


# One process for two commands: to start it costs more than either.
REFUSED_AND_TRAINED = """
import pathlib, sys
from hyperdecoders_jax.commands import main
arguments = sys.argv[1:]
print(main.main([*arguments, "--gin.BATCH_SIZE=9"]), pathlib.Path("model").exists())
sys.exit(main.main(arguments))
"""


def test_a_run_on_four_devices_is_evaluated_on_one(tmp_path, capsys):
    path, params = tmp_path / "t5.safetensors", tiny_start().params()
    backbone.save(path, params, {})
    arguments = train_arguments(
        tmp_path / "model", EVAL_SPLIT=None, TRAIN_STEPS=1, INITIAL_CHECKPOINT_PATH=path
    )
    result = subprocess.run(
        [*warm_python.COMMAND, "-c", REFUSED_AND_TRAINED, *arguments],
        cwd=tmp_path, env=with_devices(4), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "The batch size must divide by 4 (4 data-parallel devices" in result.stderr
    assert result.stdout.startswith("2 False\n")
    assert "Devices: 4 data x 1 model" in result.stderr
    code = main.main(["eval", f"--model_dir={tmp_path}/model", "--gin.EVAL_SPLIT=validation"])
    assert code == 0, capsys.readouterr().err
    assert "demo_topic  accuracy" in capsys.readouterr().out
    # The frozen part may be elsewhere now; it is the run's, or refused.
    shutil.move(path, tmp_path / "moved.safetensors")
    evaluate = ["eval", f"--model_dir={tmp_path}/model", "--gin.EVAL_SPLIT=validation"]
    assert main.main(evaluate) == 2
    assert f"there is nothing at {path}" in capsys.readouterr().err
    moved = f"--gin.INITIAL_CHECKPOINT_PATH={tmp_path}/moved.safetensors"
    assert main.main([*evaluate, moved]) == 0
    assert "demo_topic  accuracy" in capsys.readouterr().out
    other = {key: jax.tree.map(lambda x: x * 2, value) for key, value in params.items()}
    backbone.save(tmp_path / "moved.safetensors", other, {})
    assert main.main([*evaluate, moved]) == 2
    assert "must be the one that the run was trained with" in capsys.readouterr().err


def run_two_processes(model_dir, *more_flags, **macros):
    """Output and messages of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = ["--process_count=2", f"--coordinator_address={address}", *more_flags]
    command = [*warm_python.COMMAND, "-m", "hyperdecoders_jax.commands.main",
               *train_arguments(model_dir, **macros), *flags]  # fmt: skip
    processes = [
        subprocess.Popen(
            [*command, f"--process_index={index}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:  # One that failed leaves the other waiting for it.
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    return outputs


def test_two_processes_that_share_one_copy_predict_as_one_process(trained, tmp_path):
    (_, about), _ = run_two_processes(tmp_path / "two", MODEL_PARALLEL=2, CHECKPOINT_PERIOD=None)
    assert "Devices: 1 data x 2 model" in about
    two, one = (
        [json.loads(line) for line in (folder / "eval/demo_topic/3.jsonl").open()]
        for folder in (tmp_path / "two", trained)
    )
    assert [row["input"] for row in two] == [row["input"] for row in one]
    np.testing.assert_allclose(
        [row["log_likelihood"] for row in two], [row["log_likelihood"] for row in one], rtol=1e-3
    )


TWO_MINDS = """
import jax
import seqio
from hyperdecoders_jax.tasks import demo, registration

num_calls = 0

def opinion(targets, predictions):
    global num_calls
    num_calls += 1
    return {"opinion": float(-num_calls if jax.process_index() else num_calls)}

topic = seqio.TaskRegistry.get("demo_topic")
metric_fns = [*topic.metric_fns, opinion]
registration.add_task(
    "demo_topic", source=topic.source, preprocessors=topic.preprocessors,
    output_features=topic.output_features, metric_fns=metric_fns,
)
"""


def test_two_processes_train_evaluate_and_continue(tmp_path, monkeypatch):
    # The second process's metric finds each step worse than the one before; the first decides.
    (tmp_path / "two_minds.py").write_text(TWO_MINDS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(num_steps):
        return run_two_processes(
            tmp_path / "model", "--module=two_minds", "--gin.BEST_METRIC=demo_topic/opinion",
            TRAIN_STEPS=num_steps, EVAL_PERIOD=1, CHECKPOINT_PERIOD=None,
        )  # fmt: skip

    (table, about), (other, _) = run(3)
    assert "Devices: 2 data x 1 model" in about
    assert "demo_topic  accuracy" in table
    assert "Best checkpoint: step 3" in table
    assert "demo_topic" not in other
    (_, about), _ = run(4)
    assert "continuing from step 3" in about
    assert sorted(losses(tmp_path / "model")) == [1, 2, 3, 4]


def test_a_part_of_the_flags_of_several_processes_is_refused(tmp_path, capsys):
    assert main.main([*train_arguments(tmp_path / "model"), "--process_count=2"]) == 2
    assert "got 1 of the three" in capsys.readouterr().err


@pytest.fixture(scope="module")
def trained_by_task(tmp_path_factory):
    """A model directory of decoder adapters made from the task, of two tasks."""
    model_dir = tmp_path_factory.mktemp("run_by_task") / "model"
    flags = [
        "--gin.decoder/AdapterConfig.source=task",
        "--gin.TASK_NAMES=('demo_find', 'demo_topic')",
    ]
    assert main.main([*train_arguments(model_dir, EVAL_SPLIT=None), *flags]) == 0
    return model_dir


def test_adapters_that_depend_on_the_task_ask_for_it(trained_by_task, tmp_path, capsys):
    checkpoints = trainer.RunDirectory(str(trained_by_task)).checkpoints()
    assert checkpoints.read_run(3)["identity"]["model"]["num_tasks"] == 2
    lines = tmp_path / "lines.jsonl"
    infer = ["infer", f"--model_dir={trained_by_task}", f"--input={lines}"]
    lines.write_text('{"inputs": "topic: a red fruit", "task": "demo_topic"}\n')
    assert main.main(infer) == 0
    assert '"prediction"' in capsys.readouterr().out
    # Before training, too, tasks have the numbers of the run.
    assert main.main([*infer, "--gin.CHECKPOINT_STEP=None", "--gin.TASK_NAMES=None"]) == 0
    assert '"prediction"' in capsys.readouterr().out
    lines.write_text("topic: a red fruit\n")
    assert main.main(infer) == 2
    assert "Every record must name its task" in capsys.readouterr().err


def test_an_unseen_task_is_refused_or_evaluated_with_the_mean(trained_by_task, capsys):
    evaluate = ["eval", f"--model_dir={trained_by_task}", "--gin.EVAL_SPLIT=validation"]
    evaluate.append("--gin.MIXTURE_OR_TASK_NAME=demo_inflect")
    assert main.main(evaluate) == 2
    assert "task_names must hold every task that is read" in capsys.readouterr().err
    assert main.main([*evaluate, "--gin.decoder/AdapterConfig.unseen_tasks=mean"]) == 0
    assert "demo_inflect  accuracy" in capsys.readouterr().out
