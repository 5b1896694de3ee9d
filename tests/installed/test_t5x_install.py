import json
import pathlib
import re
import subprocess
import sys

import pytest

from hyperdecoders_jax.installed import t5x_install

WITHOUT_T5X = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {names} else find_spec(name, *rest)
import hyperdecoders_jax
import {module}
"""


@pytest.mark.parametrize("module", ["hyperdecoders_jax.t5x", "hyperdecoders_jax.t5x.model"])
def test_its_modules_say_how_to_install_t5x_where_it_is_missing(module):
    code = WITHOUT_T5X.format(names=list(t5x_install.SOURCES), module=module)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=300
    )
    assert "ImportError: hyperdecoders_jax.t5x needs t5x, airio, jestimator" in result.stderr
    for command in t5x_install.commands():
        assert command in result.stderr


def test_what_is_missing_is_named(monkeypatch):
    there = {"t5x", "jestimator"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in there else None)
    with pytest.raises(ImportError, match=r"; airio cannot be imported.*folder run: pip install"):
        t5x_install.check()


def install(folder, name, direct_url=None, version="0.0.0"):
    """Puts a package on disk as pip does; `direct_url` is what it records of its origin."""
    file = folder / t5x_install.SOURCES[name].file
    file.parent.mkdir(parents=True)
    file.touch()
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if direct_url is not None:
        (info / "direct_url.json").write_text(json.dumps(direct_url))


def from_git(commit):
    return {"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": commit}}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty folder, the only one on Python's path."""
    for name in t5x_install.SOURCES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    return tmp_path


def test_nothing_of_t5x_is_no_problem(site):
    assert t5x_install.problems() == []
    assert dict(t5x_install.status_lines())["airio"] == "not installed (optional)"


def test_the_commit_that_pip_recorded_is_told(site, monkeypatch):
    for name, source in t5x_install.SOURCES.items():
        install(site, name, from_git("0123456789abcdef" if name == "airio" else source.commit))
    monkeypatch.setattr(t5x_install, "FROM_REGISTRY", ())
    assert t5x_install.problems() == []
    lines = dict(t5x_install.status_lines())
    assert lines["t5x"] == f"commit cc342d419ec3, in {site / 't5x'}"
    assert lines["airio"].startswith("commit 0123456789ab (the tests run on 69897df7d9a4), in ")


def test_a_copy_of_unknown_commit_is_told(site):
    install(site, "t5x", {"url": "file:///src/t5x", "dir_info": {}})
    assert (
        "commit unknown (the tests run on cc342d419ec3)" in dict(t5x_install.status_lines())["t5x"]
    )


def test_a_part_of_t5x_is_a_problem_that_names_the_rest(site):
    install(site, "t5x", from_git("0"))
    rest, needed = t5x_install.problems()
    assert "; airio, jestimator cannot be imported. Run: pip install --no-deps" in rest
    assert re.search("google/airio@.* && .*google-research/jestimator@", rest)
    assert "google-research/t5x@" not in rest
    assert "fiddle, grain cannot be imported. Run in the repository's folder: pip ins" in needed


def test_a_registry_release_is_a_problem(site):
    install(site, "jestimator", version="0.3.3")
    assert re.search(
        "jestimator must be installed from git; the registry's release 0.3.3 stands in its place. "
        r"Run: pip install --no-deps --force-reinstall git\+https://github.com/google-research/jest",
        "\n".join(t5x_install.problems()),
    )


def test_two_copies_are_a_problem_that_names_both(site, tmp_path, monkeypatch):
    first = tmp_path / "clone"
    install(site, "airio", from_git("0"))
    install(first, "airio", from_git("0"))
    monkeypatch.setattr("sys.path", [str(first), str(site), str(first)])
    assert f"the first of {first / 'airio'}, {site / 'airio'} hides the others" in "\n".join(
        t5x_install.problems()
    )


def test_what_t5x_imports_from_the_registry_is_the_extra():
    setup = pathlib.Path(__file__).parents[2].joinpath("setup.py").read_text()
    extra = re.search(r'"t5x": \[(.*?)\]', setup)[1]
    assert tuple(re.findall(r'"(\w+)>=', extra)) == t5x_install.FROM_REGISTRY


def test_the_documentation_shows_these_commands():
    page = pathlib.Path(__file__).parents[2].joinpath("docs/t5x.md").read_text()
    assert "\n".join(t5x_install.commands()) in page
