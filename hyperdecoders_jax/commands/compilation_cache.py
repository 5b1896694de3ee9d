"""The persistent cache of compiled programs: a command's next start need not compile them again.

A T5 takes minutes to compile for a TPU, after each preemption anew. JAX keeps programs by what they
compute, for which devices and by which release; here it is told a folder. Entries are machine code,
as trusted as the package itself.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile

from hyperdecoders_jax import files

FOLDER_VARIABLE = "COMPILATION_CACHE_DIR"
# Turns the cache off.
NONE = "none"
MAX_BYTES = 4 << 30
# Programs that compile faster are not worth a file each: JAX's 1 s leaves many small ones out.
_MIN_COMPILE_SECS = 0.1


def use(folder: str | None = None) -> None:
    """Tells JAX where compiled programs are kept; a folder that cannot be is told, and no error.

    The first that is given of `folder`, $COMPILATION_CACHE_DIR, JAX's own
    $JAX_COMPILATION_CACHE_DIR, and the user's cache folder.
    """
    import jax

    folder = folder or os.environ.get(FOLDER_VARIABLE) or jax.config.jax_compilation_cache_dir
    folder = folder or default_folder()
    if folder == NONE:
        _set(None)
        return
    try:
        folder = files.absolute(folder)
        _check_usable(folder)
        if folder == default_folder():  # Others may be of other programs, too.
            _trim(folder)
    except Exception as error:  # Remote file systems raise errors of their own.
        reason = str(getattr(error, "strerror", None) or error).strip().partition("\n")[0]
        print(
            f"warning: The cache of compiled programs must be a folder that can be written; "
            f"{folder} gave: {reason}. Programs are compiled anew; name another with "
            f"--compilation_cache_dir or {FOLDER_VARIABLE}, or {NONE}.",
            file=sys.stderr,
        )
        _set(None)
        return
    _set(folder)


def default_folder() -> str:
    """In the user's cache folder, `$XDG_CACHE_HOME` or `~/.cache`."""
    # The specification has relative paths ignored.
    base = os.environ.get("XDG_CACHE_HOME", "")
    base = base if os.path.isabs(base) else os.path.expanduser("~/.cache")
    return os.path.join(base, "hyperdecoders_jax", "compiled")


def _set(folder: str | None) -> None:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    if folder != jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()  # Of a command before, in the same process.
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_SECS)


def _check_usable(folder: str) -> None:
    """Makes the folder; raises OSError, or a remote file system's error, if it is not writable."""
    if "://" not in folder:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    from etils import epath

    epath.Path(folder).mkdir(parents=True, exist_ok=True)


def _trim(folder: str) -> None:
    """Removes the entries that were used longest ago, down to `MAX_BYTES`.

    JAX's own limit needs a package more, and fails where entries were written without it.
    """
    entries = []
    for entry in os.scandir(folder):
        if entry.is_file() and entry.name.endswith("-cache"):
            found = entry.stat()
            entries.append((max(found.st_atime, found.st_mtime), found.st_size, entry.path))
    excess = sum(size for _, size, _ in entries) - MAX_BYTES
    for _, size, path in sorted(entries):
        if excess <= 0:
            return
        with contextlib.suppress(FileNotFoundError):  # Another process trims, too.
            os.remove(path)
        excess -= size
