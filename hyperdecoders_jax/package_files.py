"""A path that a user writes in; where that file is out, also if it ships with the package."""

from __future__ import annotations

import importlib.util
import os

# Begins the path of a file that ships with the package, wherever that is installed.
SCHEME = "package://"


def resolve(path: str | None) -> str | None:
    """Turns `package://FOLDER/FILE` into where that file of the package is; others stay.

    >>> resolve("/data/spiece.model")
    '/data/spiece.model'

    Raises:
      ValueError: the package has no such file.
    """
    if path is None or not path.startswith(SCHEME):
        return path
    folder, _, rest = path.removeprefix(SCHEME).partition("/")
    # The folder may lie elsewhere than its parent: setup.py maps it in.
    is_name = folder.isidentifier()
    spec = importlib.util.find_spec(f"hyperdecoders_jax.{folder}") if is_name else None
    for location in (spec.submodule_search_locations or ()) if spec else ():
        found = os.path.join(location, rest)
        if os.path.exists(found):
            return found
    raise ValueError(
        f"A path of {SCHEME} must name a file that ships with the package; there is no {path}. "
        f"Write {SCHEME}tasks/demo_data/FILE, or a path of your own."
    )
