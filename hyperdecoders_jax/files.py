"""Paths as users write them, atomic writes, and JSON files."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etils import epath

# Of this package; the files that it writes name it. Not read from the metadata of an installation:
# a clone that is not installed writes files, too.
VERSION = "0.1.0"
# Begins the path of a file that ships with the package, wherever that is installed.
PACKAGE_SCHEME = "package://"
# Suffix of a file while `write_text` writes it.
UNFINISHED = ".unfinished"
# Far more than any configuration or index takes.
MOST_JSON_BYTES = 2**28
# What to do where the system refuses to write.
_ADVICE = {
    errno.ENOSPC: "Make room on its disk",
    errno.EDQUOT: "Make room within your quota",
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f)",
    errno.ENOENT: "Its folder is gone: put it back, or name another path",
    errno.EEXIST: "A file stands where a folder must be: name another path",
    errno.ENOTDIR: "A file stands where a folder must be: name another path",
    errno.EISDIR: "A folder stands where the file must be: move it away",
    errno.EACCES: "Change its rights, or name another path",
    errno.EPERM: "Change its rights, or name another path",
    errno.EROFS: "Its disk is read-only: name another path",
    errno.ENAMETOOLONG: "Name a shorter path",
}
# The longest path that the system takes, less what a run's files need inside a folder.
_MOST_PATH_BYTES = 4096 - 400


class NotWrittenError(OSError):
    """A file that could not be written; the message says why, and what to do."""


def write_text(path: epath.Path, text: str) -> None:
    """Atomic text write: a killed process leaves the old file or the new one, never a part.

    OSError, as `writing` words it, where that fails.
    """
    write_bytes(path, text.encode())


def write_bytes(path: epath.Path, content: bytes) -> None:
    """Atomic write; see `write_text`."""
    with replacing(path) as write:
        write(content)


@contextlib.contextmanager
def replacing(path: epath.Path) -> Iterator[Callable[[bytes], None]]:
    """Atomic write in parts, by the function that is given.

    The file appears, or replaces the old one, once the block ends without an error. OSError, as
    `writing` words it, where writing fails; errors of the block stay as they are.
    """
    unfinished = path.parent / f".{path.name}{UNFINISHED}"
    try:
        with contextlib.ExitStack() as stack:
            with writing(path):
                file = stack.enter_context(unfinished.open("wb"))

            def write(content: bytes) -> None:
                with writing(path):
                    file.write(content)

            yield write
            with writing(path):
                file.close()
        with writing(path):
            unfinished.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # A full disk needs every byte.
            unfinished.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Within it, a write to `path` that fails is an OSError that says so, and what to do.

    A disk is full, a folder was removed or became read-only; libraries and remote file systems
    raise errors of their own.
    """
    try:
        yield
    except NotWrittenError:  # Of a file within it.
        raise
    except Exception as error:
        raise NotWrittenError(f"{shown(path)} must be written; {why_not_written(error)}") from error


def why_not_written(error: Exception) -> str:
    """Why a write failed, and what to do, as the end of a message.

    >>> why_not_written(OSError(errno.ENOSPC, "No space left on device", "/run/a"))
    'writing gave: No space left on device. Make room on its disk.'
    """
    number, text = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
    # Libraries put the system's words into errors of their own, with more lines behind.
    for known in _ADVICE if number is None else ():
        if os.strerror(known).lower() in text.lower():
            number, text = known, os.strerror(known)
    text = text.strip().split("\n")[0][:300].rstrip(".") or type(error).__name__
    if number in (errno.EISDIR, errno.ENOTDIR):  # What stands there, perhaps another file.
        text = f"{text}: {shown(error.filename or '')}"
    advice = _ADVICE.get(number, "Make room there, mend its rights, or name another path")
    return f"writing gave: {text}. {advice}."


def describe(error: OSError) -> str:
    """What the system says of a file, as a message.

    >>> describe(FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt"))
    "A file must be read or written; 'a.txt' gave: No such file or directory. Correct its path."
    """
    what = "the output" if error.filename is None else repr(shown(error.filename))
    advice = "Correct its path" if error.errno == errno.ENOENT else _ADVICE.get(error.errno)
    end = f" {advice}." if advice else " Check the path, its rights and its disk."
    return f"A file must be read or written; {what} gave: {error.strerror}.{end}"


