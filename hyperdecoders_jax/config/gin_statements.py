"""Parsed gin statements whose names are not looked up, selections of them, and gin text again."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gin import config_parser

# Source of a `Location` that is no file.
FLAGS = "command line"


@dataclasses.dataclass(frozen=True)
class Location:
    """Where a statement stands: a file and a line, or the command line and the flag."""

    source: str
    line_num: int
    text: str

    def __str__(self) -> str:
        is_flag = self.source == FLAGS
        return f"--gin.{self.text}" if is_flag else f"{self.source}:{self.line_num}"


@dataclasses.dataclass(frozen=True)
class MacroRead:
    """`%NAME` in a value; its repr is gin."""

    name: str

    def __repr__(self) -> str:
        return f"%{self.name}"


REQUIRED = MacroRead("gin.REQUIRED")


@dataclasses.dataclass(frozen=True)
class Reference:
    """`@scope/module.function` in a value, with or without a call; its repr is gin."""

    scoped_selector: str
    is_called: bool = False

    @property
    def selector(self) -> str:
        """The name without its scope."""
        return self.scoped_selector.rpartition("/")[2]

    def rename(self, rename: Callable[[str], str]) -> Reference:
        """The same reference with another selector."""
        scope, slash, selector = self.scoped_selector.rpartition("/")
        return Reference(scope + slash + rename(selector), self.is_called)

    def __repr__(self) -> str:
        return f"@{self.scoped_selector}" + "()" * self.is_called


def leaves(value: Any) -> Iterator[Any]:
    """Values in nested lists, tuples and dicts, keys included."""
    if isinstance(value, Mapping):
        value = list(value.items())
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def rename_references(value: Any, rename: Callable[[str], str]) -> Any:
    """The same nested value with other selectors in its references."""
    if isinstance(value, dict):
        return dict(rename_references(list(value.items()), rename))
    if isinstance(value, list | tuple):
        return type(value)(rename_references(item, rename) for item in value)
    return value.rename(rename) if isinstance(value, Reference) else value


# By identity: a file that is included twice binds twice.
@dataclasses.dataclass(eq=False)
class SourceFile:
    """One gin file and its imports; its bindings are in `Text`, between those of other files."""

    name: str  # As it was asked for or included.
    path: str  # Where it was found.
    imports: list[tuple[config_parser.ImportStatement, Location]]
    dynamic_registration: Location | None = None  # Where gin is told to look names up in imports.

    def full_name(self, selector: str) -> str:
        """`selector` with the module that it is imported from in place of the module's alias."""
        first, _, rest = selector.partition(".")
        for statement, _ in self.imports:
            if statement.bound_name() == first and (statement.is_from or statement.alias):
                return f"{statement.module}.{rest}"
        return selector


@dataclasses.dataclass(frozen=True, eq=False)
class Binding:
    """`scope/selector.parameter = value`; a macro has no parameter."""

    # As gin's parser gives it, with `MacroRead` and `Reference` in values.
    statement: config_parser.BindingStatement
    file: SourceFile | None  # None for a flag.
    location: Location  # Of the parameter.
    class_location: Location  # Of the class's name, which in a block stands above.

    @property
    def macro(self) -> str:
        """Name of the macro that is set, with its scope; "" for a parameter."""
        scope, selector, parameter, *_ = self.statement
        return "" if parameter else "/".join(filter(None, [scope, selector]))

    @property
    def macro_reads(self) -> list[str]:
        """Macros that the value reads."""
        found = (x for x in leaves(self.statement.value) if isinstance(x, MacroRead))
        return [macro.name for macro in found if macro != REQUIRED]

    @property
    def references(self) -> list[str]:
        """Selectors of the classes and functions that the value refers to."""
        return [x.selector for x in leaves(self.statement.value) if isinstance(x, Reference)]

    @property
    def selectors(self) -> list[str]:
        """Selectors on both sides."""
        return self.references + [self.statement.selector] * (not self.macro)

    def full_name(self, selector: str) -> str:
        """See `SourceFile.full_name`; flags are written with as much of a name as is clear."""
        return selector if self.file is None else self.file.full_name(selector)

    def binds(self, name: MacroRead | Reference) -> bool:
        """Whether this sets a macro, or a parameter of what a reference with a full name means."""
        if isinstance(name, MacroRead) or self.macro:
            return name == MacroRead(self.macro)
        # A flag may name the end alone, of what it binds and of what it refers to. Two classes
        # with the same end both match: that binds more than is needed, never less.
        here, there = f".{self.full_name(self.statement.selector)}", f".{name.selector}"
        return here.endswith(there) or there.endswith(here)

    def rename(self, rename: Callable[[str], str]) -> Binding:
        """The same binding with other selectors on both sides."""
        _, selector, parameter, value, _ = self.statement
        statement = self.statement._replace(
            selector=rename(selector) if parameter else selector,
            value=rename_references(value, rename),
        )
        return dataclasses.replace(self, statement=statement)

    def to_gin(self) -> str:
        """The statement on one line."""
        scope, selector, parameter, value, _ = self.statement
        name = "/".join(filter(None, [scope, selector]))
        # Literals, macros and references all have a repr that is gin.
        return f"{name}.{parameter} = {value!r}" if parameter else f"{name} = {value!r}"


