"""Gin files and flags in, one checked configuration out.

gin takes a misspelt macro in silence and tells of a misspelt parameter by its own names, so files
and flags are read twice. First as text alone, in a fraction of a second and without importing what
they name: does every file exist, does somebody read every macro that is set, is every macro set
that somebody reads? Then the modules are imported and every parameter is looked up, and only then
gin binds anything. An error names what must hold, what came, and the nearest name.

Conventions and flags are T5X's (t5x/gin_utils.py); files use gin's dynamic registration.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import difflib
import importlib
import inspect
import itertools
import os
import pkgutil
import re
import tokenize
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gin
from etils import epath
from gin import config as gin_config
from gin import config_parser

from hyperdecoders_jax import errors

# Where the gin files of this package are, wherever it is installed.
PACKAGE_CONFIGS = "hyperdecoders_jax.gin_configs"
REQUIRED = "gin.REQUIRED"
_MACRO = "gin.macro"
FLAGS = "command line"
# Macros that have a flag of their own.
OWN_FLAGS = ("MODEL_DIR", "VOCABULARY")
# Folders that are looked through for a nearest name, beside the package's own.
_MAX_LISTED_FILES = 1000


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a statement stands: a file and a line, or the command line and the flag."""

    source: str
    line_num: int
    text: str

    def __str__(self) -> str:
        if self.source == FLAGS:
            return f"--gin.{self.text}"
        return f"{self.source}:{self.line_num}"


@dataclasses.dataclass(frozen=True)
class MacroRead:
    """`%NAME` in a value; its repr is gin."""

    name: str

    def __repr__(self) -> str:
        return f"%{self.name}"


@dataclasses.dataclass(frozen=True)
class Reference:
    """`@scope/module.function` in a value, with or without a call; its repr is gin."""

    scoped_selector: str
    is_called: bool

    @property
    def selector(self) -> str:
        """The name without its scope."""
        return self.scoped_selector.rsplit("/", 1)[-1]

    def __repr__(self) -> str:
        return f"@{self.scoped_selector}" + "()" * self.is_called


@dataclasses.dataclass(frozen=True)
class Flag:
    """One `--gin.scope/selector.parameter=value`; a macro has neither selector nor parameter."""

    binding: str
    scope: str
    selector: str
    parameter: str
    macro: str
    references: tuple[str, ...]
    place: Place


@dataclasses.dataclass(eq=False)
class SourceFile:
    """One gin file as it was read: its statements, nothing resolved."""

    name: str
    path: str
    imports: list[tuple[config_parser.ImportStatement, Place]]
    includes: list[str]
    # Module aliases are looked up at import; parameters are (selector, name, place).
    parameters: list[tuple[str, str, Place]]
    references: list[tuple[str, Place]]
    has_dynamic_registration: bool = False

    def full_name(self, selector: str) -> str:
        """What the file calls `selector`, with the module that it is imported from."""
        first, _, rest = selector.partition(".")
        for statement, _ in self.imports:
            if statement.bound_name() == first and (statement.is_from or statement.alias):
                return f"{statement.module}.{rest}"
        return selector


@dataclasses.dataclass(frozen=True, eq=False)
class Binding:
    """One binding of a file; of a flag where there is no file."""

    statement: config_parser.BindingStatement
    file: SourceFile | None
    place: Place

    def binds(self, name: MacroRead | Reference) -> bool:
        """Whether this sets a macro, or a parameter of what a reference with a full name means."""
        if isinstance(name, MacroRead) or not self.statement.arg_name:
            return not self.statement.arg_name and name == MacroRead(_macro_name(self.statement))
        # A flag may name the end alone, of what it binds and of what it refers to.
        here, there = f".{self.full_name(self.statement.selector)}", f".{name.selector}"
        return here.endswith(there) or there.endswith(here)

    def full_name(self, selector: str) -> str:
        """See `SourceFile.full_name`."""
        return selector if self.file is None else self.file.full_name(selector)


@dataclasses.dataclass
class Text:
    """All files and flags of a run, read as text in the order in which gin would bind them."""

    files: list[SourceFile]
    macro_values: dict[str, tuple[Any, Place]]
    macro_reads: dict[str, Place]
    flags: list[Flag]
    bindings: list[Binding]


