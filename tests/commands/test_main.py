"""The command line without a model: help, flags, the state of an installation."""

import argparse
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import time

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import configured, doctor, flags, main
from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.data import pipeline
from hyperdecoders_jax.installed import t5x_install
from hyperdecoders_jax.weights import trained_model


def run(*arguments, cwd="."):
    return subprocess.run(
        [sys.executable, "-m", "hyperdecoders_jax.commands.main", *arguments],
        capture_output=True, text=True, cwd=cwd, timeout=300,
    )  # fmt: skip


def test_help_comes_at_once():
    start = time.monotonic()
    result = run("--help")
    assert result.returncode == 0
    assert time.monotonic() - start < 2.0
    for command in main.COMMANDS:
        assert re.search(rf"^    {command}\s", result.stdout, re.MULTILINE)


def test_the_version_is_that_of_the_installation(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["--version"])
    assert ended.value.code == 0
    version = importlib.metadata.version("hyperdecoders_jax")
    assert capsys.readouterr().out == f"hyperdecoders_jax {version}\n"


def test_a_clone_that_is_not_installed_has_a_version(monkeypatch, capsys):
    def find_none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata.Distribution, "from_name", find_none)
    with pytest.raises(SystemExit) as ended:
        main.main(["--version"])
    assert ended.value.code == 0
    version = f"hyperdecoders_jax {files.VERSION}"
    assert capsys.readouterr().out == f"{version}\n"
    # Files that are written name it, too.
    assert trained_model.made_by() == version


