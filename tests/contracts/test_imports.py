"""What may import what, beside import-linter's contracts, which `make check` tests."""

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


def modules_of(folder):
    package = pathlib.Path(hyperdecoders_jax.__file__).parent
    modules = pkgutil.iter_modules([str(package / folder)])
    return [f"hyperdecoders_jax.{folder}.{module.name}" for module in modules]


def assert_light(modules, heavy):
    """Imports modules one after the other; fails at the first that loads something heavy."""
    code = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = {heavy} & set(sys.modules)\n"
        "    if loaded: sys.exit(f'{name} loads {loaded}')"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_the_command_line_loads_neither_jax_nor_tensorflow():
    modules = [
        "hyperdecoders_jax",
        *modules_of("commands"),
        "hyperdecoders_jax.config.gin_binding",
        "hyperdecoders_jax.config.gin_files",
    ]
    assert_light(modules, {"jax", "tensorflow", "seqio", "numpy"})


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


def test_modelling_loads_neither_tensorflow_nor_seqio_nor_gin():
    folders = ("modeling", "decoding", "training")
    modules = ["hyperdecoders_jax.data.tokenizer", *(y for x in folders for y in modules_of(x))]
    assert_light(modules, {"tensorflow", "seqio", "gin"})


@pytest.mark.parametrize(
    "name", [m.name for m in pkgutil.iter_modules(hyperdecoders_jax.tasks.__path__)]
)
def test_the_examples_of_task_modules_run(name):
    # Not collected as files: under their path they would register every task a second time.
    module = importlib.import_module(f"hyperdecoders_jax.tasks.{name}")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=flags).failed == 0