class _Recorder(config_parser.ParserDelegate):
    """Notes what values refer to, in place of resolving it."""

    def __init__(self):
        self.macros: list[str] = []
        self.references: list[str] = []

    def configurable_reference(self, scoped_configurable_name, evaluate):
        reference = Reference(scoped_configurable_name, evaluate)
        self.references.append(reference.selector)
        return reference

    def macro(self, macro_name):
        if macro_name != REQUIRED:
            self.macros.append(macro_name)
        return MacroRead(macro_name)


# ---------------------------------------------------------------- where files are


def package_config_folder() -> str:
    """The folder of the gin files that ship with the package."""
    return os.path.dirname(importlib.import_module(PACKAGE_CONFIGS).__file__)


def search_path(folders: Sequence[str] = ()) -> list[str]:
    """Folders that are searched for gin files: this one, the given ones, the package's."""
    return ["", *folders, package_config_folder()]


def find_file(name: str, folders: Sequence[str], included_by: str | None = None) -> str:
    """The path of a gin file.

    Args:
      name: an absolute path or a URL, or a path relative to a searched folder.
      folders: what `search_path` gives.
      included_by: the file that includes it, for the message.

    Raises:
      ConfigurationError: no searched folder has it.
    """
    is_absolute = os.path.isabs(name) or "://" in name
    tried = [name] if is_absolute else [os.path.join(folder, name) for folder in folders]
    for path in tried:
        if is_file(path):
            return path
    where = f" (included by {included_by})" if included_by else ""
    searched = ", ".join(os.path.abspath(os.path.dirname(path) or ".") for path in tried)
    raise errors.ConfigurationError(
        f"A gin file must exist in a searched folder; {name!r}{where} is in none of {searched}."
        f"{errors.suggestion(name, _known_files(name, folders))} `--gin_search_paths` adds "
        f"folders; the package's own files are in {package_config_folder()}."
    )


def is_file(path: str) -> bool:
    """Whether there is a file, on this machine or in a bucket.

    Raises:
      ConfigurationError: the bucket cannot be asked.
    """
    try:
        return epath.Path(path).is_file()
    except KeyError:  # What etils says of addresses of other kinds.
        return False
    # Remote file systems raise errors of their own.
    except Exception as error:
        raise errors.ConfigurationError(
            f"A bucket must answer; {path} gave {type(error).__name__}: {error}. Check its name, "
            "your rights and the network."
        ) from error


def _known_files(name: str, folders: Sequence[str]) -> list[str]:
    """Gin files that could have been meant: the package's, and neighbours of what was named."""
    known = []
    package = package_config_folder()
    for parent, _, files in os.walk(package):
        known += [os.path.relpath(os.path.join(parent, file), package) for file in files]
    own_folder = os.path.dirname(name)
    for folder in folders[:-1]:
        with contextlib.suppress(OSError):
            files = sorted(os.listdir(os.path.join(folder, own_folder) or "."))
            known += [os.path.join(own_folder, file) for file in files[:_MAX_LISTED_FILES]]
    return [file for file in known if file.endswith(".gin")]


# ---------------------------------------------------------------- flags


def is_gin_value(text: str) -> bool:
    """Whether gin reads `text` as one value: a literal, a reference or a macro.

    >>> [is_gin_value(text) for text in ("3", "(1, 2)", "'a'", "%SIZE", "/a/b", "glue_v1")]
    [True, True, True, True, False, False]
    """
    try:
        parser = config_parser.ConfigParser(text, _Recorder())
        parser.parse_value()
    except (SyntaxError, tokenize.TokenError, StopIteration, IndentationError):
        return False
    end = (tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER)
    return parser.current_token.type in end


def to_binding(name: str, value: str) -> str:
    """One `NAME = VALUE` line for gin; what is no gin value is taken as a string.

    >>> to_binding("TRAIN_STEPS", "30")
    'TRAIN_STEPS = 30'
    >>> to_binding("MODEL_DIR", "/data/run 1")
    "MODEL_DIR = '/data/run 1'"

    Raises:
      ConfigurationError: the value begins like one of gin's, but does not end like one.
    """
    value = value.strip()
    if is_gin_value(value):
        return f"{name} = {value}"
    if value[:1] in tuple("([{@%'\""):
        raise errors.ConfigurationError(
            f"The value of --gin.{name} must be one gin value; got {value!r}, which begins like "
            f"one and does not parse. Close its brackets and quotes, or quote all of it for the "
            f"shell: --gin.{name}='…'."
        )
    return f"{name} = {value!r}"


