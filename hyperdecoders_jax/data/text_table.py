"""Tables of text with aligned columns."""

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]]) -> str:
    """Aligns the first column of rows to the left and the others to the right.

    >>> print(align([("task", "rate"), ("cola", "75.00%")]))
    task    rate
    cola  75.00%
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )
