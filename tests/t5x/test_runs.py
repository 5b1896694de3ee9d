"""Whole runs of the demo's Hyperdecoder under T5X: trained, continued, evaluated and predicted with
the gin files of our own runner, and as it does all this."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("t5x", reason="T5X is not installed")


from hyperdecoders_jax.commands import main
from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.t5x import launch
from hyperdecoders_jax.training import run_lock
from hyperdecoders_jax.weights import run_folder, t5x_checkpoint

pytestmark = pytest.mark.t5x

FILES = ["experiments/demo_hyperdecoder.gin", "decoding/beam4.gin"]
TRAIN_STEPS, STOPPED_AT, NUM_EXAMPLES = 60, 30, 6
MACROS = {
    "TRAIN_STEPS": TRAIN_STEPS,
    "EVAL_PERIOD": STOPPED_AT,
    "CHECKPOINT_PERIOD": STOPPED_AT,
    "KEEP_CHECKPOINTS": 2,
    "EVAL_EXAMPLES": NUM_EXAMPLES,
    "BATCH_SIZE": 16,
    "EVAL_BATCH_SIZE": 8,
    "LOG_PERIOD": 1,
}


def start(*command):
    """Starts a process; returns what it printed, or fails with it."""
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stderr


def hyperdecoders(command, model_dir, files=FILES, **macros):
    """`hyperdecoders COMMAND`, by the package's own runner."""
    flags = [f"--gin_file={file}" for file in files]
    flags += [f"--gin.{name}={value}" for name, value in macros.items()]
    module = "hyperdecoders_jax.commands.main"
    return [sys.executable, "-m", module, command, f"--model_dir={model_dir}", *flags]


def plain_t5x(command, **macros):
    """`python -m t5x.COMMAND`, as its users write it."""
    files = [f"runs/t5x/{command}.gin", *FILES]
    flags = [f"--gin_file={file}" for file in files]
    flags += [f"--gin.{name}={value!r}" for name, value in macros.items()]
    where = f"--gin_search_paths={gin_files.package_config_folder()}"
    return [sys.executable, "-m", f"t5x.{command}", where, *flags]


def losses_of(log):
    """Step -> loss, from T5X's log."""
    found = re.findall(r"\[(\d+)\] collection=train accuracy=.* loss=([\d.]+),", log)
    return {int(step): float(loss) for step, loss in found}


def jsonl(path):
    return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]