# ---------------------------------------------------------------- first reading: text alone


def read(
    gin_files: Sequence[str], bindings: Sequence[str] = (), folders: Sequence[str] = ()
) -> Text:
    """Reads files, what they include, and flags, as text.

    Args:
      gin_files: files in the order in which they bind.
      bindings: `NAME = VALUE` lines of flags.
      folders: searched folders, from `search_path`.

    Raises:
      ConfigurationError: a file that does not exist or is no valid gin.
    """
    text = Text([], {}, {}, [], [])
    for name in gin_files:
        _read_file(name, folders, text, included_by=None, open_files=())
    for binding in bindings:
        for statement, recorder in _statements(binding, FLAGS):
            place = Place(FLAGS, 0, re.sub(r"\s*=\s*", "=", binding, count=1))
            if not isinstance(statement, config_parser.BindingStatement):
                raise errors.ConfigurationError(
                    f"A gin flag must be a binding NAME=VALUE; got {binding!r}. "
                    f"Imports and includes belong into a file."
                )
            _note_macros(statement, recorder, place, text)
            text.bindings.append(Binding(statement, None, place))
            is_macro = not statement.arg_name
            text.flags.append(
                Flag(
                    binding,
                    statement.scope,
                    "" if is_macro else statement.selector,
                    statement.arg_name,
                    _macro_name(statement) * is_macro,
                    tuple(recorder.references),
                    place,
                )
            )
    return text


def _statements(source: Any, name: str) -> Iterator[tuple[Any, _Recorder]]:
    recorder = _Recorder()
    try:
        parser = config_parser.ConfigParser(source, recorder)
        for statement in parser:
            yield statement, recorder
            # A block's declaration comes before its bindings, all of them parsed by now.
            if not parser._statements_queue:
                recorder.macros.clear()
                recorder.references.clear()
    except (SyntaxError, tokenize.TokenError) as error:
        line = getattr(error, "lineno", None) or "?"
        line_text = (getattr(error, "text", None) or "").strip()
        raise errors.ConfigurationError(
            f"A gin file must hold imports, includes and bindings; {name}:{line} is none of them: "
            f"{line_text!r} ({error.args[0]}). Correct that line."
        ) from None


def _read_file(
    name: str, folders: Sequence[str], text: Text, included_by: str | None, open_files: tuple
) -> None:
    path = find_file(name, folders, included_by)
    if path in open_files:
        raise errors.ConfigurationError(
            f"Includes must not go round in a circle; {name} includes itself by way of "
            f"{' -> '.join(open_files)}. Remove one of these includes."
        )
    file = SourceFile(name, path, [], [], [], [])
    with epath.Path(path).open(encoding="utf-8") as lines:
        for statement, recorder in _statements(lines, name):
            location = statement.location
            place = Place(name, location.line_num, location.line_content.strip())
            if isinstance(statement, config_parser.IncludeStatement):
                file.includes.append(statement.filename)
                _read_file(statement.filename, folders, text, name, (*open_files, path))
            elif isinstance(statement, config_parser.ImportStatement):
                if statement.module == "__gin__.dynamic_registration":
                    file.has_dynamic_registration = True
                else:
                    file.imports.append((statement, place))
            elif isinstance(statement, config_parser.BlockDeclaration):
                file.references.append((statement.selector, place))
            else:
                _note_macros(statement, recorder, place, text)
                file.references += [(selector, place) for selector in recorder.references]
                if statement.arg_name:
                    file.parameters.append((statement.selector, statement.arg_name, place))
                text.bindings.append(Binding(statement, file, place))
    text.files.append(file)


def _macro_name(statement: config_parser.BindingStatement) -> str:
    return "/".join(filter(None, [statement.scope, statement.selector]))


def _note_macros(statement, recorder: _Recorder, place: Place, text: Text) -> None:
    for macro in recorder.macros:
        text.macro_reads.setdefault(macro, place)
    if not statement.arg_name:
        text.macro_values[_macro_name(statement)] = (statement.value, place)


