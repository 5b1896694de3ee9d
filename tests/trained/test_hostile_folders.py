"""A folder of weights is data: what it holds beside them is neither read as a program nor imported.

Each kind of folder gets a config.gin that would call a program, and modules that would tell if they
were imported. Every command must do with it what it does without them.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import gin
import pytest

import hyperdecoders_jax
from hyperdecoders_jax.commands import analyze, main
from hyperdecoders_jax.config import gin_binding
from hyperdecoders_jax.data import vocabulary
from hyperdecoders_jax.weights import run_folder, safetensors_files
from tests.commands import test_export
from tests.trained import test_text_model
from tests.weights import test_conversion

TEXTS = ["topic: a pear", "relation: happy | unhappy"]
# What reads and writes text, and what are weights alone.
WHOLE = ("run", "adapters", "exported", "plain_t5")
WEIGHTS = ("t5x", "safetensors", pytest.param("original", marks=pytest.mark.torch))

PROGRAM = """
from __gin__ import dynamic_registration
import subprocess
import evil_module
import sitecustomize
from hyperdecoders_jax.commands import train as train_script

subprocess.getoutput.cmd = 'touch PWNED'
CALL = @subprocess.getoutput()
MODEL = %CALL
MODEL_DIR = @evil_module.run()
TASK_FEATURE_LENGTHS = %CALL
TASK_NAMES = %CALL
VOCABULARY = %CALL
INITIAL_CHECKPOINT_PATH = %CALL
train_script.train.run = %CALL
"""
# Tells that it was imported.
MODULE = """
import os
open(os.path.join(os.path.dirname(__file__), "IMPORTED"), "w").close()
def run():
    raise SystemExit("ran")
run()
"""
MODULES = (
    "sitecustomize",
    "usercustomize",
    "evil_module",
    "conftest",
    "__init__",
    "adapter_source",
)


pytestmark = pytest.mark.usefixtures("forget_configuration")


@pytest.fixture(autouse=True)
def _nothing_is_called(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"called with {args} {kwargs}")

    monkeypatch.setattr(subprocess, "getoutput", refuse)
    monkeypatch.setattr(os, "system", refuse)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of each kind."""
    folder = test_text_model.make_run(tmp_path_factory.mktemp("made"))
    (folder / "model").rename(folder / "run")
    call("export", f"--checkpoint={folder}/run", f"--output={folder}/exported")
    t5 = test_export.write_trained(folder / "plain")
    call("export", f"--checkpoint={t5}", f"--output={folder}/plain_t5", "--format=safetensors")
    for name in ("t5x", "safetensors"):
        call("convert", f"--from={folder}/plain_t5", f"--to={name}:{folder}/{name}")
    return folder


@pytest.fixture
def folder(made, request, tmp_path):
    """A copy of one."""
    if request.param == "original":
        pytest.importorskip("torch", reason="PyTorch is not installed")
        weights = test_conversion.make("manual", "generated")
        return pathlib.Path(test_conversion.write(weights, "original", tmp_path))
    return shutil.copytree(made / request.param, tmp_path / request.param)


def call(*arguments):
    assert main.main([str(argument) for argument in arguments]) == 0
    gin.clear_config()
    vocabulary.set_run_vocabulary(None)


def make_hostile(folder):
    (folder / "config.gin").write_text(PROGRAM)
    for name in MODULES:
        (folder / f"{name}.py").write_text(MODULE)


def check_that_nothing_ran(folder):
    for place in (folder, folder.parent, pathlib.Path.cwd()):
        assert not (place / "PWNED").exists()
        assert not (place / "IMPORTED").exists()
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    assert not [name for name, file in files.items() if file and file.startswith(f"{folder}")]


def compare(folder, do):
    """What `do` gives for a folder, which must be the same once that is hostile."""
    expected = do()
    make_hostile(folder)
    found = do()
    check_that_nothing_ran(folder)
    assert found == expected
    return found


