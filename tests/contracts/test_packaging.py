"""What an installation carries: tasks, gin files and data, from a wheel and from the tree."""

import pathlib
import subprocess
import sys
import tomllib
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DATA_SUFFIXES = {".gin", ".gz", ".jsonl", ".md", ".model", ".safetensors"}
# Folders of the tree -> where they are inside the installed package.
FOLDERS = {
    "hyperdecoders_jax": "hyperdecoders_jax",
    "tasks": "hyperdecoders_jax/tasks",
    "gin_configs": "hyperdecoders_jax/gin_configs",
}


def shipped_files():
    """Paths inside the installed package of every file that it must carry."""
    for folder, target in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*")):
            is_data = path.suffix in DATA_SUFFIXES or path.name.startswith("NOTICE")
            if path.is_file() and (path.suffix == ".py" or is_data):
                yield f"{target}/{path.relative_to(ROOT / folder)}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from a copy of the tree: building leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    code = (
        "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        cwd=source, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return next(out.glob("*.whl"))


def test_a_wheel_carries_every_module_gin_file_and_data_file(wheel):
    assert set(shipped_files()) <= set(zipfile.ZipFile(wheel).namelist())


def test_a_wheel_puts_one_name_into_site_packages(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hyperdecoders_jax"}


def test_an_unpacked_wheel_finds_its_gin_files_and_tasks(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.meta_path = [f for f in sys.meta_path "
        "if 'editable' not in getattr(f, '__module__', '')]; "
        "from hyperdecoders_jax import configuration as c; "
        "print(c.find_file('experiments/glue/glue_manual_generated.gin', c.search_path()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.stdout.startswith(str(tmp_path / "site")), result.stderr


def test_this_installation_finds_tasks_and_gin_files_from_any_folder(tmp_path):
    code = (
        "import hyperdecoders_jax.tasks as t, hyperdecoders_jax.gin_configs.models as m; "
        "print(t.__file__, m.__file__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr


def test_every_gin_folder_is_a_package():
    for folder in (ROOT / "gin_configs").rglob("*"):
        if folder.is_dir() and folder.name != "__pycache__":
            assert (folder / "__init__.py").is_file(), folder


def test_no_conflicting_or_unpublishable_requirement_is_named(wheel):
    metadata = next(
        zipfile.ZipFile(wheel).read(name).decode()
        for name in zipfile.ZipFile(wheel).namelist()
        if name.endswith("METADATA")
    )
    lines = [line for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    names = {
        line.removeprefix("Requires-Dist: ")
        .split(";")[0]
        .split("=")[0]
        .split(">")[0]
        .split("<")[0]
        .split("[")[0]
        .strip()
        for line in lines
    }
    assert not names & {"tensorflow", "tensorflow-text", "t5", "seqio-nightly", "tfds-nightly"}
    assert not any("@" in line for line in lines), "a direct reference cannot be published"
    assert any(line.startswith("Requires-Dist: jax>=0.9.2") for line in lines)
    extras = {line.split(": ")[1] for line in metadata.splitlines() if "Provides-Extra" in line}
    assert {"test", "tpu", "hf", "t5x", "plots"} <= extras


def test_the_command_is_an_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"hyperdecoders": "hyperdecoders_jax.commands.cli:main"}
