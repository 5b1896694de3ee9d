"""Installation of T5X: the commits that the tests run on, commands, and checks.

T5X and airio are on no package registry, jestimator only in a release that fails with today's jax,
and their stated requirements conflict with seqio's releases. They are therefore installed from
fixed commits with `--no-deps`, together with the extra `[t5x]`, which holds what else they import.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Source(NamedTuple):
    """Where a package comes from: a repository on GitHub."""

    repository: str
    commit: str  # That the tests run on.
    file: str  # One of its files that T5X needs.


SOURCES = {
    "t5x": Source(
        "google-research/t5x", "cc342d419ec3e3e9c4bf1df33c82330cafdc1e16", "t5x/train.py"
    ),
    "airio": Source("google/airio", "69897df7d9a427b947a9f7bb4164c7782b43e601", "airio/core.py"),
    "jestimator": Source(
        "google-research/jestimator",
        "326824a477feef6d92e6f44175000907a72899ca",
        "jestimator/amos.py",
    ),
}
# The extra [t5x] of setup.py.
FROM_REGISTRY = ("cached_property", "fiddle", "grain")


def commands(requirement: str = ".[t5x]", names: Iterable[str] = tuple(SOURCES)) -> list[str]:
    """Commands that install T5X; by default run in the repository's folder.

    >>> commands()[0]
    "pip install '.[t5x]'"
    >>> commands()[1].split("@")[0]
    'pip install --no-deps --force-reinstall git+https://github.com/google-research/t5x'

    `requirement` is this package with the extra, as pip takes it; `names` are some of `SOURCES`.
    """
    # Forced, since all commits have one version, and pip would keep one that is installed.
    from_git = [
        "pip install --no-deps --force-reinstall "
        f"git+https://github.com/{SOURCES[name].repository}@{SOURCES[name].commit}"
        for name in names
    ]
    return [f"pip install {shlex.quote(requirement)}", *from_git]


def missing() -> list[str]:
    """The `SOURCES` that cannot be imported."""
    # Without an import, which takes seconds.
    return [name for name in SOURCES if importlib.util.find_spec(name) is None]


def check() -> None:
    """Raises ImportError unless all of `SOURCES` can be imported."""
    if names := missing():
        raise ImportError(
            f"hyperdecoders_jax.t5x needs {', '.join(SOURCES)}; {', '.join(names)} cannot be "
            "imported. They are on no package registry. In the repository's folder run: "
            + " && ".join(commands())
        )


def status_lines() -> Iterator[tuple[str, str]]:
    """Each of `SOURCES` and a text about what is installed of it; imports none."""
    absent = missing()
    for name, source in SOURCES.items():
        if name in absent:
            yield name, "not installed (optional)"
            continue
        commit = (_direct_url(name) or {}).get("vcs_info", {}).get("commit_id")
        words = f"commit {commit[:12] if commit else 'unknown'}"
        if commit != source.commit:
            words += f" (the tests run on {source.commit[:12]})"
        yield name, ", ".join([words, *(f"in {folder}" for folder in _folders(name)[:1])])


def problems() -> list[str]:
    """What is wrong with T5X's installation, and how to repair it; empty if it is not there."""
    found, absent = [], missing()
    if absent and len(absent) < len(SOURCES):
        found.append(
            f"T5X needs all of {', '.join(SOURCES)}; {', '.join(absent)} cannot be imported. "
            f"Run: {' && '.join(commands(names=absent)[1:])}"
        )
    unmet = [name for name in FROM_REGISTRY if importlib.util.find_spec(name) is None]
    if unmet and len(absent) < len(SOURCES):
        found.append(
            f"T5X imports {', '.join(FROM_REGISTRY)}; {', '.join(unmet)} cannot be imported. "
            f"Run in the repository's folder: {commands()[0]}"
        )
    for name in SOURCES:
        folders = _folders(name)
        if len(folders) > 1:
            found.append(
                f"{name} must be in one place; the first of {', '.join(folders)} hides the others. "
                "Leave one in PYTHONPATH or installed."
            )
        if (release := _release(name)) is not None:
            found.append(
                f"{name} must be installed from git; the registry's release {release} stands in "
                f"its place. Run: {commands(names=[name])[1]}"
            )
    return found


def _folders(name: str) -> list[str]:
    """Its folders on Python's path; the first is imported."""
    file = SOURCES[name].file
    # Without duplicates, in order: one folder may be there under several names.
    roots = dict.fromkeys(map(os.path.realpath, sys.path))
    paths = [os.path.join(root, file) for root in roots]
    return [os.path.dirname(path) for path in paths if os.path.isfile(path)]


def _release(name: str) -> str | None:
    """The version, if a registry's release is installed."""
    if _direct_url(name) is not None:
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _direct_url(name: str) -> dict | None:
    """The installer's record of a package that is not from a registry (PEP 610)."""
    try:
        text = importlib.metadata.distribution(name).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    return None if text is None else json.loads(text)
