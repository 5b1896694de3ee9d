"""What may import what: import-linter's contracts, and those that it cannot see."""

import ast
import doctest
import importlib
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import hyperdecoders_jax.tasks

ROOT = pathlib.Path(__file__).parents[2]
TASK_FILES = sorted(pathlib.Path(hyperdecoders_jax.tasks.__path__[0]).glob("*.py"))


def run_python(code, *flags):
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, cwd="/", timeout=300
    )


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_import_contracts_hold():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: path.stem)
def test_tasks_import_data_and_each_other_alone(path):
    for name in imported_modules(path):
        if name.startswith("hyperdecoders_jax."):
            assert name.startswith(("hyperdecoders_jax.data", "hyperdecoders_jax.tasks")), name


def test_the_package_names_no_task_module():
    package = pathlib.Path(hyperdecoders_jax.__file__).parent
    for path in package.rglob("*.py"):
        for name in imported_modules(path):
            # The listing of tasks and the demo name the package as a string, and import by name.
            assert not name.startswith("hyperdecoders_jax.tasks"), f"{path}: {name}"


@pytest.mark.parametrize(
    "module",
    [
        "hyperdecoders_jax",
        "hyperdecoders_jax.commands.main",
        "hyperdecoders_jax.commands.train",
        "hyperdecoders_jax.commands.eval",
        "hyperdecoders_jax.commands.infer",
        "hyperdecoders_jax.commands.params",
        "hyperdecoders_jax.commands.convert",
        "hyperdecoders_jax.commands.export",
        "hyperdecoders_jax.commands.upgrade",
        "hyperdecoders_jax.commands.config",
        "hyperdecoders_jax.commands.experiments",
        "hyperdecoders_jax.commands.analyze",
        "hyperdecoders_jax.commands.demo",
        "hyperdecoders_jax.commands.doctor",
        "hyperdecoders_jax.config.gin_binding",
        "hyperdecoders_jax.config.gin_files",
    ],
)
def test_the_command_line_loads_neither_jax_nor_tensorflow(module):
    code = (
        f"import sys, {module}; "
        "heavy = {'jax', 'tensorflow', 'seqio', 'numpy'} & set(sys.modules); "
        "sys.exit(f'{heavy}' if heavy else 0)"
    )
    assert run_python(code).stderr == ""


def test_tasks_load_little_more_than_seqio_and_need_no_network():
    code = (
        "import seqio, socket, sys; "
        "loaded = {name.partition('.')[0] for name in sys.modules}; "
        "socket.socket.connect = None; "
        "import hyperdecoders_jax.tasks.mixtures; "
        "loaded |= {'hyperdecoders_jax', 'jaxtyping', *sys.stdlib_module_names}; "
        "more = {name.partition('.')[0] for name in sys.modules} - loaded; "
        "sys.exit(f'{more}' if more else 0)"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", ["modeling", "decoding", "training"])
def test_modelling_loads_neither_tensorflow_nor_seqio_nor_gin(package):
    code = (
        "import importlib, pkgutil, sys; "
        f"package = importlib.import_module('hyperdecoders_jax.{package}'); "
        "[importlib.import_module(f'{package.__name__}.{m.name}') "
        " for m in pkgutil.iter_modules(package.__path__)]; "
        "bad = {'tensorflow', 'seqio', 'gin'} & set(sys.modules); "
        "sys.exit(f'{bad}' if bad else 0)"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "name", [m.name for m in pkgutil.iter_modules(hyperdecoders_jax.tasks.__path__)]
)
def test_the_examples_of_task_modules_run(name):
    # Not collected as files: under their path they would register every task a second time.
    module = importlib.import_module(f"hyperdecoders_jax.tasks.{name}")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=flags).failed == 0
