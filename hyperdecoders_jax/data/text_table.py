"""Rows of text go in, one aligned table comes out."""

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]]) -> str:
    """Lays rows out in columns as wide as need be: the first to the left, the others to the right.

    >>> print(align([("task", "rate"), ("cola", "75.00%")]))
    task    rate
    cola  75.00%
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
