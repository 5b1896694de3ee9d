"""What `infer --input` reads: lines of text, JSON lines or a table, of a file or standard input.

The lines of a file are all checked before a model is loaded, so that a wrong one costs nothing and
nothing is predicted. Those of standard input are predicted up to a wrong one.
"""

from __future__ import annotations

import itertools
import os
import select
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from hyperdecoders_jax import errors
from hyperdecoders_jax.data import row_files, text_files

STANDARD_INPUT = "-"
# Lines of standard input that follow each other faster than this are predicted together.
MOMENT_SECS = 0.05
_TEXT_COLUMN = "inputs"
# What a prediction adds to its record.
PREDICTION, LOG_LIKELIHOOD = "prediction", "log_likelihood"

# What a line asks for, and where it is, for messages.
Record = dict[str, Any]
Check = Callable[[Record, str], None]


class Input(Protocol):
    """Records to predict for."""

    def groups(self, size: int, check: Check | None = None) -> Iterator[Sequence[Record]]:
        """At most `size` records at a time.

        `check` raises ValueError for one that a model refuses. Then nothing of a file is given, and
        of standard input what came before.
        """


def open_input(
    path: str, quoting: str | None = None, keep: Sequence[str] = (), process_count: int = 1
) -> Input:
    """Opens a file, whose lines are all checked here, or standard input.

    Args:
        path: a file, or "-". `.csv` and `.tsv` are tables, whose column `inputs` is read; each line
            of others is a text, or a JSON object with `inputs`. Blank lines are left out.
        quoting: how quotes of a table are meant; None: see `row_files.quoting_of`.
        keep: columns that every record must have.
        process_count: how many processes read it.

    Raises:
        ValueError: the file cannot be read, a line is wrong, there is none, or several processes
            would share standard input.
    """
    if path != STANDARD_INPUT:
        return _File(path, quoting or "auto", keep)
    if sys.stdin is None or sys.stdin.closed:
        raise ValueError(
            f"--input={STANDARD_INPUT} must have a standard input; it is closed. Name a file, or "
            "leave out what closes it (<&-)."
        )
    if process_count > 1:
        raise ValueError(
            f"Every process of a run must read the same lines; got --input={STANDARD_INPUT} in "
            f"{process_count} processes. Name a file that all of them can read."
        )
    return _StandardInput(keep)


class _File:
    def __init__(self, path: str, quoting: str, keep: Sequence[str]):
        self._path, self._quoting, self._keep = path, quoting, keep
        self._is_of_json = path.lower().removesuffix(".gz").endswith(row_files.JSON_ENDINGS)
        is_empty, has_returns = True, False
        for record, _ in self._records():
            is_empty = False
            has_returns |= "\r" in record[_TEXT_COLUMN]
        if is_empty:
            raise ValueError(f"--input must hold a line; {path} holds none. Write one text a line.")
        if has_returns:
            warn_of_returns(path)

    def groups(self, size: int, check: Check | None = None) -> Iterator[Sequence[Record]]:
        """See `Input`; the file is read again."""
        for record, where in self._records() if check else ():
            check(record, where)
        records = (record for record, _ in self._records())
        while group := list(itertools.islice(records, size)):
            yield group

    def _records(self) -> Iterator[tuple[Record, str]]:
        if row_files.is_table(self._path):
            for number, row in row_files.read(self._path, self._quoting):
                where = f"line {number} of {self._path}"
                yield checked(row, where, self._keep), where
            return
        for number, line in text_files.read_lines(self._path):
            where = f"line {number} of {self._path}"
            if line.strip():
                yield parse(line, where, self._keep, self._is_of_json), where