def check_macros(text: Text, readers: Sequence[str] = ()) -> None:
    """Every macro that is set is read, and every macro that is read is set.

    Args:
      text: files and flags.
      readers: files of the package that are not part of this run, and may read macros, too: an
        experiment sets them for other commands.

    Raises:
      ConfigurationError: names the first that is not, where it stands, and the nearest name.
    """
    _check_macros_are_read(text, readers)
    _check_macros_are_set(text)


def _check_macros_are_read(text: Text, readers: Sequence[str]) -> None:
    reads = {**read(readers, (), search_path()).macro_reads, **text.macro_reads}
    for name, (_, place) in text.macro_values.items():
        if name not in reads:
            unset = [read for read in text.macro_reads if read not in text.macro_values]
            hint = errors.suggestion(name, unset) or errors.suggestion(name, reads)
            raise errors.ConfigurationError(
                f"Every macro that is set must be read by some gin file; {name} "
                f"(set in {place}) is read by none of the {len(text.files)} files of this run."
                f"{hint or ' Remove it, or include the file that reads it.'}"
            )


def unread_macros(text: Text) -> list[str]:
    """`NAME (set in …)` of macros that a run's own files set nobody to read."""
    return [
        f"{name} (set in {place})"
        for name, (_, place) in text.macro_values.items()
        if name not in text.macro_reads and not place.source.startswith("runs/")
    ]


def _check_macros_are_set(text: Text) -> None:
    for name, place in text.macro_reads.items():
        flag = f", or with --{name.lower()}=…" if name in OWN_FLAGS else ""
        how = f"Set it in a gin file or with --gin.{name}=…{flag}."
        if name not in text.macro_values:
            raise errors.ConfigurationError(
                f"Every macro that is read must be set; {name} (read in {place}) is set by no file "
                f"and no flag. {how}"
            )
        value, set_at = text.macro_values[name]
        if value == MacroRead(REQUIRED):
            flag = {
                "MODEL_DIR": ", or with --model_dir=…",
                "VOCABULARY": ", or with --vocabulary=…",
            }
            raise errors.ConfigurationError(
                f"{name} must be set; {set_at} declares it as required, and no later file or flag "
                f"sets it (an earlier value is erased there: include mixtures after runs). "
                f"{how}"
            )


# ---------------------------------------------------------------- second reading: what is named


def _import(statement: config_parser.ImportStatement, place: Place) -> Any:
    try:
        return importlib.import_module(statement.module)
    except ModuleNotFoundError as error:
        if error.name is None or not (statement.module + ".").startswith(error.name + "."):
            raise  # The module is there, and something that it imports is not.
        parent_name, _, child = error.name.rpartition(".")
        siblings = []
        if parent_name:
            parent = importlib.import_module(parent_name)
            siblings = [module.name for module in pkgutil.iter_modules(parent.__path__)]
        raise errors.ConfigurationError(
            f"A gin file must import modules that exist; {place} imports {statement.module!r}, "
            f"and there is no {error.name!r}.{errors.suggestion(child, siblings)} Correct the "
            f"import, or install or add to PYTHONPATH what holds it."
        ) from None


def import_modules(text: Text) -> None:
    """Imports what files import, for what these modules register.

    Raises:
      ConfigurationError: a module does not exist.
    """
    for file in text.files:
        for statement, place in file.imports:
            _import(statement, place)


def _parameter_names(configurable: Any) -> list[str] | None:
    """Names that can be bound, or None where any can."""
    construct = configurable
    if inspect.isclass(configurable):
        construct = gin_config._find_class_construction_fn(configurable)
    parameters = inspect.signature(inspect.unwrap(construct)).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters if parameter.name != "self"]


def _resolve(selector: str, symbols: Mapping[str, Any], place: Place) -> Any:
    first, *rest = selector.split(".")
    if first not in symbols:
        raise errors.ConfigurationError(
            f"A name in a gin file must come from an import of that file; {place} names "
            f"{selector!r}, and the file imports {', '.join(symbols) or 'nothing'}."
            f"{errors.suggestion(first, symbols)} Import its module there."
        )
    value = symbols[first]
    for depth, name in enumerate(rest):
        if not hasattr(value, name):
            owner = ".".join([first, *rest[:depth]])
            public = [name for name in dir(value) if not name.startswith("_")]
            raise errors.ConfigurationError(
                f"A gin file must name what a module has; {place} names {selector!r}, and {owner} "
                f"({getattr(value, '__name__', value)}) has no {name!r}."
                f"{errors.suggestion(name, public)}"
            )
        value = getattr(value, name)
    if not callable(value):
        raise errors.ConfigurationError(
            f"A gin binding must name a class or function; {place} names {selector!r}, which is "
            f"a {type(value).__name__}. Write module.ClassName.parameter = value."
        )
    return value