def parameters(path):
    return {name: array.read() for name, array in t5x_checkpoint.open(path).items()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run's folder and its log."""
    model_dir = tmp_path_factory.mktemp("t5x") / "unbroken"
    return model_dir, start(*hyperdecoders("train", model_dir, **MACROS), "--runner=t5x")


SHORT = {**MACROS, "TRAIN_STEPS": 20, "EVAL_SPLIT": None, "CHECKPOINT_PERIOD": 10}
PACKED = {**SHORT, "PACK": True, "BATCH_SIZE": 4}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed run's folder and its log."""
    model_dir = tmp_path_factory.mktemp("t5x") / "packed"
    return model_dir, start(*hyperdecoders("train", model_dir, **PACKED), "--runner=t5x")


def check_own_losses(model_dir, macros, log):
    """Fails unless our runner has the losses of T5X's log."""
    start(*hyperdecoders("train", model_dir, **macros))
    own = [line["loss"] for line in jsonl(model_dir / "metrics.jsonl") if "loss" in line]
    t5x = losses_of(log)
    steps = range(1, macros["TRAIN_STEPS"] + 1)
    np.testing.assert_allclose([t5x[step] for step in steps], own, rtol=1e-6)


def start_two(model_dir, **macros):
    """Two processes of a device each, which share one copy of the model; the first one's log."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [*hyperdecoders("train", model_dir, **macros), "--runner=t5x", "--process_count=2"]
    command += [f"--coordinator_address=localhost:{port}"]
    logs = [model_dir.parent / f"log_{index}" for index in range(2)]
    processes = [
        subprocess.Popen([*command, f"--process_index={i}"], stderr=log.open("w"))
        for i, log in enumerate(logs)
    ]
    try:
        for process, log in zip(processes, logs, strict=True):
            assert process.wait(timeout=600) == 0, log.read_text()[-4000:]
    finally:
        for process in processes:
            process.kill()
    return logs[0].read_text()


def test_a_model_shared_by_devices_of_two_processes_is_trained_and_continued(packed, tmp_path):
    macros = {**PACKED, "MODEL_PARALLEL": 2}
    log = start_two(tmp_path / "shared", **macros)
    found, expected = losses_of(log), losses_of(packed[1])
    for step in range(1, 21):
        np.testing.assert_allclose(found[step], expected[step], rtol=1e-4)  # Five digits.
    continued = tmp_path / "continued"
    shutil.copytree(tmp_path / "shared/checkpoint_10", continued / "checkpoint_10")
    told = losses_of(start_two(continued, **macros))
    assert told == {step: found[step] for step in range(11, 21)}


def test_both_runners_take_the_same_steps(tmp_path):
    log = start(*hyperdecoders("train", tmp_path / "t5x", **SHORT), "--runner=t5x")
    check_own_losses(tmp_path / "own", SHORT, log)


def test_both_runners_take_the_same_packed_steps(packed, tmp_path):
    check_own_losses(tmp_path / "own", PACKED, packed[1])


def test_a_packed_run_that_is_continued_equals_an_unbroken_one(packed, tmp_path):
    model_dir, log = packed
    continued = tmp_path / "continued"
    shutil.copytree(model_dir / "checkpoint_10", continued / "checkpoint_10")
    told = start(*hyperdecoders("train", continued, **PACKED), "--runner=t5x")
    expected = losses_of(log)
    assert losses_of(told) == {step: expected[step] for step in range(11, 21)}
    theirs = parameters(f"{continued}/checkpoint_20")
    for name, array in parameters(f"{model_dir}/checkpoint_20").items():
        np.testing.assert_array_equal(theirs[name], array, err_msg=name)


ROUNDED = {
    **SHORT,
    "TRAIN_STEPS": 30,
    "EVAL_SPLIT": "validation",
    "EVAL_PERIOD": 10,
    "KEEP_CHECKPOINTS": 2,
    "FROZEN_DTYPE": "bfloat16",
    "GENERATION": {"demo_find": (2, 3)},
    "BEST_METRIC": "demo_topic/accuracy",
}


@pytest.fixture(scope="module")
def rounded(tmp_path_factory):
    """A run with frozen bfloat16, an own way to decode a task, and a best checkpoint; its log."""
    model_dir = tmp_path_factory.mktemp("t5x") / "rounded"
    return model_dir, start(*hyperdecoders("train", model_dir, **ROUNDED), "--runner=t5x")


def test_both_runners_round_what_is_frozen_and_decode_tasks_alike(rounded, tmp_path):
    model_dir, log = rounded
    check_own_losses(tmp_path, ROUNDED, log)
    for task in ("demo_find", "demo_topic"):
        theirs = [x["prediction"] for x in jsonl(model_dir / f"inference_eval/{task}-000030.jsonl")]
        ours = [x["prediction"] for x in jsonl(tmp_path / f"eval/{task}/30.jsonl")]
        assert theirs == ours


def test_the_best_checkpoint_is_kept_and_opened(rounded):
    model_dir, _ = rounded
    lines = jsonl(model_dir / "inference_eval/demo_topic-metrics.jsonl")
    best = max(lines, key=lambda line: line["accuracy"])["step"]  # The first of equal ones.
    assert set(t5x_checkpoint.steps(model_dir)) == {best, 20, 30}
    assert run_folder.find_step(str(model_dir), "best") == best
    assert run_folder.find_step(str(model_dir), "last") == 30
    assert launch.checkpoint(str(model_dir)).endswith(f"/checkpoint_{best}")


def test_a_rounded_run_that_is_continued_equals_an_unbroken_one(rounded, tmp_path):
    model_dir, log = rounded
    shutil.copytree(model_dir / "checkpoint_20", tmp_path / "checkpoint_20")
    told = start(*hyperdecoders("train", tmp_path, **ROUNDED), "--runner=t5x")
    expected = losses_of(log)
    assert losses_of(told) == {step: expected[step] for step in range(21, 31)}


def test_a_run_that_is_told_to_stop_saves_where_it_stands(tmp_path):
    macros = {**MACROS, "TRAIN_STEPS": 2000, "CHECKPOINT_PERIOD": 2000, "EVAL_SPLIT": None}
    command = [*hyperdecoders("train", tmp_path, **macros), "--runner=t5x"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "[7] collection=train accuracy" in line:
                held = json.loads((tmp_path / run_lock.FILE).read_text())
                process.send_signal(signal.SIGTERM)
                break
        log = process.stderr.read()
    assert process.returncode == 0, log[-4000:]
    assert "Stopped and saved. The same command continues." in log
    assert held["pid"] == process.pid
    assert not (tmp_path / run_lock.FILE).exists()
    last = max(losses_of(log))
    # The one before the first step is kept as well.
    assert {path.name for path in tmp_path.glob("checkpoint_*")} == {
        "checkpoint_0",
        f"checkpoint_{last}",
    }
    (position,) = (tmp_path / f"checkpoint_{last}" / "dataset").glob("train_ds-*")
    assert json.loads(position.read_text())["position"]["step"] == last


def test_a_continued_run_equals_an_unbroken_one(unbroken, tmp_path):
    model_dir, log = unbroken
    continued = tmp_path / "continued"
    shutil.copytree(model_dir / f"checkpoint_{STOPPED_AT}", continued / f"checkpoint_{STOPPED_AT}")
    changed = {**MACROS, "EVAL_EXAMPLES": NUM_EXAMPLES - 1}
    told = start(*plain_t5x("train", MODEL_DIR=str(continued), **changed))
    change = f"evaluation.num_examples {NUM_EXAMPLES} -> {NUM_EXAMPLES - 1}"
    assert f"changed since the run began: {change}\n" in told
    assert not (continued / run_lock.FILE).exists()
    found, expected = losses_of(told), losses_of(log)
    assert sorted(expected) == list(range(1, TRAIN_STEPS + 1))
    assert found == {step: expected[step] for step in range(STOPPED_AT + 1, TRAIN_STEPS + 1)}
    theirs = parameters(f"{continued}/checkpoint_{TRAIN_STEPS}")
    for name, array in parameters(f"{model_dir}/checkpoint_{TRAIN_STEPS}").items():
        np.testing.assert_array_equal(theirs[name], array, err_msg=name)


def test_what_is_frozen_stays_and_nothing_else(unbroken):
    model_dir, _ = unbroken
    before, after = (
        parameters(f"{model_dir}/checkpoint_{step}") for step in (STOPPED_AT, TRAIN_STEPS)
    )
    moved = {name.split("/")[0] for name in after if not np.array_equal(before[name], after[name])}
    assert moved == {"decoder_adapters", "encoder_adapters"}


def test_evaluation_gives_the_metrics_of_training(unbroken):
    model_dir, _ = unbroken
    start(*hyperdecoders("eval", model_dir, **MACROS), "--runner=t5x")
    folder = f"{model_dir}/eval_validation/checkpoint_{TRAIN_STEPS}/inference_eval"
    for task in ("demo_find", "demo_topic"):
        name = f"{task}-{TRAIN_STEPS:06}.jsonl"
        assert jsonl(f"{folder}/{name}") == jsonl(f"{model_dir}/inference_eval/{name}")


def test_prediction_gives_the_texts_of_evaluation(unbroken):
    model_dir, _ = unbroken
    macros = {"BATCH_SIZE": 8, "INFER_SPLIT": "validation", "MODEL_DIR": str(model_dir)}
    start(*plain_t5x("infer", **macros))
    folder = model_dir / "infer_validation" / f"checkpoint_{TRAIN_STEPS}"
    for task in ("demo_find", "demo_topic"):
        (file,) = folder.glob(f"{task}-*-of-00001")
        lines = jsonl(model_dir / "inference_eval" / f"{task}-{TRAIN_STEPS:06}.jsonl")
        texts = [line["prediction"] for line in lines]
        assert [line["prediction"] for line in jsonl(file)[:NUM_EXAMPLES]] == texts


def test_text_is_predicted_by_our_own_runner_alone(capsys):
    arguments = ["infer", "--runner=t5x", "--model_dir=/nowhere", "--input=-"]
    assert main.main([*arguments, f"--gin_file={FILES[0]}"]) == 2
    assert "got --input with --runner=t5x. Leave one of them out" in capsys.readouterr().err