class _StandardInput:
    def __init__(self, keep: Sequence[str]):
        self._keep = keep

    def groups(self, size: int, check: Check | None = None) -> Iterator[Sequence[Record]]:
        """See `Input`; a group is given as soon as no more lines are ready."""
        number, head, has_returns = 0, b"", False
        for lines in ready_lines(sys.stdin.fileno(), size):
            group, error = [], None
            for line in lines:
                number += 1
                head = head or line[:8]
                try:
                    record = self._record(line, number, head, check)
                except ValueError as raised:
                    error = raised
                    break
                if record is not None:
                    group.append(record)
            if not has_returns and any("\r" in record[_TEXT_COLUMN] for record in group):
                has_returns = True
                warn_of_returns("standard input")
            if group:
                yield group
            if error is not None:
                raise ValueError(f"{error} All lines before it are predicted.") from error

    def _record(self, line: bytes, number: int, head: bytes, check: Check | None) -> Record | None:
        name = "standard input"
        text_files.check_length(line, number, name)
        text = text_files.decode(line, number, name, head)
        if not text.strip():
            return None
        where = f"line {number} of {name}"
        record = parse(text, where, self._keep)
        if check:
            check(record, where)
        return record


def ready_lines(file_descriptor: int, size: int) -> Iterator[list[bytes]]:
    """At most `size` lines at a time: those that are there when no more come for a moment."""
    lines, rest = [], b""
    while True:
        if lines and not select.select([file_descriptor], [], [], MOMENT_SECS)[0]:
            yield lines
            lines = []
        # Waits, if no line has come yet, as long as it takes.
        content = os.read(file_descriptor, 1 << 16)
        *whole, rest = (rest + content).split(b"\n")
        if rest and (not content or len(rest) > text_files.MAX_LINE_BYTES):
            whole.append(rest)  # The last line may end without a newline; a long one is refused.
            rest = b""
        lines += whole
        while len(lines) >= size:
            yield lines[:size]
            lines = lines[size:]
        if not content:
            break
    if lines:
        yield lines


def parse(line: str, where: str, keep: Sequence[str] = (), is_of_json: bool = False) -> Record:
    r"""What a line asks for; in a file `is_of_json`, "[" begins JSON, too.

    >>> parse("a text\n", ""), parse('{"inputs": "b", "id": 3}', "")
    ({'inputs': 'a text'}, {'inputs': 'b', 'id': '3'})

    Raises:
        ValueError: it is JSON, and no object with `inputs`.
    """
    if line.lstrip().startswith(("{", "[") if is_of_json else "{"):
        return checked(row_files.json_object(line, where), where, keep)
    return checked({_TEXT_COLUMN: line.removesuffix("\n").removesuffix("\r")}, where, keep)


def checked(row: Mapping[str, Any], where: str, keep: Sequence[str]) -> Record:
    """The row.

    ValueError unless it has a text in `inputs` and all columns to keep, and no prediction.
    """
    if not isinstance(row.get(_TEXT_COLUMN), str):
        raise ValueError(
            f'A line of JSON or a row must have "{_TEXT_COLUMN}", a text; {where} is '
            f'{row_files.to_json(row)[:80]!r}. Write {{"{_TEXT_COLUMN}": "…"}}, or name rows of '
            "other columns by --test_file=FILE, which a template makes texts of."
        )
    if taken := [name for name in (PREDICTION, LOG_LIKELIHOOD) if name in row]:
        raise ValueError(
            f"A line or row must not have what a prediction adds to it; {where} has "
            f"{' and '.join(map(repr, taken))}. Rename that in the file."
        )
    columns(row, where, keep)  # Raises where one is missing.
    return dict(row)


def columns(row: Mapping[str, Any], where: str, keep: Sequence[str]) -> Record:
    """What of a row comes back with its prediction: `id`, if there is one, and all of `keep`.

    >>> columns({"id": "7", "text": "a", "day": "3"}, "line 2 of x.csv", ["day"])
    {'id': '7', 'day': '3'}

    Raises:
        ValueError: the row lacks a column of `keep`.
    """
    for column in keep:
        if column not in row:
            raise ValueError(
                f"Each row must have the columns of --keep; {where} has no {column!r}, but "
                f"{', '.join(map(repr, itertools.islice(row, 20)))}."
                f"{errors.suggestion(column, row)} Correct --keep, or the row."
            )
    return {name: row[name] for name in dict.fromkeys(("id", *keep)) if name in row}


def warn_of_returns(name: str) -> None:
    """Tells that a carriage return alone ends no line, for files of old Macs."""
    print(
        f"{name} has carriage returns inside its lines: they belong to the texts, since only \\n "
        "and \\r\\n end a line.",
        file=sys.stderr,
    )
