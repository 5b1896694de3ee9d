r"""Rows of JSON-lines, CSV and TSV files as a stream, each with the number of its line.

A file is read by its ending, each plain or with `.gz`, in UTF-8, here or on `gs://`:

    .jsonl, .json   a JSON object a line; blank lines are skipped
    .csv            a first line that names the columns; a field that holds the delimiter, quotes or
                    line ends stands in double quotes, and quotes in it are doubled
    .tsv            likewise, but with no quoting: one row a line, and a quote is text (IANA's
                    text/tab-separated-values, as GLUE has it). Some programs quote as in CSV all
                    the same, so the whole file decides; see `quoting_of`.

Numbers of JSON stay as the file writes them, so 3.80 is the text "3.80".
"""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from absl import logging

from hyperdecoders_jax import errors
from hyperdecoders_jax.data import text_files

Row = dict[str, object]
NumberedRow = tuple[int, Row]

JSON_ENDINGS = (".jsonl", ".json")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*JSON_ENDINGS, *DELIMITERS)
# How quotes of a table are read: as in CSV, as text, or as the file's ending and content say.
QUOTINGS = ("auto", "csv", "none")
_ENDS = "\r\n"  # Of lines.
_QUOTED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)


class Number(str):
    """A number of JSON as its file writes it."""


def ending(path: str) -> str:
    """The ending of a path, which says how the file is read.

    >>> ending("mail.v2.CSV.gz")
    '.csv'

    Raises:
        ValueError: none of the known ones, or the path is that of a folder.
    """
    found = os.path.splitext(path.lower().removesuffix(".gz"))[1]
    if found not in ENDINGS:
        text_files.check_is_named(path)
        raise ValueError(
            f"A file of examples must end in {', '.join(ENDINGS)}, with or without .gz; got "
            f"{path!r}. Rename it, or convert it to one of these."
        )
    return found


def read(path: str, quoting: str = "auto") -> Iterator[NumberedRow]:
    """The line numbers and rows of a file; a value of a CSV or TSV file is always a text.

    Args:
        path: local, or a URL such as gs://….
        quoting: of a table; one of `QUOTINGS`.

    Raises:
        ValueError: the file is not there, is no UTF-8 text of its kind, or has no rows.
    """
    kind = ending(path)
    rows = _json_rows(path) if kind in JSON_ENDINGS else _table_rows(path, kind, quoting)
    is_empty = True
    for row in rows:
        is_empty = False
        yield row
    if is_empty:
        raise ValueError(
            f"A file of examples must hold a row; {path} holds none. Write some, or leave the file "
            "out."
        )


# ---------------------------------------------------------------- JSON lines


def json_object(line: str, where: str) -> Row:
    """The JSON object of a line; numbers are texts of the class `Number`.

    >>> json_object('{"a": 3.80, "b": [true, "3"]}', "line 1 of x.jsonl")
    {'a': '3.80', 'b': [True, '3']}

    Raises:
        ValueError: it is none, names a key twice, or holds half a character or NaN.
    """
    hint = 'Write {"inputs": "…", "targets": "…"}, all on one line.'
    try:
        row = _DECODER.decode(line.strip())
        problem = "" if isinstance(row, dict) else f"a JSON {type(row).__name__}"
        if "\\" in line and "\\ud" in line.lower():
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        problem = "an escape such as \\ud83d is half a character, without its other half"
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:
        problem = str(error)
        if "\r" in line.strip():
            problem += r"; a carriage return alone ends no line, \n and \r\n do"
    if problem:
        if "control character" in problem:
            hint = r"Write tabs and line ends inside a text as \t and \n."
        elif line.rstrip() == "{":
            hint = "Write an object on one line: `jq -c . x.json > x.jsonl`."
        elif line.lstrip().startswith("["):
            hint = "Write an array's objects on a line each: `jq -c '.[]' x.json > x.jsonl`."
        raise ValueError(
            f"Each line must be one JSON object; {where} is {line.rstrip(_ENDS)[:80]!r} "
            f"({problem}). {hint}"
        )
    return row


def to_json(value: object) -> str:
    """JSON of a row or value, with every number as its file wrote it.

    >>> to_json({"a": Number("3.80"), "b": ["ä", None]})
    '{"a": 3.80, "b": ["ä", null]}'
    """
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, Mapping):
        pairs = (f"{to_json(name)}: {to_json(item)}" for name, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_json, value))}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _json_rows(path: str) -> Iterator[NumberedRow]:
    for number, line in text_files.read_lines(path):
        if line.strip():
            yield number, json_object(line, f"line {number} of {path}")


def unique_keys(pairs: Sequence[tuple[str, object]]) -> Row:
    """A hook of `json` for objects; ValueError if a key is there twice, of which one would be lost.

    >>> json.loads('{"a": 1}', object_pairs_hook=unique_keys)
    {'a': 1}
    """
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {twice!r} twice")
    return row