def _check_parameter(selector: str, configurable: Any, name: str, place: Place) -> None:
    names = _parameter_names(configurable)
    if names is not None and name not in names:
        raise errors.ConfigurationError(
            f"A gin binding must name a parameter of {selector}; {place} sets {name!r}."
            f"{errors.suggestion(name, names)} Its parameters are {', '.join(names)}."
        )


def check_parameters(text: Text) -> None:
    """Imports what the files name and looks up every parameter that they set.

    Raises:
      ConfigurationError: a module, class, function or parameter that does not exist.
    """
    for file in text.files:
        if not file.has_dynamic_registration:
            continue  # Registered names of other libraries; gin checks them when it binds.
        # What gin provides under its own name is there without an import.
        symbols = {"gin": gin_config._GinBuiltins()}
        for statement, place in file.imports:
            module = _import(statement, place)
            is_path = not statement.is_from and not statement.alias
            name = statement.bound_name()
            symbols[name] = importlib.import_module(name) if is_path else module
        for selector, place in file.references:
            _resolve(selector, symbols, place)
        for selector, name, place in file.parameters:
            _check_parameter(selector, _resolve(selector, symbols, place), name, place)


def _flag_candidates(text: Text) -> dict[str, Any]:
    """Full names of what a flag may bind: classes and functions of modules that files import."""
    candidates = {}
    for file in text.files:
        for statement, place in file.imports:
            module = _import(statement, place)
            for name, value in vars(module).items():
                is_own = getattr(value, "__module__", None) == module.__name__
                if is_own and (inspect.isclass(value) or inspect.isfunction(value)):
                    candidates[f"{module.__name__}.{name}"] = value
    return candidates


def _full_name(selector: str, candidates: Mapping[str, Any], place: Place) -> str:
    matches = [name for name in candidates if f".{name}".endswith(f".{selector}")]
    if not matches:
        depth = selector.count(".") + 1
        tails = [".".join(name.split(".")[-depth:]) for name in candidates]
        modules = sorted({name.rpartition(".")[0] for name in candidates})
        raise errors.ConfigurationError(
            f"A gin flag must name a class or function of a module that the gin files import; "
            f"{place} names {selector!r}.{errors.suggestion(selector, tails)} "
            f"They import {', '.join(modules) or 'nothing'}."
        )
    if len(matches) > 1:
        raise errors.ConfigurationError(
            f"A gin flag must name one class or function; {place} names {selector!r}, which "
            f"could be any of {', '.join(matches)}. Write more of its name."
        )
    return matches[0]


def _flag_statements(text: Text, candidates: Mapping[str, Any]) -> str:
    """The flags as gin statements with full names; gin alone knows only what a file has bound."""
    imports, lines = [], []
    for flag in text.flags:
        line = flag.binding
        if flag.selector:
            full = _full_name(flag.selector, candidates, flag.place)
            _check_parameter(flag.selector, candidates[full], flag.parameter, flag.place)
            scope = f"{flag.scope}/" if flag.scope else ""
            line = f"{scope}{full}.{flag.parameter} = {line.partition('=')[2].strip()}"
            imports.append(full.rpartition(".")[0])
        for selector in flag.references:
            full = _full_name(selector, candidates, flag.place)
            line = re.sub(rf"(@(?:\w+/)*){re.escape(selector)}(?![\w.])", rf"\g<1>{full}", line)
            imports.append(full.rpartition(".")[0])
        lines.append(line)
    header = ["from __gin__ import dynamic_registration"]
    header += [f"import {module}" for module in dict.fromkeys(imports)]
    return "\n".join([*header, *lines, ""])


# ---------------------------------------------------------------- what is used