@pytest.mark.parametrize("command", main.COMMANDS)
def test_a_command_is_a_module_and_says_what_it_does(command, capsys):
    module = main.module_of(command)
    with pytest.raises(SystemExit) as ended:
        main.main([command, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    summary = f"{module.SUMMARY[0].upper()}{module.SUMMARY[1:]}."
    assert " ".join(summary.split()) in shown
    assert "--traceback" in shown
    assert ("--gin.NAME=VALUE" in shown) == (getattr(module, "EPILOG", None) == flags.EPILOG)


@pytest.mark.parametrize("command", main.COMMANDS)
def test_every_flag_with_a_value_states_its_default(command):
    parser = main.make_parser()
    subparsers = next(x for x in parser._actions if isinstance(x, argparse._SubParsersAction))
    for action in subparsers.choices[command]._actions:
        takes_value = action.option_strings and action.nargs != 0
        if takes_value and not action.required and action.help != argparse.SUPPRESS:
            assert "default" in action.help, action.option_strings


def test_the_end_of_a_command_waits_for_what_asked_for_it_and_not_for_tensorflow():
    code = (
        "import atexit, sys, threading, time; from hyperdecoders_jax.commands import main\n"
        "class Slow:\n"
        "    def __del__(self): print('torn down')\n"
        "sys.modules['tensorflow'] = Slow()\n"
        "atexit.register(print, 'asked')\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\n"
        "main.leave(3)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (3, "thread\nasked\n")


def test_a_command_that_is_not_there_is_told_with_those_that_are(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["pod-commands"])
    assert ended.value.code == 2
    assert "invalid choice: 'pod-commands' (choose from" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "eval", "infer", "params", "upgrade"])
def test_each_run_command_takes_the_flags_of_t5x(command):
    args = main.make_parser().parse_args(
        [command, "--gin_file=a.gin", "--gin_file=b.gin", "--gin_search_paths=x,y",
         "--gin_bindings=A = 3", "--tfds_data_dir=data", "--model_dir=run", "--vocabulary=bytes"]
    )  # fmt: skip
    assert (args.gin_file, args.gin_bindings) == (["a.gin", "b.gin"], ["A = 3"])
    assert (args.gin_search_paths, args.tfds_data_dir) == (["x,y"], "data")
    assert (args.model_dir, args.vocabulary) == ("run", "bytes")


def test_gin_flags_keep_everything_after_the_first_equals_sign():
    _, gin_flags = main.split_gin_flags(["--gin.decoder/config.AdapterConfig.source=a=b"])
    assert gin_flags == [("decoder/config.AdapterConfig.source", "a=b")]


def test_a_gin_flag_without_a_value_is_told(capsys):
    assert main.main(["train", "--gin.TRAIN_STEPS", "3"]) == 2
    assert "must be --gin.NAME=VALUE; got '--gin.TRAIN_STEPS'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["tasks", "doctor", "gin-path", "experiments"])
def test_a_gin_flag_of_a_command_without_configuration_is_told(capsys, command):
    assert main.main([command, "--gin.TRAIN_STEPS=3"]) == 2
    commands = "train, eval, infer, analyze, params, config, compare, plan, demo"
    message = f"Gin flags belong to {commands}; {command} got --gin.TRAIN_STEPS."
    assert message in capsys.readouterr().err


def test_paths_of_flags_may_begin_at_home(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tmp_path / "run"
    run.mkdir()
    assert main.main(["eval", "--model_dir=~/run"]) == 2
    assert f"{run}/config.gin does not exist" in capsys.readouterr().err
    (run / "config.gin").write_text("include 'experiments/demo_hyperdecoder.gin'\n")
    weights = "--gin.INITIAL_CHECKPOINT_PATH=~/t5"
    assert main.main(["eval", "--model_dir=~/run", weights, "--gin.CHECKPOINT_STEP=None"]) == 2
    assert f"there is nothing at {tmp_path}/t5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint=a"], "--checkpoint and --input go together, and --step and --backbone"),
        (["--step=3", "--input=b"], "got --input=b --step=3. Give both"),
        (["--checkpoint=a", "--input=b", "--model_dir=c"], "as it was trained; got --model_dir."),
        (["--checkpoint=a", "--input=b", "--gin.A=3", "--init=c"], "got --init, --gin.A. Leave"),
        (["--checkpoint=/nowhere/a", f"--input={__file__}"], "there is nothing at /nowhere/a"),
        (["--checkpoint=a", "--input=b", "--quoting=csv"], "--quoting must go with the tables"),
        (["--input=b", "--test_file=c.csv"], "one thing to predict for; got --input=b and c.csv."),
        (["--checkpoint=a", "--input=/nowhere/b"], "there is no file /nowhere/b"),
        (["--init=/nowhere/a", f"--input={__file__}"], "there is nothing at /nowhere/a"),
    ],
)
def test_lines_need_a_model_and_no_configuration(capsys, arguments, message):
    assert main.main(["infer", *arguments]) == 2
    assert message in capsys.readouterr().err
    gin.clear_config()


@pytest.mark.parametrize("command", ["train", "eval", "infer"])
def test_what_a_run_starts_from_comes_before_the_experiment_and_holds_behind_it(tmp_path, command):
    arguments = [f"--init={tmp_path}", "--gin_file=experiments/demo_hyperdecoder.gin"]
    args = main.make_parser().parse_args([command, *arguments])
    given = configured.sources(args, [("CHECKPOINT_STEP", "3")], init=args.init)
    assert given.gin_files == ["runs/init.gin", "experiments/demo_hyperdecoder.gin"]
    start = [f"INITIAL_CHECKPOINT_PATH = '{tmp_path}'", "CHECKPOINT_STEP = None"]
    assert given.bindings == [*start[: 1 if command == "train" else 2], "CHECKPOINT_STEP = 3"]


def test_t5x_evaluates_its_own_checkpoints_alone(tmp_path, monkeypatch):
    args = main.make_parser().parse_args(["eval", "--runner=t5x", f"--init={tmp_path}"])
    monkeypatch.setattr(t5x_install, "check", lambda: None)  # T5X need not be here to be asked.
    message = r"T5X evaluates and predicts with its own checkpoints; got --init=.*--to=t5x:FOLDER"
    with pytest.raises(errors.UsageError, match=message):
        configured._check_t5x(args)


