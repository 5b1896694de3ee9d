"""Paths as users write them, and atomic writes."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etils import epath

# Begins the path of a file that ships with the package, wherever that is installed.
PACKAGE_SCHEME = "package://"
# Suffix of a file while `write_text` writes it.
UNFINISHED = ".unfinished"


def write_text(path: epath.Path, text: str) -> None:
    """Atomic text write: a killed process leaves the old file or the new one, never a part."""
    unfinished = path.parent / f".{path.name}{UNFINISHED}"
    unfinished.write_text(text)
    unfinished.replace(path)


def check_writable(
    directory: str, name: str = "model directory", flag: str = "--model_dir"
) -> None:
    """Checks that files can be written in `directory`, which need not exist yet; leaves no trace.

    Only process 0 looks, so that processes do not remove each other's traces.
    """
    import jax
    from etils import epath

    if jax.process_index() != 0:
        return
    path = epath.Path(directory)
    is_local = "://" not in str(directory)
    missing = [p for p in (path, *path.parents) if is_local and not p.exists()]  # Deepest first.
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".write_probe"
        probe.write_text("")
        probe.unlink()
    # Remote file systems raise errors of their own.
    except Exception as error:
        raise ValueError(
            f"The {name} must be writable; got {str(directory)!r}, where writing gave "
            f"{type(error).__name__}: {error}. Choose another {flag}, or change its rights."
        ) from error
    finally:
        for parent in missing:
            if parent.exists():
                parent.rmdir()


def at_home(path: str | None) -> str | None:
    """Replaces a leading `~`, which shells leave alone after `--flag=`."""
    return path if path is None else os.path.expanduser(path)


def absolute(path: str) -> str:
    """An absolute local path; URLs stay as they are."""
    return path if "://" in path else os.path.abspath(at_home(path))


def resolve(path: str | None) -> str | None:
    """Replaces `package://FOLDER/FILE` by the file's path here; ValueError if there is none.
    >>> resolve("/data/spiece.model")
    '/data/spiece.model'
    """
    if path is None or not path.startswith(PACKAGE_SCHEME):
        return path
    folder, _, rest = path.removeprefix(PACKAGE_SCHEME).partition("/")
    # setup.py maps folders into the package: they need not lie beside this file.
    is_name = folder.isidentifier()
    spec = importlib.util.find_spec(f"hyperdecoders_jax.{folder}") if is_name else None
    for location in (spec.submodule_search_locations or ()) if spec else ():
        found = os.path.join(location, rest)
        if os.path.exists(found):
            return found
    raise ValueError(
        f"A path of {PACKAGE_SCHEME} must name a file that ships with the package; there is no "
        f"{path}. Write {PACKAGE_SCHEME}tasks/demo_data/FILE, or a path of your own."
    )