def _used(function: Callable[..., Any]) -> dict[tuple[str, str], set[str]]:
    """What a call of `function` would read: (scope, selector) -> parameters bound there and used.

    The scopes are all in which gin would look; one in which nothing is bound has an empty set.
    """
    used: dict[tuple[str, str], set[str]] = {}
    seen = set()
    calls = [((), _configurable_of(function).selector)]
    while calls:
        call = scopes, selector = calls.pop()
        if call in seen:
            continue
        seen.add(call)
        bound = {}
        for depth in range(len(scopes) + 1):
            scope = "/".join(scopes[:depth])
            used.setdefault((scope, selector), set())
            for parameter, value in gin_config._CONFIG.get((scope, selector), {}).items():
                bound[parameter] = (scope, value)
        for parameter, (scope, value) in bound.items():
            used[scope, selector].add(parameter)
            for reference in gin_config.iterate_references(value):
                # A reference without a scope inherits the one in which it is read.
                inner = tuple(reference.scopes) or scopes
                calls.append((inner, reference.configurable.selector))
    return used


def check_types(text: Text, function: Callable[..., Any]) -> None:
    """Every literal that a call of `function` reads has the type that its parameter declares.

    Raises:
      ConfigurationError: names the first that has not, and where it is set.
    """
    for (scope, selector), parameters in _used(function).items():
        annotations = _annotations(gin_config._REGISTRY[selector].wrapped)
        for parameter in parameters:
            value = gin_config._CONFIG[scope, selector][parameter]
            where = f"{parameter}"
            while _is_macro(value):
                name = "/".join(value.scopes)
                value = gin_config._CONFIG.get((name, _MACRO), {}).get("value")
                set_at = text.macro_values[name][1] if name in text.macro_values else "a file"
                where = f"{name} (set in {set_at})"
            is_reference = isinstance(value, gin_config.ConfigurableReference)
            annotation = annotations.get(parameter, Any)
            if not is_reference and not _fits(value, annotation):
                wanted = getattr(annotation, "__name__", annotation)
                raise errors.ConfigurationError(
                    f"A value must have the type of its parameter; {where} is {value!r}, and "
                    f"{parameter} of {selector.rpartition('.')[2]} is of type {wanted}. Correct "
                    "the value."
                )


def _is_macro(value: Any) -> bool:
    is_reference = isinstance(value, gin_config.ConfigurableReference)
    return is_reference and value.configurable.selector == _MACRO


def _annotations(configurable: Any) -> dict[str, Any]:
    """Types of parameters, without those that only a type checker can look up."""
    construct = configurable
    if inspect.isclass(configurable):
        construct = gin_config._find_class_construction_fn(configurable)
    construct = inspect.unwrap(construct)
    known = vars(inspect.getmodule(configurable) or typing)
    found = {}
    for name, annotation in getattr(construct, "__annotations__", {}).items():
        with contextlib.suppress(Exception):
            found[name] = (
                eval(annotation, dict(known)) if isinstance(annotation, str) else annotation
            )
    return found


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a literal has a type, as far as that can be told; whole numbers are floats, too.

    >>> [_fits(3, float), _fits("fast", float), _fits(None, int | None), _fits(True, int)]
    [True, False, True, False]
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if annotation is None:
        return value is None
    if annotation in (int, float):
        return isinstance(value, (int, annotation)) and not isinstance(value, bool)
    if origin is collections.abc.Sequence:
        return isinstance(value, list | tuple)
    kind = origin or annotation
    try:
        return not isinstance(kind, type) or isinstance(value, kind)
    except TypeError:  # Such as protocols, which tell of no instance.
        return True


def _configurable_of(value: Callable[..., Any]) -> Any:
    """Gin's record of a class or function, or None."""
    return gin_config._inverse_lookup(value)