def test_a_run_without_configuration_is_told(capsys, tmp_path):
    assert main.main(["train", f"--model_dir={tmp_path}"]) == 2
    assert "train needs a configuration" in capsys.readouterr().err
    assert main.main(["eval", f"--model_dir={tmp_path}"]) == 2
    assert f"{tmp_path}/config.gin does not exist" in capsys.readouterr().err


def test_a_missing_gin_file_is_told_and_nothing_is_written(capsys, tmp_path):
    model_dir = tmp_path / "run"
    start = time.monotonic()
    experiment = "--gin_file=experiments/glue/glue_manual_generatd.gin"
    code = main.main(["train", experiment, f"--model_dir={model_dir}"])
    assert code == 2
    assert time.monotonic() - start < 15
    assert "Did you mean 'experiments/glue/glue_manual_generated.gin'?" in capsys.readouterr().err
    assert not model_dir.exists()


def test_a_type_error_is_told_if_it_is_ours_and_raised_if_not(capsys):
    def ours():
        return pipeline.PipelineConfig("m", {"inputs": 3, "targets": 3}, batch_size="3")

    assert main._guarded(ours, is_traceback_shown=False) == 2
    assert "batch_size must be a whole number; got '3'" in capsys.readouterr().err
    with pytest.raises(TypeError, match="batch_size"):
        main._guarded(ours, is_traceback_shown=True)
    with pytest.raises(TypeError, match="not supported"):
        main._guarded(lambda: 1 < "a", is_traceback_shown=False)


def _of_jax():
    return jax.jit(lambda: jnp.ones((10**5, 10**5, 1000)).cumsum())().block_until_ready()


def _of_pytorch():
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to")


def _of_python():
    raise MemoryError


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: np.empty((10**6, 10**6, 10)), r"Unable to allocate 72\.8 TiB for an array with"),
        (_of_jax, r"Out of memory allocating \d+ bytes"),
        (_of_pytorch, "you tried to"),
        (_of_python, "there was no more"),
    ],
    ids=["numpy", "JAX", "PyTorch", "Python"],
)
def test_memory_that_ran_out_is_told_and_what_to_do(capsys, call, what):
    assert main._guarded(call, is_traceback_shown=False) == 2
    error = capsys.readouterr().err
    assert re.match(
        rf"hyperdecoders: error: A command must have memory for its arrays; {what}.*\. Use smaller "
        r"batches \(BATCH_SIZE, .*fewer layers .*more memory\. .*config\.json\.\n\(raised at ",
        error,
    )
    assert "Traceback" not in error
    with pytest.raises((MemoryError, RuntimeError)):
        main._guarded(call, is_traceback_shown=True)


def test_other_errors_while_running_are_defects(capsys):
    def fail():
        raise RuntimeError("INTERNAL: something")

    with pytest.raises(RuntimeError, match="INTERNAL"):
        main._guarded(fail, is_traceback_shown=False)


def test_the_folder_of_the_gin_files_comes_at_once_and_alone(tmp_path):
    start = time.monotonic()
    result = run("gin-path", cwd=tmp_path)
    assert result.returncode == 0
    assert time.monotonic() - start < 2.0
    (folder,) = result.stdout.splitlines()
    assert pathlib.Path(folder).is_absolute()
    assert pathlib.Path(folder, "experiments/demo_hyperdecoder.gin").is_file()


def test_a_data_folder_that_is_not_there_is_told(capsys, tmp_path):
    assert main.main(["tasks", f"--tfds_data_dir={tmp_path}/none"]) == 2
    assert "--tfds_data_dir must be a folder that exists" in capsys.readouterr().err


def test_a_task_module_in_this_folder_is_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    (tmp_path / "tasks_of_my_own.py").write_text("print('imported')")
    main.main(["tasks", "--module=tasks_of_my_own", "demo_nothing"])
    assert "imported" in capsys.readouterr().out


