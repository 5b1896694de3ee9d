"""The commands for TPU slices: run with programs that only note how they were called."""

import os
import pathlib
import re
import shlex
import subprocess

import pytest

from hyperdecoders_jax.commands import cli, pod_commands
from hyperdecoders_jax.config import configuration

FLAGS = (
    "--name=glue-1", "--zone=us-west4-a", "--accelerator=v5litepod-16",
    "--gin_file=experiments/demo_hyperdecoder.gin", "--model_dir=gs://b/run",
)  # fmt: skip
# Every program of the script; each call is a line of words. What workers do is done here, too.
PROGRAM = """#!/bin/bash
printf '%s\\0' "${0##*/}" "$@" >> CALLS
printf '\\n' >> CALLS
for word in "$@"; do
  case "$word" in
    --command=*) cd HOME && bash -c "${word#--command=}; wait" ;;
  esac
done
"""
NAMES = ("gcloud", "python", "python3", "hyperdecoders", "pip", "pkill", "tail")


def commands(capsys, *flags):
    """What is printed for a run with these flags besides."""
    assert cli.main(["pod-commands", *FLAGS, *flags]) == 0
    return capsys.readouterr().out


def calls_of(script, folder):
    """Runs a script and returns the words of each call, in order."""
    home = folder / "home"
    environment = home / pod_commands.ENVIRONMENT / "bin"
    places = {folder / "bin": NAMES, environment: ["hyperdecoders"], home / ".local/bin": ["uv"]}
    for place, names in places.items():
        place.mkdir(parents=True)
        for name in names:
            program = PROGRAM.replace("CALLS", str(folder / "calls")).replace("HOME", str(home))
            place.joinpath(name).write_text(program)
            place.joinpath(name).chmod(0o755)
    (environment / "activate").touch()
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-ec", script], cwd=folder, timeout=60, check=True,
        env={"PATH": path, "HOME": str(home)},
    )  # fmt: skip
    lines = (folder / "calls").read_text().split("\n")[:-1]
    return [line.split("\0")[:-1] for line in lines]


def ours(calls, command):
    """The arguments of our own command, as our parser reads them, and the gin flags."""
    found = [words[1:] for words in calls if words[:2] == ["hyperdecoders", command]]
    parsed = [cli.split_gin_flags(words) for words in found]
    return [(cli.make_parser().parse_args(words), dict(flags)) for words, flags in parsed]


def test_the_whole_script_runs_and_every_command_of_ours_in_it_is_one(capsys, tmp_path):
    script = commands(
        capsys, "--spot", "--copy=my tasks.py", "--module=my_tasks", "--prepare=glue",
        "--weights=t5-large", "--tfds_data_dir=gs://b/tfds", "--data_dir=gs://b/data",
        "--gin.DTYPE=bfloat16", "--gin.MIXTURE_OR_TASK_NAME='it''s $HOME; \"x\"'",
    )  # fmt: skip
    calls = calls_of(script, tmp_path)
    tpus = [words[3] for words in calls if words[:3] == ["gcloud", "compute", "tpus"]]
    assert tpus == ["queued-resources"] * 2 + ["tpu-vm"] * 8 + ["queued-resources"]
    create = next(words for words in calls if "create" in words)
    assert {"--spot", "--runtime-version=v2-alpha-tpuv5-lite", "--node-id=glue-1"} <= set(create)
    assert ["gcloud", "compute", "tpus", "tpu-vm", "scp", "my tasks.py", "glue-1:"] in [
        words[:7] for words in calls
    ]
    assert len([words for words in calls if words[:2] == ["pip", "install"]]) == 4

    mixture = "'it''s $HOME; \"x\"'"
    (train, macros), (evaluate, of_eval), (infer, of_infer) = (
        ours(calls, command)[0] for command in ("train", "eval", "infer")
    )
    for args in (train, evaluate, infer):
        assert (args.runner, args.multiprocess) == ("t5x", True)
        assert (args.model_dir, args.tfds_data_dir) == ("gs://b/run", "gs://b/tfds")
        assert (args.data_dir, args.module) == ("gs://b/data", ["my_tasks"])
        assert args.gin_file == ["experiments/demo_hyperdecoder.gin"]
    initial = {"INITIAL_CHECKPOINT_PATH": "gs://b/run/initial/checkpoint_0"}
    assert macros == {"DTYPE": "bfloat16", "MIXTURE_OR_TASK_NAME": mixture, **initial}
    assert of_eval == {**macros, "EVAL_SPLIT": "test"}
    assert of_infer == macros

    ((tasks, _),) = ours(calls, "tasks")
    assert (tasks.prepare, tasks.module, tasks.data_dir) == ("glue", ["my_tasks"], "gs://b/data")
    conversions = [(args.source, args.target) for args, _ in ours(calls, "convert")]
    assert conversions == [("t5-large", "t5x:glue-1_initial"), ("run:run", "adapters:run_adapters")]
    assert len(ours(calls, "doctor")) == 1


