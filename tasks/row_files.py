"""Rows of JSON-lines, CSV and TSV files, each with the number of its line.

A file is read by its ending, each plain or with `.gz`, in UTF-8, here or on `gs://`:

    .jsonl, .json   a JSON object a line; blank lines are skipped
    .csv, .tsv      a first line that names the columns; a field that holds the delimiter, quotes or
                    line ends stands in double quotes, and quotes in it are doubled

Numbers stay as the file writes them, so 3.80 is the text "3.80".
"""

import codecs
import csv
import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Iterator

import tensorflow as tf

Row = dict[str, object]

JSON_ENDINGS = (".jsonl", ".json")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*JSON_ENDINGS, *DELIMITERS)


def ending(path: str) -> str:
    """The ending of a path, which says how the file is read.

    >>> ending("mail.v2.CSV.gz")
    '.csv'

    Raises:
        ValueError: none of the known ones.
    """
    found = os.path.splitext(path.lower().removesuffix(".gz"))[1]
    if found not in ENDINGS:
        raise ValueError(
            f"A file of examples must end in {', '.join(ENDINGS)}, with or without .gz; got "
            f"{path!r}. Rename it, or convert it to one of these."
        )
    return found


def read(path: str) -> Iterator[tuple[int, Row]]:
    """The line numbers and rows of a file; a value of a CSV or TSV file is always a text.

    Raises:
        ValueError: the file is not there, is no UTF-8 text of its kind, or has no rows.
    """
    kind = ending(path)
    text = read_text(path)
    rows = _json_rows(text, path) if kind in JSON_ENDINGS else _table_rows(text, path, kind)
    is_empty = True
    for row in rows:
        is_empty = False
        yield row
    if is_empty:
        raise ValueError(
            f"A file of examples must hold a row; {path} holds none. Write some, or leave the file "
            "out."
        )


def read_text(path: str) -> str:
    """The text of a file in UTF-8, plain or gzipped (`.gz`).

    Raises:
        ValueError: it is not there, is damaged or is not UTF-8.
    """
    try:
        is_there = tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)
        content = tf.io.gfile.GFile(path, "rb").read() if is_there else None
    except tf.errors.OpError as error:
        raise ValueError(
            f"A file of examples must be where this machine can read; {path} gave: {error.message}."
            " Correct the path, or copy the file here."
        ) from error
    if content is None:
        raise ValueError(
            f"A file of examples must exist; there is no file {path} (seen from {os.getcwd()}). "
            "Correct the path."
        )
    if path.lower().endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"A file that ends in .gz must be gzip, and complete; {path} is not ({error}). "
                "Compress it again, or rename it."
            ) from error
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"A file of examples must be UTF-8; line {line} of {path} holds the byte "
            f"0x{content[error.start]:02x} ({error.reason}). Save the file as UTF-8."
        ) from error


def _json_rows(text: str, path: str) -> Iterator[tuple[int, Row]]:
    # Not splitlines, which also cuts at U+2028 and others that JSON allows inside strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
            problem = "" if isinstance(row, dict) else f"a JSON {type(row).__name__}"
            json.dumps(row, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            problem = str(error)
        except UnicodeEncodeError:
            problem = "an escape such as \\ud83d is half a character, without its other half"
        if problem:
            raise ValueError(
                f"Each line must be one JSON object; line {number} of {path} is {line[:80]!r} "
                f'({problem}). Write {{"inputs": "…", "targets": "…"}}, all on one line.'
            )
        yield number, row


def _table_rows(text: str, path: str, kind: str) -> Iterator[tuple[int, Row]]:
    # A document may be longer than the 131,072 characters that csv expects of a field.
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[kind], strict=True)
    columns: list[str] | None = None
    last_line = 0
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ValueError(
                f"A field with quotes or line ends must stand in double quotes, and quotes in it "
                f"must be doubled; the row that begins in line {last_line + 1} of {path} is broken "
                f"({error}). Correct it."
            ) from error
        if fields is None:
            return
        number, last_line = last_line + 1, reader.line_num
        if not fields:  # A blank line.
            continue
        if columns is None:
            columns = fields
            if len(set(columns)) < len(columns):
                raise ValueError(
                    f"The first line must name each column once; that of {path} is {columns}. "
                    "Rename the columns that have one name."
                )
        elif len(fields) != len(columns):
            raise ValueError(
                f"Each row must have a field for each of the {len(columns)} columns {columns}; "
                f"the row in line {number} of {path} has {len(fields)}: {str(fields)[:80]}. Quote "
                "fields that hold the delimiter, or correct the row."
            )
        else:
            yield number, dict(zip(columns, fields, strict=True))