def test_a_task_module_that_is_not_there_is_told(capsys):
    assert main.main(["tasks", "--module=hyperdecoders_jax.tasks.gleu"]) == 2
    assert "no 'hyperdecoders_jax.tasks.gleu'" in capsys.readouterr().err


def test_a_run_file_is_put_first_unless_it_is_included(tmp_path):
    (tmp_path / "own.gin").write_text("include 'runs/embedded/train.gin'\n")
    (tmp_path / "bare.gin").write_text("A = 3\n")
    run_file = "runs/embedded/train.gin"
    own, bare = str(tmp_path / "own.gin"), str(tmp_path / "bare.gin")
    assert configured.Sources([own]).first(run_file).gin_files == [own]
    assert configured.Sources([bare]).first(run_file).gin_files == [run_file, bare]


def test_doctor_reports_and_finds_this_installation_whole(capsys):
    assert main.main(["doctor"]) == 0
    report = capsys.readouterr().out
    for word in ("python", "jaxlib", "seqio", "t5x", "cpu 0", "memory", "disk", "none"):
        assert word in report


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({"seqio": "0.0.20", "seqio-nightly": "0.0.18"}, "Only one of seqio, seqio-nightly"),
        ({"tensorflow-datasets": "4.9", "tfds-nightly": "4.9"}, "pip uninstall tensorflow-dat"),
        ({"tfds-nightly": "4.9"}, "tfds-nightly 4.9 stands in its place"),
        ({"tensorflow": "2.21.0", "tensorflow-cpu": "2.20.0"}, "Only one of tensorflow, tensorf"),
        ({"t5": "0.9.4"}, "The package t5 must not be installed"),
        ({"jax": "0.10.2", "jaxlib": "0.9.2"}, "pip install jaxlib==0.10.2"),
        ({"tensorflow": "2.21.0", "tensorflow-text": "2.19.0"}, "of one minor version"),
        ({"transformers": "5.1.0"}, "transformers must be below 5"),
    ],
)
def test_doctor_knows_each_conflict_and_what_to_do(versions, message):
    conflicts = doctor.find_conflicts(versions)
    assert len(conflicts) == 1
    assert message in conflicts[0]
    assert "Run: pip" in conflicts[0]


def test_a_transformers_without_flax_is_no_conflict_where_pytorch_is():
    assert doctor.find_conflicts({"transformers": "5.1.0", "torch": "2.13.0"}) == []


def test_doctor_names_releases_that_nobody_tried(capsys, monkeypatch):
    tried = doctor.TRIED["transformers"]
    found = doctor.find_untried({"transformers": "5.999.0.dev1", "torch": doctor.TRIED["torch"]})
    assert len(found) == 1
    assert f"transformers 5.999.0.dev1 is newer than {tried}" in found[0]
    assert f"pip install 'transformers<={tried}'" in found[0]
    assert doctor.find_untried({"transformers": "4.57.6", "torch": "2.13.0+cpu"}) == []
    installed = doctor.installed_versions()
    monkeypatch.setattr(doctor, "installed_versions", lambda: installed | {"torch": "99.0"})
    assert main.main(["doctor"]) == 0
    assert "torch 99.0 is newer than" in capsys.readouterr().out


def test_doctor_takes_a_clone_that_is_not_installed(capsys, monkeypatch):
    installed = doctor.installed_versions()
    installed.pop("hyperdecoders-jax", None)
    monkeypatch.setattr(doctor, "installed_versions", lambda: installed)
    assert main.main(["doctor"]) == 0
    folder = os.path.dirname(files.__file__)
    assert f"hyperdecoders_jax      {files.VERSION} ({folder})\n" in capsys.readouterr().out


def test_one_build_of_tensorflow_is_no_conflict():
    assert doctor.find_conflicts({"tensorflow-cpu": "2.21.0", "tensorflow-text": "2.21.1"}) == []
    assert "tensorflow" not in doctor.missing_packages({"tensorflow-cpu": "2.21.0"})