@pytest.mark.parametrize("command", ["train", "eval", "infer"])
def test_what_is_launched_passes_the_checks_of_its_configuration(capsys, tmp_path, command):
    calls = calls_of(commands(capsys, "--weights=t5-large"), tmp_path)
    ((args, gin_flags),) = ours(calls, command)
    files, bindings, folders = cli.what_is_given(args, list(gin_flags.items()))
    files = cli.with_run_file(files, f"runs/t5x/{command}.gin", folders)
    text = configuration.read(files, bindings, configuration.search_path(folders))
    configuration.check_macros(text, cli.TRAIN_FILES)
    assert text.macro_values["MODEL_DIR"][0] == "gs://b/run"


def test_all_workers_train_and_one_prepares(capsys):
    lines = commands(capsys, "--prepare=glue").splitlines()
    workers = {
        word: line.split("--worker=")[1].split()[0]
        for word in ("train", "eval", "infer", "tasks")
        for line in lines
        if f"hyperdecoders {word} " in line
    }
    assert workers == {"train": "all", "eval": "all", "infer": "all", "tasks": "0"}


def test_a_rerun_ends_what_is_left_of_the_last_one_first(capsys, tmp_path):
    train = next(line for line in commands(capsys).splitlines() if "hyperdecoders train" in line)
    programs = [words[0] for words in calls_of(train, tmp_path)]
    assert programs == ["gcloud", "pkill", "hyperdecoders"]
    assert int((tmp_path / "home/run.pid").read_text()) > 0


def test_blocks_are_left_out_that_nothing_asks_for(capsys):
    script = commands(capsys)
    assert "--spot" not in script
    assert "tasks --prepare" not in script
    assert "hyperdecoders convert --from=t5" not in script


@pytest.mark.parametrize(
    ("accelerator", "runtime"),
    [("v3-8", "tpu-ubuntu2204-base"), ("v5p-16", "v2-alpha-tpuv5"), ("v6e-8", "v2-alpha-tpuv6e")],
)
def test_each_generation_has_its_system(capsys, accelerator, runtime):
    lines = commands(capsys, f"--accelerator={accelerator}").splitlines()
    create = shlex.split(next(line for line in lines if " create " in line))
    assert create[-2:] == [f"--accelerator-type={accelerator}", f"--runtime-version={runtime}"]


@pytest.mark.parametrize("accelerator", ["tpu7x-8", "v5e-4", "v6e", "v6e-2x2"])
def test_an_accelerator_that_there_is_not_is_told(accelerator):
    with pytest.raises(ValueError, match=f"v6e-N; got '{accelerator}'.*TPU7x and later are on"):
        pod_commands.runtime_version(accelerator)


@pytest.mark.parametrize("flag", ["model_dir", "tfds_data_dir", "data_dir"])
def test_a_folder_that_only_one_worker_sees_is_told(capsys, flag):
    assert cli.main(["pod-commands", *FLAGS, f"--{flag}=/disk/here"]) == 2
    message = f"--{flag} must be in a bucket, which every worker sees; got /disk/here. Name it"
    assert message in capsys.readouterr().err


def test_a_run_that_would_fail_at_its_start_is_told_before(capsys):
    assert cli.main(["pod-commands", *FLAGS, "--gin.TRAIN_STEP=3"]) == 2
    assert "Did you mean 'TRAIN_STEPS'?" in capsys.readouterr().err
    flags = [flag.replace("demo_hyperdecoder", "glue/glue_manual_generated") for flag in FLAGS]
    assert cli.main(["pod-commands", *flags]) == 2
    assert "INITIAL_CHECKPOINT_PATH must be set" in capsys.readouterr().err


def test_the_readme_shows_the_blocks_of_its_example(capsys):
    readme = pathlib.Path(__file__).parents[2].joinpath("README.md").read_text()
    example, shown = re.search(
        r"\n(hyperdecoders pod-commands .*?)```\n\n```\n(.*?)```", readme, re.DOTALL
    ).groups()
    assert cli.main(shlex.split(example.replace("\\\n", ""))[1:]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if re.match(r"# \d", line)] == shown.splitlines()