def shown(path: str | os.PathLike) -> str:
    """A path for a message, the end of a very long one cut off."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:300]}…"


def check_writable(
    directory: str, name: str = "model directory", flag: str = "--model_dir"
) -> None:
    """Checks that files can be written in `directory`, which need not exist yet; leaves no trace.

    Only process 0 looks, so that processes do not remove each other's traces. ValueError if not.
    """
    import jax
    from etils import epath

    if jax.process_index() != 0:
        return
    made = []
    try:
        if "://" not in str(directory) and len(os.fsencode(directory)) > _MOST_PATH_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        made = make_folder(epath.Path(directory))
        probe = epath.Path(directory) / ".write_probe"
        probe.write_text("")
        probe.unlink()
    # Remote file systems raise errors of their own.
    except Exception as error:
        raise ValueError(
            f"The {name} must be writable; got {shown(directory)!r}, where "
            f"{why_not_written(error)} {flag} names it."
        ) from error
    finally:
        remove_empty(made)


def make_folder(path: epath.Path) -> list[epath.Path]:
    """Makes a folder and its parents; returns those made, for `remove_empty`; none of a bucket."""
    is_local = "://" not in os.fspath(path)
    missing = [p for p in (path, *path.parents) if is_local and not p.exists()]  # Deepest first.
    try:
        path.mkdir(parents=True, exist_ok=True)
    except BaseException:
        remove_empty(missing)
        raise
    return missing


def remove_empty(folders: Iterable[epath.Path]) -> None:
    """Removes those of `folders` that are there and empty."""
    for folder in folders:
        with contextlib.suppress(OSError, ValueError):  # The latter is etils' of a full one.
            folder.rmdir()


@contextlib.contextmanager
def filling(folder: epath.Path) -> Iterator[epath.Path]:
    """A folder whose files replace those of `folder` once all are written; else none is left."""
    with writing(folder):
        made = make_folder(folder)
    unfinished = folder / UNFINISHED
    try:
        with writing(folder):
            if unfinished.exists():  # Of a process that was killed.
                unfinished.rmtree()
            unfinished.mkdir()
        yield unfinished
        with writing(folder):
            for new in sorted(unfinished.iterdir()):
                if (folder / new.name).is_dir():
                    (folder / new.name).rmtree()
                new.replace(folder / new.name)
    finally:
        with contextlib.suppress(OSError):
            unfinished.rmtree()
        remove_empty(made)


def at_home(path: str | None) -> str | None:
    """Replaces a leading `~`, which shells leave alone after `--flag=`."""
    return path if path is None else os.path.expanduser(path)


def absolute(path: str) -> str:
    """An absolute local path; URLs stay as they are."""
    return path if "://" in path else os.path.abspath(at_home(path))


def absolute_source(path: str) -> str:
    """A local path that is there as an absolute one; hub ids, URLs and missing paths stay."""
    local = at_home(str(path))
    return os.path.abspath(local) if os.path.exists(local) else path


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


def is_regular(path: os.PathLike) -> bool:
    """Whether there is a regular file: epath's `is_file` holds for pipes and devices, too."""
    return path.is_file() if "://" in os.fspath(path) else os.path.isfile(path)


def check_regular(path: epath.PathLike, advice: str = "Copy or download it again.") -> None:
    """Raises ValueError if there is something at `path` that is no regular file, local or remote.

    Opening a named pipe waits for a writer, and a device may never end.
    """
    from etils import epath

    path = epath.Path(path)
    if path.exists() and not is_regular(path):
        kind = "a folder" if path.is_dir() else "a pipe, socket or device"
        raise ValueError(f"A file must be a regular one; {path} is {kind}. {advice}")


def read_json(file: epath.PathLike, advice: str = "Copy or download it again.") -> dict[str, Any]:
    """The fields of a file that is one JSON object; ValueError if it is none, or repeats a field.

    `advice` ends the message. FileNotFoundError if there is no such file.
    """
    from etils import epath

    file = epath.Path(file)
    check_regular(file, advice)
    size = file.stat().length
    if size > MOST_JSON_BYTES:
        raise ValueError(
            f"A JSON file of fields must have at most {MOST_JSON_BYTES:,} bytes; {file} has "
            f"{size:,}. {advice}"
        )
    try:
        fields = json.loads(file.read_text(), object_pairs_hook=_unique)
    # Python's parser calls itself for each level.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} must be JSON: {error}. {advice}") from error
    if not isinstance(fields, dict):
        raise ValueError(
            f"{file} must be a JSON object of fields; got {type(fields).__name__}. {advice}"
        )
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = {}
    for name, value in pairs:
        if name in fields:
            raise ValueError(f"it holds the field {name!r} twice")
        fields[name] = value
    return fields
