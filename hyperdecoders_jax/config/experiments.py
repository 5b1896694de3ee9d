"""Experiments by their text: which there are, and what one resolves to.

Nothing is imported or bound, so both take a fraction of a second.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.config.gin_statements import REQUIRED, Location, MacroRead, Text

# Of the package and of every searched folder.
FOLDER = "experiments"
_WHAT, _RUN = "What:", "Run:"
# Longer values push only their own row's location to the right.
_MAX_VALUE_WIDTH = 48


@dataclasses.dataclass(frozen=True, order=True)
class Experiment:
    """A gin file that says what it is.

    Attributes:
        name: as `--gin_file` takes it.
        what: the text behind `# What:` in its header, on one line.
    """

    name: str
    what: str


def find(words: Sequence[str] = (), search_paths: Sequence[str] = ()) -> list[Experiment]:
    """Lists experiments by name, those of the package and of searched folders.

    Files without a `# What:` line, such as recipes that experiments share, are skipped.

    Args:
        words: all of these must be in the name or the What line, in any case.
        search_paths: gin files directly in these folders, and in `experiments/` of these.
    """
    paths: dict[str, str] = {}
    for folder in [*search_paths, gin_files.package_config_folder()]:
        names = gin_files.files_under(folder, FOLDER)
        names += [name for name in os.listdir(folder) if name.endswith(".gin")]
        for name in names:
            # As in `gin_files.find_file`, the first folder wins.
            paths.setdefault(name, os.path.join(folder, name))
    found = [Experiment(name, what_of(path)) for name, path in paths.items()]
    return sorted(
        experiment
        for experiment in found
        if experiment.what
        and all(word.lower() in f"{experiment.name} {experiment.what}".lower() for word in words)
    )


def what_of(path: str) -> str:
    """The What line of a file's header, joined from its comment lines; "" if there is none."""
    lines = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            comment = line[1:].strip()
            if not line.startswith("#") or comment.startswith(_RUN):
                break
            if comment.startswith(_WHAT) or lines:
                lines.append(comment.removeprefix(_WHAT).strip())
    return " ".join(lines).strip()


def resolve(
    files: Sequence[str], bindings: Sequence[str] = (), search_paths: Sequence[str] = ()
) -> str:
    """Every macro and parameter that files and flags set: its value, and where it was set last.

    Behind a macro that is read stands its value: `batch_size = %BATCH_SIZE (64)`.

    Args:
        files: gin files in the order in which they bind.
        bindings: of flags.
        search_paths: searched after this folder and before the package's.

    Returns:
        Aligned text: macros, then parameters by class and scope.

    Raises:
        ConfigurationError: a file that does not exist or is no valid gin.
    """
    text = gin_files.read(files, bindings, search_paths)
    groups = {"Macros": text.macro_values} | _parameters(text)
    width = max((len(name) for group in groups.values() for name in group), default=0)
    blocks = []
    for title, group in groups.items():
        rows = [
            (name, _format(value, text), str(location))
            for name, (value, location) in sorted(group.items())
        ]
        blocks.append("\n".join([title, *_align(rows, width)]))
    return "\n\n".join(blocks)


def _parameters(text: Text) -> dict[str, dict[str, tuple[Any, Location]]]:
    """`scope/module.Class` -> parameter -> value and where it was set last."""
    found: dict[tuple[str, str], dict] = collections.defaultdict(dict)
    names = [b.full_name(b.statement.selector) for b in text.bindings if b.file and not b.macro]
    for binding in text.bindings:
        if binding.macro:
            continue
        scope, selector, parameter, value, _ = binding.statement
        full_name = binding.full_name(selector)
        if binding.file is None:
            # A flag names the end alone; which class it means is known where files bind it, too.
            full_name = next(
                (name for name in names if f".{name}".endswith(f".{selector}")), selector
            )
        found[full_name, scope][parameter] = (value, binding.location)
    titles = _short_names({full_name for full_name, _ in found})
    order = sorted(found, key=lambda key: (titles[key[0]].rpartition(".")[2].lower(), key))
    return {
        f"{scope}/{titles[name]}" if scope else titles[name]: found[name, scope]
        for name, scope in order
    }


def _short_names(full_names: Iterable[str]) -> Mapping[str, str]:
    """`module.Class` of each full name, or all of it where two would be the same."""
    short = {name: ".".join(name.split(".")[-2:]) for name in full_names}
    count = collections.Counter(short.values())
    return {name: end if count[end] == 1 else name for name, end in short.items()}


def _format(value: Any, text: Text) -> str:
    """A value as gin writes it, and what is behind a macro."""
    if value == REQUIRED:
        return "(must be set)"
    seen, end = set(), value
    # A circle of macros is shown as it stands.
    while isinstance(end, MacroRead) and end not in seen and end.name in text.macro_values:
        seen.add(end)
        end = text.macro_values[end.name][0]
    if not seen:
        return repr(value)
    return f"{value!r} ({'must be set' if end == REQUIRED else repr(end)})"


def _align(rows: Sequence[tuple[str, str, str]], name_width: int) -> list[str]:
    widths = [len(value) for _, value, _ in rows if len(value) <= _MAX_VALUE_WIDTH]
    width = max(widths, default=0)
    return [
        f"  {name:<{name_width}} = {value:<{width}}  {location}" for name, value, location in rows
    ]
