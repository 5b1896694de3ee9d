"""What works without the extra `[train]`, what does not, and that setup.py lists just that."""

import ast
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import hyperdecoders_jax
from hyperdecoders_jax.commands import main
from hyperdecoders_jax.installed import train_extra

ROOT = pathlib.Path(__file__).parents[2]
FOLDERS = ROOT / "tests" / "formats"
# Modules of the other extras, which this environment has.
OTHERS = ("tensorflow", "tensorflow_text", "torch", "transformers", "tokenizers", "matplotlib")
MESSAGE = (
    r"need TensorFlow, SeqIO and other packages; not installed: .*clu.*"
    r"pip install 'hyperdecoders_jax\[train\]'"
)

# All that the core does; prints the third-party modules that the package itself imported.
CORE = """
import ast, inspect, json, sys
sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))
import hyperdecoders_jax
from hyperdecoders_jax.commands import main

assert "jax" not in sys.modules
for folder in ("run", "adapters", "export"):
    print(hyperdecoders_jax.load(folder).predict(["pet:a red bird", "pet:an old dog"]))
assert "gin" not in sys.modules
print("Here commands begin.", file=sys.stderr)
for command in (
    "infer --checkpoint=adapters --input=lines.jsonl",
    "convert --from=run:run --to=adapters:made_adapters",
    "convert --from=export --to=safetensors:made.safetensors",
    "export --checkpoint=run --output=made_export --format=flax,safetensors",
    "params --gin_file=experiments/demo_hyperdecoder.gin",
    "config experiments/demo_hyperdecoder.gin",
    "experiments demo",
    "doctor",
):
    assert main.main(command.split()) == 0, command
print(hyperdecoders_jax.load("made_adapters").predict(["pet:a red bird"]))

from benchmarks import decode, hypergrid, measurement, tpu, train_step
flags = ["--gin_file=experiments/glue/glue_hyperformer.gin", "--gin_file=models/t5_1_1_base.gin"]
measurement.parse_arguments("", flags)

loaded = {name for name, module in sys.modules.items() if module is not None}
imported = set()
for name in [name for name in loaded if name.startswith("hyperdecoders_jax.")]:
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[name]) or "")):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}

print(json.dumps(sorted(imported & loaded)))
"""


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The output of `CORE`, where no other package than those of the core can be imported."""
    folder = tmp_path_factory.mktemp("core") / "folder"
    shutil.copytree(FOLDERS / "before_versions", folder)
    shutil.copy(FOLDERS / "version_1" / "config.json", folder / "run")
    refused = json.dumps([*train_extra.PACKAGES.values(), *OTHERS])
    result = subprocess.run(
        [sys.executable, "-c", CORE, refused],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("Here commands begin.")  # To load tells nothing.
    return result.stdout.splitlines()


def required(name):
    """Distributions of a list in setup.py."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            texts = ast.literal_eval(node.value)
            return {text.partition(">")[0].partition("[")[0] for text in texts}
    raise KeyError(name)


def test_trained_models_predict_and_are_converted_without_the_extra(lines):
    assert lines[:3] == ["['bird', 'dog']"] * 3
    assert "['bird']" in lines


def test_the_core_requires_what_it_imports(lines):
    owners = importlib.metadata.packages_distributions()
    found = set()
    for name in json.loads(lines[-1]):
        top = name.partition(".")[0]
        if name.startswith("google.protobuf"):
            found.add("protobuf")
        elif top not in (*sys.stdlib_module_names, "hyperdecoders_jax", "__future__", "google"):
            found |= set(owners[top])
    assert found == required("CORE")


def test_the_extra_is_one_list(lines):
    assert set(train_extra.PACKAGES) == required("TRAIN")
    assert not required("TRAIN") & required("CORE")


@pytest.mark.parametrize(
    "command",
    [
        "train --gin_file=experiments/demo_hyperdecoder.gin --model_dir=here",
        "eval --gin_file=experiments/demo_hyperdecoder.gin --model_dir=here",
        "infer --gin_file=experiments/demo_hyperdecoder.gin --model_dir=here",
        "analyze --checkpoint=. --mixture=demo --output=here",
        "compare --gin_file=mixtures/demo.gin --method=hyperdecoder --output=here",
        "tasks",
        "demo",
    ],
    ids=lambda command: command.split()[0],
)
def test_a_command_that_needs_the_extra_says_how_to_get_it(command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "clu", None)
    assert main.main(command.split()) == 2
    with pytest.raises(ImportError, match=MESSAGE) as error:
        train_extra.check()
    assert str(error.value) in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_python_that_needs_the_extra_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "clu", None)
    with pytest.raises(ImportError, match=MESSAGE):
        hyperdecoders_jax.train(None)
    with pytest.raises(ImportError, match=MESSAGE):
        hyperdecoders_jax.compare({}, "here")
    with pytest.raises(ImportError, match=MESSAGE):
        hyperdecoders_jax.RunConfig  # noqa: B018


def test_a_module_of_tasks_says_how_to_get_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks_of_mine.py").write_text("import seqio\n")
    for name in ("clu", "seqio"):
        monkeypatch.setitem(sys.modules, name, None)
    flags = ["--from=none", "--to=safetensors:x.safetensors", "--module=tasks_of_mine"]
    assert main.main(["convert", *flags]) == 2
    assert "pip install 'hyperdecoders_jax[train]'" in capsys.readouterr().err
