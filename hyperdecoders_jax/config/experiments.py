"""Lists and resolves experiments from their text: nothing is imported or bound, so it is fast."""

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
    """A gin file that says what it is."""

    name: str  # As `--gin_file` takes it.
    what: str  # The text behind `# What:` in its header, on one line.


def find(words: Sequence[str] = (), search_paths: Sequence[str] = ()) -> list[Experiment]:
    """Lists experiments by name, without files that have no `# What:` line, such as shared recipes.

    All of `words` must be in the name or the What line, in any case. `search_paths` are folders
    with gin files, directly or in their `experiments/`, besides the package's.
    """
    paths: dict[str, str] = {}
    for folder in [*search_paths, gin_files.package_config_folder()]:
        names = gin_files.files_under(folder, FOLDER)
        names += [name for name in os.listdir(folder) if name.endswith(".gin")]
        for name in names:
            if os.path.isfile(path := os.path.join(folder, name)):
                # As in `gin_files.find_file`, the first folder wins.
                paths.setdefault(name, path)
    found = sorted(Experiment(name, what_of(path)) for name, path in paths.items())
    texts = [f"{experiment.name} {experiment.what}".lower() for experiment in found]
    return [
        experiment
        for experiment, text in zip(found, texts, strict=True)
        if experiment.what and all(word.lower() in text for word in words)
    ]


def what_of(path: str) -> str:
    """The What line of a file's header, joined from its comment lines; "" if there is none."""
    lines = []
    with open(path, encoding="utf-8", errors="replace") as file:
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
    """Aligned text of every macro and parameter that is set: its value, and where it was set last.

    Behind a macro that is read stands its value: `batch_size = %BATCH_SIZE (64)`. The arguments and
    errors are those of `gin_files.read`; a circle of macros is a ConfigurationError.
    """
    text = gin_files.read(files, bindings, search_paths)
    gin_files.check_no_circle(text)
    groups = {"Macros": text.macro_values} | _parameters(text)
    width = max((len(name) for group in groups.values() for name in group), default=0)
    blocks = []
    for title, group in groups.items():
        rows = [(name, _format(value, text), at) for name, (value, at) in sorted(group.items())]
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
    end = value
    while isinstance(end, MacroRead) and end.name in text.macro_values:
        end = text.macro_values[end.name][0]
    if end is value:
        return repr(value)
    return f"{value!r} ({'must be set' if end == REQUIRED else repr(end)})"


def _align(rows: Sequence[tuple[str, str, Location]], name_width: int) -> list[str]:
    widths = [len(value) for _, value, _ in rows if len(value) <= _MAX_VALUE_WIDTH]
    width = max(widths, default=0)
    return [f"  {name:<{name_width}} = {value:<{width}}  {at}" for name, value, at in rows]