def test_an_error_is_told_without_quotes_and_without_what_gin_adds():
    error = KeyError("task 'a' must exist.\nNames: ['b']")
    with pytest.raises(KeyError) as caught:
        gin.utils.augment_exception_message_and_reraise(error, "\n  In call to configurable 'f'")
    assert errors.message_of(caught.value) == "task 'a' must exist.\nNames: ['b']"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../x", "no path; got '../../x'. Write --module=x and run in ../..,"),
        ("my_tasks.py", "Write --module=my_tasks and run in its folder"),
        ("", "no path; got ''"),
        ("fails", "fails (--module) raised ZeroDivisionError: no, at "),
        ("stops", "stops (--module) raised SystemExit: 0, at "),
        ("wrong", "wrong (--module) raised SyntaxError: "),
        ("needs", "needs (--module) raised ModuleNotFoundError: No module named 'not_here', at "),
    ],
)
def test_a_module_that_cannot_be_imported_is_told(name, message, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fails.py").write_text("raise ZeroDivisionError('no')")
    (tmp_path / "stops.py").write_text("import sys; sys.exit(0)")
    (tmp_path / "wrong.py").write_text("x = (")
    (tmp_path / "needs.py").write_text("import not_here")
    assert main.main(["tasks", f"--module={name}"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("train --learning_rate=1e-4", "Write --gin.LEARNING_RATE=1e-4."),
        ("train --learning-rate 1e-4", "Write --gin.LEARNING_RATE=1e-4."),
        ("train --model-dir=x", "Write --model_dir=x."),
        ("train --output_dir=x", "Write --model_dir=x."),
        ("train --per_device_train_batch_size=8", "Write --gin.BATCH_SIZE=8."),
        ("train --seed=3", "Write --gin.RANDOM_SEED=3."),
        ("train --num_train_epochs=3", "Write --gin.TRAIN_STEPS=…."),
        ("train --gin_files=a.gin", "Write --gin_file=a.gin."),
        ("train --max_source_length=9", "Write --gin.TASK_FEATURE_LENGTHS="),
        ("train --label_smothing=0.1", "Write --gin.LABEL_SMOOTHING=0.1."),
        ("export --check-point=a --checkpoint=b --output=c", "Write --checkpoint=a."),
        ("tasks --learning_rate=1e-4", "See hyperdecoders tasks --help."),
        ("tasks a b", "tasks got 'b'. Leave it out"),
    ],
)
def test_a_flag_of_another_trainer_is_told_with_ours(arguments, hint, capsys):
    assert main.main(arguments.split()) == 2
    told = capsys.readouterr().err
    assert hint in told
    assert "usage:" not in told


def test_a_search_path_must_be_a_folder(capsys):
    assert main.main(["config", "a.gin", "--gin_search_paths=/nowhere/a"]) == 2
    assert "there is no folder /nowhere/a (seen from" in capsys.readouterr().err


def test_params_shows_no_flag_that_does_nothing_there(capsys):
    with pytest.raises(SystemExit):
        main.main(["params", "--help"])
    shown = capsys.readouterr().out
    assert "--train_file" in shown
    for flag in ("process_count", "tfds_data_dir", "data_dir", "vocabulary", "metric"):
        assert f"--{flag}" not in shown


def test_gin_flags_and_bindings_bind_in_their_order():
    def last(*arguments):
        others, gin_flags = main.split_gin_flags(["train", "--gin_file=a.gin", *arguments])
        args = main.make_parser().parse_args(others)
        return [gin_files.read([], [x]).macro_values["A"][0] for x in
                flags.gin_bindings(args, gin_flags)]  # fmt: skip

    assert last("--gin_bindings=A = 1", "--gin.A=2") == [1, 2]
    assert last("--gin.A=2", "--gin_bindings", "A = 1", "--gin.A=3") == [2, 1, 3]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--model_dir="],
        ["train", "--model_dir", ""],
        ["train", "--gin_file=experiments/demo_hyperdecoder.gin", "--vocabulary="],
        ["train", "--tfds_data_dir="],
        ["train", "--train_file="],
        ["eval", "--model_dir="],
        ["infer", "--model_dir=x", "--input="],
        ["analyze", "--checkpoint=", "--output=x"],
        ["analyze", "--checkpoint=x", "--output="],
        ["export", "--checkpoint=", "--output=x"],
        ["convert", "--from=x", "--to="],
        ["demo", "--output="],
    ],
)
def test_an_empty_path_is_not_the_current_folder(arguments, capsys):
    assert main.main(arguments) == 2
    assert "must name a path; got ''" in capsys.readouterr().err


