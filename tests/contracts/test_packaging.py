"""What an installation carries: tasks, gin files and data, from a wheel and from the tree."""

import email
import os
import pathlib
import runpy
import subprocess
import sys
import tarfile
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
def clone(tmp_path_factory):
    """A copy of the tree, without what building and running leaves in it."""
    source = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    return source


def build(kind, clone, out):
    code = (
        "import sys; from setuptools import build_meta; "
        f"print(build_meta.build_{kind}(sys.argv[1]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        cwd=clone, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory):
    return build("wheel", clone, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site_folders(clone, wheel, tmp_path_factory):
    """What each kind of installation adds to Python's path: the folders of unpacked wheels."""
    folders = {"none": clone}
    editable = build("editable", clone, tmp_path_factory.mktemp("editable_wheel"))
    for kind, file in (("wheel", wheel), ("editable", editable)):
        folders[kind] = tmp_path_factory.mktemp(kind)
        zipfile.ZipFile(file).extractall(folders[kind])
    return folders


def test_a_wheel_carries_every_module_gin_file_and_data_file(wheel):
    assert set(shipped_files()) <= set(zipfile.ZipFile(wheel).namelist())


def test_a_source_distribution_carries_what_a_wheel_is_built_from(clone, tmp_path):
    with tarfile.open(build("sdist", clone, tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE"} <= names
    targets = {f"{target}/": folder for folder, target in FOLDERS.items()}
    for name in shipped_files():
        target = max((x for x in targets if name.startswith(x)), key=len)
        assert f"{targets[target]}/{name.removeprefix(target)}" in names


def test_the_readme_is_the_description_of_the_package(wheel):
    metadata = email.message_from_string(metadata_of(wheel))
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Author"] == "The hyperdecoders_jax authors"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    versions = {x.rpartition(" ")[2] for x in metadata.get_all("Classifier") if "Python ::" in x}
    assert versions == {"3.11", "3.12", "3.13"}


def test_a_wheel_puts_one_name_into_site_packages(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hyperdecoders_jax"}


# Run without this installation's own editable finder; argv: a folder of site-packages, the entry
# point's module and function.
FIND_ALL = """
import importlib, importlib.util, site, sys
sys.meta_path = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
for name in [name for name in sys.modules if "editable" in name]:
    del sys.modules[name]
sys.path.insert(1, sys.argv[1])
site.addsitedir(sys.argv[1])
import hyperdecoders_jax.tasks
from hyperdecoders_jax import files
print(hyperdecoders_jax.__file__)
print(hyperdecoders_jax.tasks.__file__)
print(files.resolve("package://tasks/demo_data/demo.spiece.model"))
print(importlib.util.find_spec("hyperdecoders_jax.train").origin)
module, function = sys.argv[2].split(":")
getattr(importlib.import_module(module), function)(["gin-path"])
"""


@pytest.mark.parametrize("is_inside", [True, False], ids=["inside", "outside"])
@pytest.mark.parametrize("kind", ["none", "wheel", "editable"])
def test_tasks_and_gin_files_are_found_from_inside_and_outside_a_clone(
    kind, is_inside, clone, site_folders, tmp_path
):
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", FIND_ALL, str(site_folders[kind]), entry_point()],
        cwd=clone if is_inside else tmp_path, env=environment,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # Python looks into the working directory first: inside a clone its package is used.
    is_wheel = kind == "wheel" and not is_inside
    root = site_folders["wheel"] if is_wheel else clone
    around = f"{root}/hyperdecoders_jax" if is_wheel else str(root)
    assert result.stdout.splitlines() == [
        f"{root}/hyperdecoders_jax/__init__.py",
        f"{around}/tasks/__init__.py",
        f"{around}/tasks/demo_data/demo.spiece.model",
        f"{root}/hyperdecoders_jax/commands/train.py",
        f"{around}/gin_configs",
    ]


def test_this_installation_finds_tasks_and_gin_files_from_any_folder(tmp_path):
    code = (
        "import hyperdecoders_jax.tasks as t, hyperdecoders_jax.gin_configs.models as m; "
        "print(t.__file__, m.__file__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr


def test_every_gin_folder_is_a_package():
    for folder in (ROOT / "gin_configs").rglob("*"):
        if folder.is_dir() and folder.name != "__pycache__":
            assert (folder / "__init__.py").is_file(), folder


def metadata_of(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    (name,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    return zipfile.ZipFile(wheel).read(name).decode()


def test_no_conflicting_or_unpublishable_requirement_is_named(wheel):
    metadata = metadata_of(wheel).partition("\n\n")[0]
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
    assert {"cuda", "docs", "test", "tpu", "hf", "t5x", "plots", "train"} <= extras
    brought = {line.partition("extra == ")[2] for line in lines if ": seqio" in line}
    assert brought == {f'"{name}"' for name in ("docs", "t5x", "test", "train")}


def entry_point():
    """MODULE:FUNCTION of the command line."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (scripts,) = project["scripts"].items()
    assert scripts[0] == "hyperdecoders"
    return scripts[1]


@pytest.mark.parametrize(
    "command",
    ["train", "eval", "infer", "analyze", "params", "convert", "export", "demo", "doctor"],
)
def test_python_m_runs_a_command(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    monkeypatch.delitem(sys.modules, f"hyperdecoders_jax.{command}", raising=False)
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module(f"hyperdecoders_jax.{command}", run_name="__main__", alter_sys=True)
    assert f"{command} [-h]" in " ".join(capsys.readouterr().out.split())