def check_used(
    flags: Sequence[Flag],
    candidates: Mapping[str, Any],
    function: Callable[..., Any],
    are_macros_checked: bool = True,
) -> None:
    """Every flag binds something that a call of `function` reads; gin has parsed them.

    Files may bind more: an experiment replaces what the files that it includes have bound.

    Raises:
      ConfigurationError: a flag that would have no effect; names the nearest that would.
    """
    used = _used(function)
    for flag in flags:
        if not flag.selector:
            is_read = "value" in used.get((flag.macro, _MACRO), ())
            if are_macros_checked and not is_read:
                macros = [scope for scope, selector in used if selector == _MACRO]
                raise errors.ConfigurationError(
                    f"A flag must set what this run uses; {flag.place} sets {flag.macro}, which "
                    f"only parts of the files read that are not used."
                    f"{errors.suggestion(flag.macro, macros)} Leave the flag out, or use "
                    f"what reads it."
                )
            continue
        target = candidates[_full_name(flag.selector, candidates, flag.place)]
        configurable = _configurable_of(target)
        if configurable.wrapper is target:
            continue  # Registered by its own module: code may call it, too.
        if flag.parameter not in used.get((flag.scope, configurable.selector), ()):
            short = configurable.selector.rpartition(".")[2]
            scope = f"{flag.scope}/" if flag.scope else ""
            likely = _likely_targets(configurable, flag.scope, flag.parameter, used)
            near = difflib.get_close_matches(scope + short, likely, n=1, cutoff=0.0)
            hint = f" Did you mean '{near[0]}.{flag.parameter}'?" if near else ""
            raise errors.ConfigurationError(
                f"A flag must set what this run uses; {flag.place} sets {flag.parameter} of "
                f"{scope}{short}, which is not read.{hint} Correct the flag, or leave it out."
            )


def _likely_targets(
    configurable: Any, own_scope: str, parameter: str, used: Mapping[tuple[str, str], set[str]]
) -> list[str]:
    """What is used of the same class, else of classes with this parameter, as flags name it."""
    macros = {scope for scope, selector in used if selector == _MACRO and scope}
    same, others = [], []
    for scope, selector in used:
        if scope.partition("/")[0] in macros:
            continue
        name = f"{scope}/" if scope else ""
        name += selector.rpartition(".")[2]
        if selector == configurable.selector:
            if scope != own_scope:
                same.append(name)
        elif parameter in (_parameter_names(gin_config._REGISTRY[selector].wrapped) or ()):
            others.append(name)
    return same or others


# ---------------------------------------------------------------- what a call reads, and no more


def _leaves(value: Any) -> Iterator[Any]:
    """The values in nested lists, tuples and dicts."""
    if isinstance(value, Mapping):
        value = list(value.items())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def only_needed(text: Text, root: str) -> Text:
    """Leaves out bindings, imports and reads of macros that a call of `root` does not come to.

    Args:
      text: files and flags.
      root: full name of a function.
    """
    names, found = [Reference(root, is_called=False)], set()
    needed = set()
    while names:
        name = names.pop()
        if name in found:
            continue
        found.add(name)
        for binding in text.bindings:
            if binding.binds(name):
                needed.add(binding)
                for leaf in _leaves(binding.statement.value):
                    if isinstance(leaf, MacroRead):
                        names.append(leaf)
                    elif isinstance(leaf, Reference):
                        names.append(Reference(binding.full_name(leaf.selector), is_called=False))
    bindings = [binding for binding in text.bindings if binding in needed]
    left = _with_bindings(text, bindings)
    for file in left.files:
        used = {selector.split(".")[0] for selector, *_ in (*file.parameters, *file.references)}
        file.imports = [(s, place) for s, place in file.imports if s.bound_name() in used]
    flags = [flag for flag in text.flags if flag.selector or flag.macro in left.macro_reads]
    return dataclasses.replace(left, flags=flags)


def leave_out(text: Text, modules: Sequence[str]) -> Text:
    """Leaves out the imports of some modules, and the bindings of and to what is in them.

    Args:
      text: files and flags.
      modules: full names; what is under them is left out, too.
    """

    def is_left_out(name: str) -> bool:
        return any(f"{name}.".startswith(f"{module}.") for module in modules)

    def is_kept(binding: Binding) -> bool:
        statement = binding.statement
        names = [leaf.selector for leaf in _leaves(statement.value) if isinstance(leaf, Reference)]
        if statement.arg_name:
            names.append(statement.selector)
        return not any(is_left_out(binding.full_name(name)) for name in names)

    left = _with_bindings(text, [binding for binding in text.bindings if is_kept(binding)])
    for file in left.files:
        file.imports = [(s, place) for s, place in file.imports if not is_left_out(s.module)]
    return left


