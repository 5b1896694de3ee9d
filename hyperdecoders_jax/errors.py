"""Kinds of errors that a user can mend, and the ends of their messages."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import functools
import math
import numbers
import os
import re
import traceback
from collections.abc import Iterable
from typing import Any

from absl import logging


class UsageError(ValueError):
    """A command line that contradicts itself; the message says what to do."""


class ConfigurationError(ValueError):
    """A gin file or flag that is wrong; the message says what to do."""


class FieldError(ValueError):
    """A field of a configuration that is invalid.

    `name` says whose it is, and `problem`, without the advice, what must hold and what came; so
    readers of files can name the file, and advise for it.
    """

    def __init__(self, name: str, problem: str, advice: str):
        super().__init__(f"{name} {problem} {advice}")
        self.name = name
        self.problem = problem


@functools.cache
def warn_once(message: str) -> None:
    """Logs a warning, once in a process: data are read by several parts of a run."""
    logging.warning("%s", message)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Which of `names` was probably meant, or None."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return near[0] if near else None


def suggestion(name: str, names: Iterable[str]) -> str:
    """The end of a message: which of `names` was probably meant, or nothing.

    >>> suggestion("train_stpes", ["BATCH_SIZE", "TRAIN_STEPS"])
    " Did you mean 'TRAIN_STEPS'?"
    >>> suggestion("x", ["BATCH_SIZE"])
    ''
    """
    names = list(dict.fromkeys(names))
    near = nearest(name, names)
    if near is None:
        by_lower = {candidate.lower(): candidate for candidate in names}
        near = by_lower.get(nearest(name.lower(), by_lower))
    return f" Did you mean {near!r}?" if near is not None else ""


def check_field(config: object, field: str, is_valid: bool, must: str, advice: str) -> None:
    """Raises FieldError, with what a field of a configuration must do, unless it is valid."""
    name = f"{type(config).__name__}.{field}"
    check_value(name, getattr(config, field), is_valid, must, advice)


def check_value(name: str, value: object, is_valid: bool, must: str, advice: str = "") -> None:
    """Raises FieldError, with what the value of a name must do, unless it is valid."""
    if not is_valid:
        raise FieldError(name, f"must {must}; got {value!r:.200}.", advice)


def check_whole(
    config: object, field: str, least: int, most: int | None = None, advice: str = "Correct it."
) -> None:
    """Raises ValueError unless a field of a configuration is a whole number in [least, most]."""
    is_valid = is_whole(getattr(config, field), least, most)
    limit = "" if most is None else f" and at most {most:,}"
    check_field(config, field, is_valid, f"be an integer of at least {least}{limit}", advice)


def is_whole(value: object, least: int, most: int | None = None) -> bool:
    """Whether a value is a whole number in [least, most]."""
    # A bool is an int to Python, and True would pass for a size of 1.
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer and least <= value and (most is None or value <= most)


def check_bools(config: Any) -> None:
    """Raises FieldError unless each field declared as bool is one: "False" would count as True."""
    for field in dataclasses.fields(config):
        if field.type in (bool, "bool"):
            is_valid = isinstance(getattr(config, field.name), bool)
            check_field(
                config, field.name, is_valid, "be True or False", "Write it without quotes."
            )


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


def check_seed(config: object, field: str) -> None:
    """Raises ValueError unless a field is a seed of 32 bits: JAX drops all others silently."""
    check_whole(config, field, 0, 2**32 - 1, "Choose a smaller number.")


def is_own(error: Exception) -> bool:
    """Whether a `raise` of this package raised the error, rather than Python or a library."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    folder = os.path.dirname(os.path.abspath(__file__))
    return frame.filename.startswith(folder) and (frame.line or "").startswith("raise ")


def memory_words(error: Exception) -> str | None:
    """What an error says of memory that ran out, in one line; None for other errors.

    >>> memory_words(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."))
    'Out of memory allocating 9 bytes'
    >>> memory_words(RuntimeError("INTERNAL: a pipe broke"))
    """
    # JAX and PyTorch have no class of their own for it.
    words = re.match(
        r"RESOURCE_EXHAUSTED: (?:E\d+: \w+: )?|.*can't allocate memory: ", str(error), re.DOTALL
    )
    if not isinstance(error, MemoryError) and not (isinstance(error, RuntimeError) and words):
        return None
    text = str(error)[words.end() if words else 0 :].partition("\n")[0].rstrip(".")
    return text or "there was no more"


def lack_of_memory(error: Exception) -> str | None:
    """What to say where memory ran out, of the machine or an accelerator; None for other errors.

    >>> print(lack_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")))
    A command must have memory for its arrays; Out of memory allocating 9 bytes. Use ...
    >>> lack_of_memory(RuntimeError("INTERNAL: a pipe broke"))
    """
    if (words := memory_words(error)) is None:
        return None
    return (
        f"A command must have memory for its arrays; {words}. Use smaller batches (BATCH_SIZE, "
        "EVAL_BATCH_SIZE; more NUM_MICROBATCHES), REMAT 'layer', shorter TASK_FEATURE_LENGTHS, "
        "fewer layers or a smaller model, DTYPE 'bfloat16', more MODEL_PARALLEL, or a machine with "
        "more memory. `hyperdecoders plan` says what fits a TPU. Of a folder that somebody gave "
        "you, check the sizes in config.json."
    )


def message_of(error: Exception) -> str:
    """The error's message without the lines that gin adds about its own calls.

    >>> message_of(KeyError("task 'a' must exist"))
    "task 'a' must exist"
    """
    text = re.split(r"\n\s*In call to configurable ", str(error))[0].strip()
    if isinstance(error, KeyError):  # Its text is a Python literal.
        with contextlib.suppress(ValueError, SyntaxError):
            text = str(ast.literal_eval(text))
    return text