def _no_json(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON; write null, or leave it out")


_DECODER = json.JSONDecoder(
    object_pairs_hook=unique_keys, parse_int=Number, parse_float=Number, parse_constant=_no_json
)


# ---------------------------------------------------------------- CSV and TSV


def quoting_of(path: str, quoting: str = "auto") -> str:
    """How the quotes of a table are read: "csv", or "none", where a quote is text.

    A `.csv` is quoted. A `.tsv` is not if each line has a field for each column: then no row may
    take in the lines after it, whatever quotes it begins with. Two exceptions look as only a
    writer of CSV makes them: all names of columns are quoted, or fields are quoted where, and only
    where, they hold quotes, doubled. A `.tsv` whose lines do not fit is quoted if its rows fit so.
    What was decided is logged where it matters.

    Raises:
        ValueError: the rows of a `.tsv` fit in neither way.
    """
    if quoting != "auto":
        return quoting
    if ending(path) == ".csv":
        return "csv"
    return _decide(path, text_files.signature(path))


@functools.lru_cache(maxsize=1024)  # A run reads a file several times, and is told once.
def _decide(path: str, signature: object) -> str:
    del signature  # A file that was written again is looked at again.
    quotes, problem, width = _Quotes(), None, None
    for number, fields in _plain_records(path, "\t"):
        width = width or len(fields)
        quotes.add(fields)
        if problem is None and len(fields) != width:
            problem = f"line {number} has {len(fields)} fields for {width} columns"
    if not quotes.num_opened:
        return "none"
    found = f"Fields that begin with a quote: {quotes.num_opened:,} in {path}. Quotes are read as"
    if problem is None and not quotes.are_of_a_writer:
        logging.warning("%s text, and lines as rows; --quoting=csv says otherwise.", found)
        return "none"
    if problem is not None:
        try:
            for _ in _checked(_quoted_records(path, "\t", is_strict=True), path):
                pass
        except ValueError as error:
            raise ValueError(
                f"Each row of a TSV must have a field for each column; with quotes as text "
                f"{problem} of {path}, and with quotes as in CSV it is wrong, too: {error} Or say "
                "how its quotes are meant with --quoting=none or --quoting=csv."
            ) from None
    logging.warning("%s in CSV; --quoting=none says otherwise.", found)
    return "csv"


class _Quotes:
    """Counts the quotes of a table's lines, to tell what wrote them."""

    def __init__(self):
        self.num_opened = 0  # Fields that begin with a quote.
        self._are_names_quoted: bool | None = None
        self._are_all_proper = True  # Each is closed, with doubled quotes inside; none is outside.
        self._are_all_needed = True  # Each holds a quote.

    def add(self, fields: Sequence[str]) -> None:
        """Adds the fields of a line, the first of which names the columns."""
        proper = [_QUOTED.fullmatch(field) is not None for field in fields]
        if self._are_names_quoted is None:
            self._are_names_quoted = all(proper)
        for field, is_proper in zip(fields, proper, strict=True):
            self.num_opened += field.startswith('"')
            if '"' in field:
                self._are_all_proper &= is_proper
                self._are_all_needed &= '"' in field[1:-1]

    @property
    def are_of_a_writer(self) -> bool:
        """Whether only a writer of CSV makes such quotes."""
        return self._are_all_proper and (self._are_all_needed or self._are_names_quoted)


def _table_rows(path: str, kind: str, quoting: str) -> Iterator[NumberedRow]:
    delimiter = DELIMITERS[kind]
    if quoting_of(path, quoting) == "none":
        records = _plain_records(path, delimiter)
    else:
        records = _quoted_records(path, delimiter)
    columns = None
    for number, fields in _checked(records, path):
        if columns is None:
            columns = _Columns(fields, path)
        else:
            yield number, columns.row(fields, number)


class _Columns:
    """The names of a table's columns.

    A column without a name can stand in no template. The first may be an index, as pandas writes
    it; all others, as spreadsheets leave them at the end, must be empty: a value there has slipped.
    """

    def __init__(self, names: Sequence[str], path: str):
        self._names, self._path = names, path
        named = [name for name in names if name.strip()]
        if len(set(named)) < len(named) or not named:
            raise ValueError(
                f"The first line must name each column once; that of {path} is {list(names)}. "
                "Rename the columns that have one name."
            )
        self._unnamed = [i for i, name in enumerate(names) if not name.strip()]

    def row(self, fields: Sequence[str], number: int) -> Row:
        """The row of a line's fields; ValueError for a value in a column without a name."""
        for i in self._unnamed:
            if i and fields[i].strip():
                raise ValueError(
                    f"A column must have a name to hold values; column {i + 1} of {self._path} has "
                    f"none and holds {fields[i][:80]!r} in line {number}. Name it in the first "
                    "line, or quote the field before it that holds the delimiter."
                )
        pairs = zip(self._names, fields, strict=True)
        return {name: field for name, field in pairs if name.strip()}


def _checked(
    records: Iterable[tuple[int, list[str]]], path: str
) -> Iterator[tuple[int, list[str]]]:
    columns = None
    for number, fields in records:
        columns = columns or fields
        if len(fields) != len(columns):
            raise ValueError(
                f"Each row must have a field for each of the {len(columns)} columns {columns}; "
                f"the row in line {number} of {path} has {len(fields)}: {str(fields)[:80]}. Quote "
                "fields that hold the delimiter, or correct the row."
            )
        yield number, fields


def _plain_records(path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(_table_lines(path), start=1):
        line = line.rstrip(_ENDS)
        if line:
            yield number, line.split(delimiter)


def _quoted_records(
    path: str, delimiter: str, is_strict: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The fields of rows with CSV's quotes, and the number of each row's first line.

    Lines that would be rows of their own, yet stand inside quotes, may belong to a quote that was
    never closed: if `is_strict` that is an error, else a warning.
    """
    # The module's limit of 131,072 characters is less than a document has.
    csv.field_size_limit(text_files.MAX_LINE_BYTES)
    width, num_like_rows = None, 0  # Of the lines of the row that is being read.

    def lines() -> Iterator[str]:
        nonlocal num_like_rows
        for line in _table_lines(path):
            num_like_rows += width is not None and line.count(delimiter) == width - 1
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    first, swallowed, spaced = 1, None, None
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"A field with quotes or line ends must stand in double quotes, and quotes in it "
                f"must be doubled; the row that begins in line {first} of {path} is broken "
                f"({error}). Correct it, or say --quoting=none if its quotes are text."
            ) from error
        if fields is None:
            break
        number, first = first, reader.line_num + 1
        if fields:  # Not a blank line.
            width = width or len(fields)
            if num_like_rows > 1 and width > 1 and swallowed is None:
                swallowed = _swallowed(path, number, reader.line_num)
                if is_strict:
                    raise swallowed
            if spaced is None and any(x.startswith(' "') for x in fields):
                spaced = number
            yield number, fields
        num_like_rows = 0
    if swallowed is not None:
        errors.warn_once(f"{swallowed}")
    if spaced is not None:
        errors.warn_once(
            f"A field in quotes should begin with its quote; in line {spaced} of {path} a space "
            "comes first, so that the quotes are part of the text. Remove the space."
        )


def _swallowed(path: str, first: int, last: int) -> ValueError:
    return ValueError(
        f"A row should not hold lines that would be rows of their own; lines {first} to {last} of "
        f"{path} stand inside one pair of quotes. Close the quote in line {first}, or say "
        "--quoting=none if quotes are text."
    )


def _table_lines(path: str) -> Iterator[str]:
    r"""Lines with their ends; `\r` alone ends one, too, as in tables of old Macs."""
    for _, line in text_files.read_lines(path):
        if "\r" in line.rstrip(_ENDS):
            yield from io.StringIO(line, newline="")
        else:
            yield line


# ---------------------------------------------------------------- how people name files

_NAMED = re.compile(r"([^/\\:=]+)=(.*)", re.DOTALL)
_WITH_QUOTING = re.compile(r"(.*)\?quoting=(\w+)", re.DOTALL)


def split_name(file: str) -> tuple[str | None, str]:
    """The task's name and the path of NAME=FILE; None for a path alone.

    A file that has "=" in its own name is taken for that if there is no file after the "=".

    >>> split_name("mail=x.jsonl"), split_name("gs://bucket/k=v/x.jsonl")
    (('mail', 'x.jsonl'), (None, 'gs://bucket/k=v/x.jsonl'))

    Raises:
        ValueError: both readings are files.
    """
    match = _NAMED.fullmatch(file)
    if match is None:
        return None, file
    is_file, is_named = (os.path.exists(split_quoting(x)[0]) for x in (file, match[2]))
    if is_file and is_named:
        raise ValueError(
            f"A file must be clear; {file!r} is a file, and so is {match[2]!r} after the name "
            f"{match[1]!r}. Write ./{file} for the former, or rename one of them."
        )
    return (None, file) if is_file else match.groups()


def split_quoting(file: str) -> tuple[str, str]:
    """The path, and how its quotes are read.

    >>> split_quoting("x.tsv?quoting=none"), split_quoting("x.tsv")
    (('x.tsv', 'none'), ('x.tsv', 'auto'))

    Raises:
        ValueError: it is none of `QUOTINGS`.
    """
    match = _WITH_QUOTING.fullmatch(file)
    path, quoting = match.groups() if match else (file, "auto")
    if quoting not in QUOTINGS:
        raise ValueError(
            f"How quotes are read must be one of {', '.join(QUOTINGS)}; got {file!r}. Correct what "
            "is after ?quoting=."
        )
    return path, quoting


def with_quoting(path: str, quoting: str) -> str:
    """A path that says how the quotes of a table are read; see `split_quoting`.

    >>> with_quoting("x.tsv", "none"), with_quoting("x.jsonl", "none")
    ('x.tsv?quoting=none', 'x.jsonl')
    """
    return f"{path}?quoting={quoting}" if is_table(path) and quoting != "auto" else path


def is_table(path: str) -> bool:
    """Whether a path is that of a table.

    >>> is_table("x.TSV.gz"), is_table("x.jsonl")
    (True, False)
    """
    return os.path.splitext(path.lower().removesuffix(".gz"))[1] in DELIMITERS