def _with_bindings(text: Text, bindings: Sequence[Binding]) -> Text:
    """The text with these of its bindings alone, and the reads of macros in them."""
    files = {id(file): _only(file, [b for b in bindings if b.file is file]) for file in text.files}
    bindings = [dataclasses.replace(b, file=files.get(id(b.file))) for b in bindings]
    leaves = [leaf for binding in bindings for leaf in _leaves(binding.statement.value)]
    macros = {leaf.name for leaf in leaves if isinstance(leaf, MacroRead)}
    reads = {name: place for name, place in text.macro_reads.items() if name in macros}
    return dataclasses.replace(
        text, files=list(files.values()), macro_reads=reads, bindings=bindings
    )


def _only(file: SourceFile, bindings: Sequence[Binding]) -> SourceFile:
    """The file with these of its bindings alone."""
    parameters, references = [], []
    for binding in bindings:
        statement = binding.statement
        if statement.arg_name:
            parameters.append((statement.selector, statement.arg_name, binding.place))
        for leaf in _leaves(statement.value):
            if isinstance(leaf, Reference):
                references.append((leaf.selector, binding.place))
    return dataclasses.replace(file, parameters=parameters, references=references, includes=[])


def _to_gin(file: SourceFile, bindings: Iterable[Binding]) -> str:
    """Bindings of a file as text again, with the file's imports."""
    lines = ["from __gin__ import dynamic_registration"] if file.has_dynamic_registration else []
    lines += [statement.format() for statement, _ in file.imports]
    for binding in bindings:
        scope, selector, parameter, value, _ = binding.statement
        name = "/".join(filter(None, [scope, selector]))
        lines.append(f"{name}{'.' * bool(parameter)}{parameter or ''} = {value!r}")
    return "\n".join([*lines, ""])


# ---------------------------------------------------------------- both, then gin


@contextlib.contextmanager
def _gin_search_path(folders: Sequence[str]) -> Iterator[None]:
    prefixes, readers = gin_config._LOCATION_PREFIXES, gin_config._FILE_READERS
    before = list(prefixes), list(readers)
    prefixes[:] = folders
    # gin's reader of Python resources logs an error for every folder that lacks a file.
    readers[:] = [(lambda path: epath.Path(path).open(), is_file)]
    try:
        yield
    finally:
        prefixes[:], readers[:] = before


def parse(
    gin_files: Sequence[str],
    bindings: Sequence[str] = (),
    search_paths: Sequence[str] = (),
    function: Callable[..., Any] | None = None,
    are_macros_checked: bool = True,
    is_all_bound: bool = True,
    readers: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> str:
    """Checks files and flags, hands them to gin, and returns the whole configuration as text.

    What was bound before is forgotten. The text is valid gin and holds every binding.

    Args:
      gin_files: files in the order in which they bind; relative ones are searched for.
      bindings: `NAME = VALUE` lines, as `to_binding` makes them; they bind last.
      search_paths: folders that are searched after this one and before the package's.
      function: what will be called; each binding must reach it. None: they need not.
      are_macros_checked: whether macros must reach it, too.
      is_all_bound: False binds only what a call of `function` reads. What it does not read need not
        be set, and modules that it does not need, such as those of data, are not imported.
      readers: see `check_macros`.
      left_out: modules of which nothing is imported or bound; see `leave_out`.

    Raises:
      ConfigurationError: a file, import, macro, class or parameter that does not exist, a macro
        that nobody reads, one that is read and unset, a flag without effect, or a value of another
        type than its parameter. Nothing is written.
    """
    folders = search_path(search_paths)
    text = read(gin_files, bindings, folders)
    _check_macros_are_read(text, readers)
    if left_out:
        text = leave_out(text, left_out)
    if not is_all_bound:
        text = only_needed(text, f"{function.__module__}.{function.__qualname__}")
    _check_macros_are_set(text)
    check_parameters(text)
    named = [flag for flag in text.flags if flag.selector or flag.references]
    candidates = _flag_candidates(text) if named else {}
    flags = _flag_statements(text, candidates)
    gin.clear_config()
    with _gin_search_path(folders):
        if is_all_bound and not left_out:
            for name in gin_files:
                gin.parse_config_file(name)
        else:
            of_files = (binding for binding in text.bindings if binding.file is not None)
            for file, group in itertools.groupby(of_files, lambda binding: binding.file):
                gin.parse_config(_to_gin(file, group))
        gin.parse_config(flags)
    gin.finalize()
    if function is not None:
        check_used(text.flags, candidates, function, are_macros_checked)
        check_types(text, function)
    return gin.config_str()
