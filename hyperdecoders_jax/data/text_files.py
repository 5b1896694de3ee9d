"""Lines of the text files that people have, as a stream: UTF-8, plain or gzipped, local or gs://.

One reader with one set of messages, for every command that takes such a file. No file is held in
memory, whatever it expands to, and TensorFlow is not imported for local ones.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterator
from typing import BinaryIO

# A longer line is no example: T5 reads some thousand tokens.
MAX_LINE_BYTES = 1 << 24
_PATTERN = re.compile(r"[*?]|\[.+\]|\{.+,.+\}")
_GZIP = b"\x1f\x8b"
# What else begins so, and how to make text of it.
_SIGNATURES = {
    codecs.BOM_UTF32_LE: "UTF-32: convert it with `iconv -f UTF-32 -t UTF-8`",
    codecs.BOM_UTF16_LE: "UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`",
    codecs.BOM_UTF16_BE: "UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`",
    _GZIP: "gzip: unpack it with `gunzip -c`",
    b"BZh": "bzip2: unpack it with `bunzip2 -c`",
    b"\xfd7zXZ": "xz: unpack it with `xz -dc`",
    b"\x28\xb5\x2f\xfd": "zstd: unpack it with `zstd -dc`",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save it as CSV",
    b"PAR1": "Parquet: convert it to JSON lines",
}


def read_lines(path: str, max_line_bytes: int | None = None) -> Iterator[tuple[int, str]]:
    r"""The numbered lines of a file, each with its end, which is `\n` or `\r\n`.

    Byte order marks are left out. A file is unpacked if it is gzip, whatever its name.

    Raises:
        ValueError: it is not there, is no regular file, is damaged, is not UTF-8, or has a line of
            more than `max_line_bytes`, by default `MAX_LINE_BYTES`.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_open_remote(path) if "://" in path else _open_local(path))
        head = file.read(8)
        file.seek(0)
        if head.startswith(_GZIP):
            file, head = stack.enter_context(gzip.GzipFile(fileobj=file)), b""
        elif path.lower().endswith(".gz"):
            raise _not_gzip(path, f"it begins with {head!r}")
        for number, line in enumerate(_raw_lines(file, path, max_line_bytes), start=1):
            head = head or line[:8]
            yield number, decode(line, number, path, head)


def decode(line: bytes, number: int, name: str, head: bytes = b"") -> str:
    """The text of a line without a byte order mark; `head` begins its file.

    Raises:
        ValueError: it is not UTF-8, or binary.
    """
    try:
        # Each part of a file that was joined of several may begin with a mark.
        text = line.decode().removeprefix("\ufeff")
        found = "a NUL, as UTF-16 and binary files do" if "\0" in text else ""
    except UnicodeDecodeError as error:
        found = f"the byte 0x{line[error.start]:02x} ({error.reason})"
    if found:
        hint = next((x for start, x in _SIGNATURES.items() if head.startswith(start)), None)
        hint = f"It looks like {hint}." if hint else "Save it as UTF-8."
        raise ValueError(
            f"A text file must be UTF-8; line {number} of {name} holds {found}. {hint}"
        )
    return text


def check_length(line: bytes, number: int, name: str, max_bytes: int | None = None) -> None:
    """Raises ValueError for a line that is too long to be an example."""
    max_bytes = max_bytes or MAX_LINE_BYTES
    if len(line) > max_bytes:
        raise ValueError(
            f"A line must have at most {max_bytes:,} bytes; line {number} of {name} has more. "
            "Write one example a line, or cut its text, of which a model reads some thousand words."
        )


def is_pattern(path: str) -> bool:
    """Whether a path has signs by which a shell names several files, and is no file itself.

    >>> is_pattern("mail-*.csv"), is_pattern("{a,b}.csv"), is_pattern("mail.csv")
    (True, True, False)
    """
    if "://" in path:
        return "*" in path
    return _PATTERN.search(path) is not None and not os.path.exists(os.path.expanduser(path))


def check_is_named(path: str) -> None:
    """Raises ValueError for a folder, a pattern or no name, where a file must be named."""
    if not path.strip():
        raise ValueError(f"A file must be named; got {path!r}. Write its path.")
    if is_pattern(path):
        raise ValueError(
            f"A file must be named by itself; {path} is a pattern. Patterns are not expanded here: "
            "name each file that it stands for."
        )
    if os.path.isdir(os.path.expanduser(path)):
        raise ValueError(f"A file must be named; {path} is a folder. Name a file that is in it.")


def signature(path: str) -> tuple[int, float] | None:
    """Size and time of a file, which differ once it was written again; None if it is not there."""
    try:
        if "://" in path:
            from etils import epath

            found = epath.Path(path).stat()
            return found.length, found.mtime
        found = os.stat(os.path.expanduser(path))
        return found.st_size, found.st_mtime_ns
    except Exception:  # Remote file systems raise errors of their own; reading tells what is wrong.
        return None


def _raw_lines(file: BinaryIO, path: str, max_bytes: int | None) -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        try:
            line = file.readline((max_bytes or MAX_LINE_BYTES) + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _not_gzip(path, error) from error
        except OSError as error:
            raise ValueError(
                f"A file must be readable to its end; line {number} of {path} gave: "
                f"{error.strerror or error}. Copy it anew, or check its disk."
            ) from error
        if not line:
            return
        check_length(line, number, path, max_bytes)
        yield line


def _not_gzip(path: str, error: object) -> ValueError:
    return ValueError(
        f"A file that ends in .gz must be gzip, and complete; {path} is not ({error}). Compress it "
        "again, or rename it."
    )


def _open_remote(path: str) -> BinaryIO:
    from etils import epath

    try:
        found = epath.Path(path)
        if found.is_file():
            return found.open("rb")
    # Remote file systems raise errors of their own.
    except Exception as error:
        scheme = path.partition("://")[0]
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        if isinstance(error, KeyError) or "not implemented" in reason:
            reason = f"{scheme}:// is no file system that is known here"
        raise ValueError(
            f"A file must be where this machine can read; {path} gave: {reason}. Correct the path, "
            "or copy the file here."
        ) from error
    raise ValueError(f"A file must exist; there is no file {path}. Correct the path.")


def _open_local(path: str) -> BinaryIO:
    check_is_named(path)
    local = os.path.expanduser(path)
    try:
        mode = os.stat(local).st_mode
        # Opening a named pipe would wait for its writer; a device such as /dev/zero never ends.
        if stat.S_ISREG(mode):
            return open(local, "rb")
    except FileNotFoundError as error:
        seen = "" if os.path.isabs(local) else f" (seen from {_here()})"
        raise ValueError(
            f"A file must exist; there is no file {path}{seen}. Correct the path."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path.
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"A file must be one that can be read; {path} gave: {reason}. Correct the path, or its "
            "rights."
        ) from error
    raise ValueError(
        f"A file must be a regular one, which can be read twice; {path} is a "
        f"{'pipe' if stat.S_ISFIFO(mode) else 'device or socket'}. Write its content to a file and "
        "name that (`infer` reads a pipe as standard input: --input=-)."
    )


def _here() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "a folder that is gone"