@pytest.mark.parametrize("macro", ["MODEL_DIR", "INITIAL_CHECKPOINT_PATH", "VOCABULARY"])
def test_an_empty_path_of_gin_is_not_the_current_folder(macro, capsys):
    experiment = "--gin_file=experiments/demo_hyperdecoder.gin"
    assert main.main(["train", experiment, f"--gin.{macro}=''"]) == 2
    assert f"{macro} must name a path; --gin.{macro}='' sets ''" in capsys.readouterr().err


def test_a_folder_that_is_gone_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main.main(["experiments"]) == 2
    assert "must run in a folder that exists; the one you are in was" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main.main(["train", "--help"])
    monkeypatch.chdir(tmp_path)


class Work:
    """A command that prints, works, and prints again."""

    TAKES_GIN = False

    def __init__(self):
        self.is_done = False

    def add_arguments(self, parser):
        pass

    def run(self, args, gin_flags):
        print("begun", flush=True)
        print("begun", file=sys.stderr, flush=True)
        self.is_done = True
        print("done", flush=True)


def run_without_reader(command, monkeypatch):
    """The code of a command whose output nobody reads, and whether its work was done."""
    read, write = os.pipe()
    os.close(read)
    work = Work()
    work.SUMMARY = "work"
    others = {name: main.module_of(name) for name in main.COMMANDS}
    monkeypatch.setattr(main, "module_of", {**others, command: work}.__getitem__)
    with open(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        return main.main([command]), work.is_done


@pytest.mark.parametrize("command", main.COMMANDS)
def test_work_outlasts_its_reader_and_what_prints_ends_with_it(command, monkeypatch):
    code, is_done = run_without_reader(command, monkeypatch)
    assert code == 0
    assert is_done == (command not in main.PRINTING)


def test_no_package_hides_a_command_that_python_m_runs():
    files_of = {name: pathlib.Path(main.module_of(name).__file__) for name in main.COMMANDS}
    run = {name: x for name, x in files_of.items() if "__main__" in x.read_text()}
    assert {"train", "plan"} <= run.keys()
    for name, path in run.items():
        found = importlib.util.find_spec(f"hyperdecoders_jax.{name}")
        assert pathlib.Path(found.origin).resolve() == path.resolve()


def test_another_pipe_that_breaks_is_an_error(capsys):
    def upload():
        raise BrokenPipeError(32, "Broken pipe")

    assert main._guarded(upload, is_traceback_shown=False) == 2
    assert "Broken pipe" in capsys.readouterr().err


def test_what_the_system_says_of_a_file_is_told_with_what_to_do(tmp_path, capsys):
    path = tmp_path / "file" / "a"
    path.parent.write_text("")
    assert main._guarded(path.read_text, is_traceback_shown=False) == 2
    message = f"A file must be read or written; '{path}' gave: Not a directory. A file stands"
    assert message in capsys.readouterr().err
    long = tmp_path / ("a" * 4000)
    assert main._guarded(long.read_text, is_traceback_shown=False) == 2
    assert "…' gave: File name too long. Name a shorter path." in capsys.readouterr().err
