"""Checks of gin text, and the binding of what was checked."""

import io
from collections.abc import Callable, Collection, Sequence
from typing import Any

import gin

from hyperdecoders_jax.config import gin_checks, gin_files, gin_statements
from hyperdecoders_jax.config.gin_statements import Binding, Text


def parse(
    text: Text,
    function: Callable[..., Any] | None = None,
    *,
    are_macros_checked: bool = True,
    is_all_bound: bool = True,
    readers: Sequence[str] = (),
    skipped_modules: Sequence[str] = (),
) -> str:
    """Checks files and flags, hands them to gin, and returns all bindings as gin text.

    What was bound before is forgotten. Raises ConfigurationError, and writes nothing, for a name
    that does not exist, a macro that is not read, not set or set to itself, a flag without effect,
    or a value of a wrong type.

    Args:
        text: from `gin_files.read`.
        function: what will be called; each flag must reach it. None: they need not.
        are_macros_checked: whether flags of macros must reach it, too.
        is_all_bound: False binds only what a call of `function` reads; the rest need not be set,
            and modules that only it needs, such as those of data, are not imported.
        readers: see `gin_files.check_macros`.
        skipped_modules: see `gin_statements.skip_modules`.
    """
    gin_files.check_macros_are_read(text, readers)
    if skipped_modules:
        text = gin_statements.skip_modules(text, skipped_modules)
    if not is_all_bound:
        root = f"{function.__module__}.{function.__qualname__}"
        text = gin_statements.only_needed(text, root)
    gin_files.check_macros_are_set(text)
    gin_checks.check_parameters(text)
    flags = gin_checks.resolve_flags(text)
    # gin's configuration is global to the process: nothing before this line has changed it.
    gin.clear_config()
    # gin is handed the statements that were checked, not the files: what it binds cannot differ.
    for file, bindings in gin_statements.sections(text):
        lines = io.StringIO(gin_statements.to_gin(file, bindings))
        lines.name = file.path  # gin's own errors name it.
        gin.parse_config(lines)
    gin.parse_config(_flag_statements(flags.values()))
    gin.finalize()
    if function is not None:
        used = gin_checks.find_used(function)
        gin_checks.check_used(flags, used, are_macros_checked)
        gin_checks.check_types(text, used)
    return gin.config_str()


def _flag_statements(flags: Collection[Binding]) -> str:
    """Flags with full names as gin, with imports of their modules."""
    modules = {name.rpartition(".")[0]: None for flag in flags for name in flag.selectors}
    header = ["from __gin__ import dynamic_registration", *(f"import {name}" for name in modules)]
    return "\n".join([*header, *(flag.to_gin() for flag in flags), ""])
