"""Tables of text with aligned columns."""

from collections.abc import Callable, Sequence


def align(rows: Sequence[Sequence[str]], justify: Callable[..., str] = str.rjust) -> str:
    """Aligns the first column of rows to the left and the others by `justify`.

    >>> print(align([("task", "rate"), ("cola", "75.00%")]))
    task    rate
    cola  75.00%
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *map(justify, row[1:], widths[1:])]) for row in rows
    )
    return "\n".join(map(str.rstrip, lines))