def content_of(path):
    """A file's bytes; of safetensors, whose metadata come in any order, what they hold."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    found = {name: array.read().tobytes() for name, array in safetensors_files.open(path).items()}
    return found, safetensors_files.metadata(path)


def run_command(capsys, output, *arguments):
    """Exit code, output, errors, and content of the files that a command writes, which go."""
    capsys.readouterr()
    code = main.main([str(argument) for argument in arguments])
    gin.clear_config()
    vocabulary.set_run_vocabulary(None)
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("hyperdecoders: error")]
    files = {}
    if output.is_dir():
        files = {
            str(path.relative_to(output)): content_of(path)
            for path in sorted(output.rglob("*"))
            if path.is_file()
        }
        shutil.rmtree(output)
    return code, printed.out, errors, files


@pytest.mark.parametrize("folder", WHOLE, indirect=True)
def test_a_model_is_loaded(folder, monkeypatch):
    # Not even from the folder that one is in.
    monkeypatch.chdir(folder)
    assert len(compare(folder, lambda: hyperdecoders_jax.load(".").predict(TEXTS))) == len(TEXTS)


@pytest.mark.parametrize("folder", WEIGHTS, indirect=True)
def test_weights_without_texts_are_refused_for_what_they_are(folder):
    def refused():
        message = "must be a training run, an adapter folder or an exported folder"
        with pytest.raises(ValueError, match=message) as caught:
            hyperdecoders_jax.load(folder)
        return str(caught.value)

    compare(folder, refused)


@pytest.mark.parametrize("folder", WHOLE, indirect=True)
def test_lines_are_predicted(folder, tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(TEXTS))
    arguments = ("infer", f"--checkpoint={folder}", f"--input={lines}")
    code, out, *_ = compare(folder, lambda: run_command(capsys, tmp_path / "out", *arguments))
    assert (code, len(out.splitlines())) == (0, len(TEXTS))


@pytest.mark.parametrize("folder", [*WHOLE, *WEIGHTS], indirect=True)
def test_weights_are_converted(folder, tmp_path, capsys):
    arguments = ("convert", f"--from={folder}", f"--to=safetensors:{tmp_path}/out")
    code, _, _, files = compare(folder, lambda: run_command(capsys, tmp_path / "out", *arguments))
    assert code == 0
    assert any(name.endswith(".safetensors") for name in files)


@pytest.mark.parametrize("folder", [*WHOLE, *WEIGHTS], indirect=True)
def test_a_model_is_exported(folder, tmp_path, capsys):
    arguments = ("export", f"--checkpoint={folder}", f"--output={tmp_path}/out")
    code, _, errors, files = compare(
        folder, lambda: run_command(capsys, tmp_path / "out", *arguments)
    )
    if folder.name in WHOLE:
        assert (code, errors) == (0, [])
        assert {"config.json", "README.md", "flax_model.msgpack"} <= set(files)
    else:
        assert (code, len(errors), files) == (2, 1, {})


@pytest.mark.parametrize("folder", WHOLE, indirect=True)
def test_a_model_is_evaluated_as_what_a_run_starts_from(folder, tmp_path, capsys):
    macros = {
        "MIXTURE_OR_TASK_NAME": "demo_topic",
        "EVAL_SPLIT": "validation",
        "EVAL_EXAMPLES": 4,
        "BATCH_SIZE": 4,
        "EVAL_OUTPUT_DIR": tmp_path / "out",
    }
    flags = [f"--gin.{name}={value}" for name, value in macros.items()]
    arguments = ("eval", f"--init={folder}", *flags)
    code, out, errors, files = compare(
        folder, lambda: run_command(capsys, tmp_path / "out", *arguments)
    )
    assert (code, errors) == (0, [])
    assert "demo_topic  accuracy" in out
    assert len(files) == 2


@pytest.mark.parametrize("folder", WHOLE, indirect=True)
def test_an_analysis_is_configured(folder):
    flags = [f"--checkpoint={folder}", "--output=x", "--mixture=demo_topic"]

    def bound():
        args = main.make_parser().parse_args(["analyze", *flags])
        given = analyze.what_is_analysed(args, []).first("runs/embedded/analyze.gin")
        gin_binding.parse(given.read(), analyze.analyze, readers=["runs/embedded/train.gin"])
        values = gin.get_bindings("analyze_script.analyze")
        gin.clear_config()
        return given, values

    _, values = compare(folder, bound)
    assert values["run"].start.initial_checkpoint_path == str(folder)


def test_a_run_that_only_the_program_describes_is_not_read(made, tmp_path, capsys):
    folder = shutil.copytree(made / "run", tmp_path / "run")
    (folder / run_folder.CONFIG_FILE).unlink()
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(TEXTS))
    make_hostile(folder)
    with pytest.raises(ValueError, match=r"config\.gin alone, which is a program"):
        hyperdecoders_jax.load(folder)
    for command in (
        ("convert", f"--from={folder}", f"--to=safetensors:{tmp_path}/out"),
        ("export", f"--checkpoint={folder}", f"--output={tmp_path}/out"),
        ("infer", f"--checkpoint={folder}", f"--input={lines}"),
        ("analyze", f"--checkpoint={folder}", f"--output={tmp_path}/out", "--mixture=demo"),
        ("eval", f"--init={folder}", "--gin.MIXTURE_OR_TASK_NAME=demo_topic"),
    ):
        code, _, errors, files = run_command(capsys, tmp_path / "out", *command)
        assert (code, files) == (2, {})
        assert "which is a program. If you trust it" in errors[0], command
    check_that_nothing_ran(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoding": {"type": "Popen", "args": "touch PWNED"}}, "way of decoding must be one of"),
        ({"decoding": {"type": "subprocess.Popen"}}, "must be one of .*; got 'subprocess.Popen'"),
        ({"model": {"decoder_adapter": {"source": "evil_module"}}}, "evil_module"),
        (
            {"vocabulary": {"file": "../evil.model", "num_sentinels": 0, "fingerprint": "x"}},
            "must be the vo",
        ),
        ({"data": {}}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["run", "adapters"])
def test_a_description_may_name_what_this_package_has_alone(made, tmp_path, kind, change, message):
    folder = shutil.copytree(made / kind, tmp_path / kind)
    file = folder / "config.json"
    fields = json.loads(file.read_text())
    ((name, value),) = change.items()
    if name == "model":
        ((side, part),) = value.items()
        value = {**fields["model"], side: {**fields["model"][side], **part}}
    file.write_text(json.dumps({**fields, name: value}))
    make_hostile(folder)
    if message is None:
        assert hyperdecoders_jax.load(folder).predict(TEXTS)
    else:
        with pytest.raises(ValueError, match=message):
            hyperdecoders_jax.load(folder)
    check_that_nothing_ran(folder)
