"""A name that does not exist and those that do go in, the end of an error message comes out."""

import difflib
from collections.abc import Iterable


def hint(name: str, names: Iterable[str]) -> str:
    """Says which of `names` was probably meant, or nothing.

    >>> hint("TRAIN_STPES", ["BATCH_SIZE", "TRAIN_STEPS"])
    " Did you mean 'TRAIN_STEPS'?"
    >>> hint("train_steps", ["BATCH_SIZE", "TRAIN_STEPS"])
    " Did you mean 'TRAIN_STEPS'?"
    >>> hint("x", ["BATCH_SIZE"])
    ''
    """
    names = list(dict.fromkeys(names))
    near = difflib.get_close_matches(name, names, n=1)
    if not near:
        by_lower = {candidate.lower(): candidate for candidate in names}
        near = [by_lower[key] for key in difflib.get_close_matches(name.lower(), by_lower, n=1)]
    return f" Did you mean {near[0]!r}?" if near else ""
