"""Where T5X comes from: the commits that the tests run on, and how to install them.

T5X, airio and jestimator are on no package registry (jestimator's release is too old), and what
they ask for by name conflicts with seqio's releases. They are therefore installed from fixed
commits with `--no-deps`, beside the extra `[t5x]`, which holds what else they import.
"""

from __future__ import annotations

import importlib.util

# module -> (repository on GitHub, commit)
SOURCES = {
    "t5x": ("google-research/t5x", "cc342d419ec3e3e9c4bf1df33c82330cafdc1e16"),
    "airio": ("google/airio", "69897df7d9a427b947a9f7bb4164c7782b43e601"),
    "jestimator": ("google-research/jestimator", "326824a477feef6d92e6f44175000907a72899ca"),
}


def commands() -> list[str]:
    """What to run in the repository's folder to install T5X.

    >>> commands()[0]
    "pip install '.[t5x]'"
    >>> commands()[1].split("@")[0]
    'pip install --no-deps git+https://github.com/google-research/t5x'
    """
    from_git = [
        f"pip install --no-deps git+https://github.com/{repository}@{commit}"
        for repository, commit in SOURCES.values()
    ]
    return ["pip install '.[t5x]'", *from_git]


def check() -> None:
    """Raises ImportError unless T5X and what it imports from git can be imported."""
    missing = [name for name in SOURCES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"hyperdecoders_jax.t5x needs {', '.join(SOURCES)}; {', '.join(missing)} cannot be "
            "imported. They are on no package registry. In the repository's folder run: "
            + " && ".join(commands())
        )
