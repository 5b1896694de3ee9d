"""Templates: a row's text, made from its columns.

Between braces is a column's name and nothing else, so it may hold any sign but a brace ("Q: text",
"a!"); `{{` and `}}` are braces.
"""

import difflib
import functools
import json
import re
from collections.abc import Iterable, Mapping

from hyperdecoders_jax.data import row_files

_PART = re.compile(r"(\{\{|\}\})|\{([^{}]*)\}")
_HOW = "Write a column's name between braces, as in 'find {word} in: {text}', and {{ for a {."
_SHOWN_COLUMNS = 20


@functools.cache
def parts(template: str) -> tuple[tuple[str, str | None], ...]:
    """The texts of a template with the column that follows each.

    >>> parts("find {word} in: {text} {{1}}")
    (('find ', 'word'), (' in: ', 'text'), (' {1}', None))

    Raises:
        ValueError: a brace does not close, or no column is named.
    """
    found, text, end = [], "", 0
    for match in _PART.finditer(template):
        text += _without_braces(template, end, match.start())
        end = match.end()
        brace, column = match.groups()
        if brace:
            text += brace[0]
        elif not column.strip():
            raise ValueError(
                f"Between the braces of a template must be a column's name; got {template!r}. "
                f"{_HOW}"
            )
        else:
            found.append((text, column))
            text = ""
    text += _without_braces(template, end, len(template))
    if not found:
        raise ValueError(
            f"A template must name a column, or all examples are alike; got {template!r}. {_HOW}"
        )
    return (*found, (text, None)) if text else tuple(found)


def _without_braces(template: str, start: int, end: int) -> str:
    text = template[start:end]
    if "{" in text or "}" in text:
        raise ValueError(f"The braces of a template must close; {template!r} is none. {_HOW}")
    return text


def fill(template: str, row: Mapping[str, object], where: str) -> str:
    """The text of a row; `where` names the row in messages.

    >>> fill("{word}: {n}", {"word": "egg", "n": "3"}, "line 1 of x.jsonl")
    'egg: 3'

    Raises:
        ValueError: a column is missing, or holds no text, number, true or false.
    """
    texts = []
    for text, column in parts(template):
        texts.append(text)
        if column is None:
            continue
        if column not in row:
            names = [*map(repr, row)]
            others = (
                f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
            )
            raise ValueError(
                f"Each row must have the columns of the template {template!r}; {where} has no "
                f"{column!r}. Its columns are {', '.join(names[:_SHOWN_COLUMNS]) or 'none'}"
                f"{others}.{hint(column, row)} Correct the row, or say how its text is made with "
                "--inputs_template='… {column} …' and --targets_template='{column}'."
            )
        value = row[column]
        if isinstance(value, bool):
            value = json.dumps(value)
        if not isinstance(value, str):
            raise ValueError(
                f"A column of a template must hold a text, a number, true or false (and, alone in "
                f"the targets, a list of texts); {column!r} in {where} is "
                f"{row_files.to_json(value)[:80]}. Correct the row, or leave it out."
            )
        texts.append(value)
    return "".join(texts)


def hint(name: str, names: Iterable[str]) -> str:
    """The end of a message: which of `names` was probably meant, or nothing.

    >>> hint("wrod", ["word"]), hint("n:.2f", ["n"]), hint("x", ["word"])
    (" Did you mean 'word'?", " Did you mean 'n'? A column's text is taken as it is.", '')
    """
    names = list(names)
    plain = re.split(r"[:!.\[]", name)[0]
    if plain != name and plain in names:
        return f" Did you mean {plain!r}? A column's text is taken as it is."
    joined = next((x for x in names if name in re.split(r"[;,\t|]", x)), None)
    if joined:
        return (
            f" Its first line is not separated at {joined!r}: a .csv has commas between columns, "
            "a .tsv tabs."
        )
    near = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