@dataclasses.dataclass(frozen=True)
class Text:
    """Files and flags of a run as parsed statements; `+` adds what binds later."""

    files: tuple[SourceFile, ...] = ()  # Each after those that it includes.
    bindings: tuple[Binding, ...] = ()  # Of files and flags, in the order in which gin binds them.
    skipped: tuple[Binding, ...] = ()  # Gin does not get them; macros that they read count as read.

    def __add__(self, later: Text) -> Text:
        return Text(
            self.files + later.files, self.bindings + later.bindings, self.skipped + later.skipped
        )

    @functools.cached_property
    def macro_values(self) -> dict[str, tuple[Any, Location]]:
        """Value of each macro, and where it was set last."""
        return {b.macro: (b.statement.value, b.location) for b in self.bindings if b.macro}

    @functools.cached_property
    def macro_reads(self) -> dict[str, Location]:
        """Where each macro is read first, also by bindings that later ones replace."""
        found = {}
        for binding in self.bindings:
            for name in binding.macro_reads:
                found.setdefault(name, binding.location)
        return found

    @property
    def all_macro_reads(self) -> set[str]:
        """Macros that bindings read, skipped ones, too."""
        return {name for b in self.bindings + self.skipped for name in b.macro_reads}

    @property
    def flags(self) -> list[Binding]:
        """Bindings of the command line."""
        return [binding for binding in self.bindings if binding.file is None]

    def select(
        self,
        is_kept: Callable[[Binding], bool],
        is_imported: Callable[[SourceFile, config_parser.ImportStatement], bool],
    ) -> Text:
        """The text with some of its bindings and imports; the other bindings are skipped."""
        files = {}
        for file in self.files:
            imports = [item for item in file.imports if is_imported(file, item[0])]
            files[file] = dataclasses.replace(file, imports=imports)
        kept = tuple(filter(is_kept, self.bindings))
        # These go on pointing to their old file: its imports tell what they mean.
        skipped = tuple(binding for binding in self.bindings if binding not in {*kept})
        kept = tuple(dataclasses.replace(b, file=b.file and files[b.file]) for b in kept)
        return Text(tuple(files.values()), kept, self.skipped + skipped)


def skip_modules(text: Text, modules: Sequence[str]) -> Text:
    """Skips imports of `modules` and of what is under them, and bindings of and to it."""

    def is_skipped(name: str) -> bool:
        return any(f"{name}.".startswith(f"{module}.") for module in modules)

    return text.select(
        lambda binding: not any(is_skipped(binding.full_name(x)) for x in binding.selectors),
        lambda _, statement: not is_skipped(statement.module),
    )


def only_needed(text: Text, root: str) -> Text:
    """Skips bindings and imports that a call of `root`, a full name, does not reach."""
    names, found, needed = [Reference(root)], set(), set()
    while names:
        name = names.pop()
        if name in found:
            continue
        found.add(name)
        for binding in text.bindings:
            if binding.binds(name):
                needed.add(binding)
                names += [MacroRead(macro) for macro in binding.macro_reads]
                names += [Reference(binding.full_name(other)) for other in binding.references]
    used = {(b.file, selector.partition(".")[0]) for b in needed for selector in b.selectors}
    return text.select(
        # Flags of parameters stay: only with modules imported can a misspelt one be told.
        lambda binding: binding in needed or (binding.file is None and not binding.macro),
        lambda file, statement: (file, statement.bound_name()) in used,
    )


def to_gin(file: SourceFile, bindings: Iterable[Binding]) -> str:
    """Imports of a file and some of its bindings as text."""
    # Each on its line, so that gin's own errors name the right one. Imports after the last of these
    # bindings do no harm, and one that comes too late is an error, as in the file itself.
    statements = {location.line_num: x.format() for x, location in file.imports}
    if file.dynamic_registration is not None:
        line_num = file.dynamic_registration.line_num
        statements[line_num] = "from __gin__ import dynamic_registration"
    statements |= {binding.location.line_num: binding.to_gin() for binding in bindings}
    lines = range(1, max(statements, default=0) + 1)
    return "".join(f"{statements.get(line, '')}\n" for line in lines)


def sections(text: Text) -> Iterator[tuple[SourceFile, list[Binding]]]:
    """Bindings in their order, cut where the file changes; then files that bind nothing."""
    # An include cuts its file in two: what stands after it replaces what the other file binds.
    of_files = [binding for binding in text.bindings if binding.file is not None]
    for file, group in itertools.groupby(of_files, lambda binding: binding.file):
        yield file, list(group)
    # Their imports register tasks, and belong into the saved configuration.
    binding_files = {binding.file for binding in of_files}
    yield from ((file, []) for file in text.files if file not in binding_files)
