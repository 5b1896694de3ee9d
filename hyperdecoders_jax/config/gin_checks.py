"""Checks of gin files and flags against the code that they name, and of what a call reads."""

import ast
import collections.abc
import contextlib
import difflib
import functools
import graphlib
import importlib
import inspect
import pkgutil
import sys
import traceback
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gin import config_parser

from hyperdecoders_jax import errors
from hyperdecoders_jax.config import gin_private
from hyperdecoders_jax.config.gin_private import MACRO
from hyperdecoders_jax.config.gin_statements import Binding, Location, Text
from hyperdecoders_jax.installed import train_extra

# (scope, selector) -> parameters that are bound there and read.
Used = Mapping[tuple[str, str], set[str]]


def import_module(name: str, where: str) -> Any:
    """Imports a module that a user names; `where` says so in messages.

    Raises ModuleNotFoundError if it is not there, and ConfigurationError if importing it fails.
    """
    try:
        return importlib.import_module(name)
    # A script's sys.exit(), too: it would end this process without a word.
    except (Exception, SystemExit) as error:
        is_there = not isinstance(error, ModuleNotFoundError)
        if not is_there and f"{name}.".startswith(f"{error.name}."):
            raise
        if not is_there:
            train_extra.check_for(error)
        if isinstance(error, SyntaxError):
            file, line = error.filename, error.lineno
        else:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            file, line = frame.filename, frame.lineno
        raise errors.ConfigurationError(
            f"A module must import without an error; {name} ({where}) raised "
            f"{type(error).__name__}: {errors.message_of(error)}, at {file}:{line}. Correct it, or "
            "install what it needs."
        ) from error


def _import(statement: config_parser.ImportStatement, location: Location) -> Any:
    try:
        return import_module(statement.module, str(location))
    except ModuleNotFoundError as error:
        parent, _, child = error.name.rpartition(".")
        # Top-level names are not suggested: thousands may be installed.
        folders = importlib.import_module(parent).__path__ if parent else []
        siblings = [module.name for module in pkgutil.iter_modules(folders)]
        raise errors.ConfigurationError(
            f"A gin file must import modules that exist; {location} imports {statement.module!r}, "
            f"and there is no {error.name!r}.{errors.suggestion(child, siblings)} Correct it, or "
            "install or add to PYTHONPATH what holds it."
        ) from None


def import_modules(text: Text) -> None:
    """Imports what files import, for what these modules register."""
    for file in text.files:
        for statement, location in file.imports:
            _import(statement, location)


def check_parameters(text: Text) -> None:
    """Imports what the files name; a ConfigurationError if a name or parameter is unknown."""
    for file in text.files:
        if file.dynamic_registration is None:
            continue  # Registered names of other libraries; gin checks them when it binds.
        symbols = {"gin": gin_private.builtins()}
        for statement, location in file.imports:
            module = _import(statement, location)
            name = statement.bound_name()
            # `import a.b` binds `a`.
            is_path = not statement.is_from and not statement.alias
            symbols[name] = importlib.import_module(name) if is_path else module
        for binding in text.bindings:
            if binding.file is not file:
                continue
            for selector in binding.references:
                _resolve(selector, symbols, binding.location)
            if not binding.macro:
                selector = binding.statement.selector
                value = _resolve(selector, symbols, binding.class_location)
                _check_parameter(selector, value, binding)


def _resolve(selector: str, symbols: Mapping[str, Any], location: Location) -> Any:
    first, *rest = selector.split(".")
    if first not in symbols:
        scoped = _with_scope(selector, lambda name: name.partition(".")[0] in symbols)
        near = f" Did you mean {scoped!r}?" if scoped else errors.suggestion(first, symbols)
        raise errors.ConfigurationError(
            f"A name in a gin file must come from an import of that file; {location} names "
            f"{selector!r}, and the file imports {', '.join(symbols) or 'nothing'}.{near} Import "
            "its module there."
        )
    value = symbols[first]
    for depth, name in enumerate(rest):
        if not hasattr(value, name):
            owner = ".".join([first, *rest[:depth]])
            public = [name for name in dir(value) if not name.startswith("_")]
            raise errors.ConfigurationError(
                f"A gin file must name what a module has; {location} names {selector!r}, and "
                f"{owner} ({getattr(value, '__name__', value)}) has no {name!r}."
                f"{errors.suggestion(name, public)}"
            )
        value = getattr(value, name)
    if not callable(value):
        raise errors.ConfigurationError(
            f"A gin binding must name a class or function; {location} names {selector!r}, which is "
            f"a {type(value).__name__}. Write module.ClassName.parameter = value."
        )
    return value


def _with_scope(selector: str, is_known: Callable[[str], bool]) -> str | None:
    """`scope/Name` for `scope.Name`, as T5X's users write scopes, where `Name` alone is known."""
    parts = selector.split(".")
    for depth in range(1, len(parts)):
        if is_known(name := ".".join(parts[depth:])):
            return "/".join([*parts[:depth], name])
    return None


def _parameter_names(configurable: Callable[..., Any]) -> list[str] | None:
    """Names that can be bound, or None where any can."""
    # Not of the class: gin binds what `__init__` takes, whatever a metaclass says.
    parameters = inspect.signature(gin_private.constructor(configurable)).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters if parameter.name != "self"]


def _check_parameter(selector: str, configurable: Callable[..., Any], binding: Binding) -> None:
    names, name = _parameter_names(configurable), binding.statement.arg_name
    if names is not None and name not in names:
        raise errors.ConfigurationError(
            f"A gin binding must name a parameter of {selector}; {binding.location} sets {name!r}."
            f"{errors.suggestion(name, names)} Its parameters are {', '.join(names)}."
        )


def resolve_flags(text: Text) -> dict[Binding, Binding]:
    """Each flag with the full names of what it binds and refers to, or a ConfigurationError.

    gin alone knows only what a file has bound; a flag may name all of modules that files import.
    """
    # Without selectors nothing need be imported.
    candidates = _flag_candidates(text) if any(flag.selectors for flag in text.flags) else {}
    resolved = {}
    for flag in text.flags:
        resolved[flag] = flag.rename(functools.partial(_full_name, candidates, flag.location))
        if not flag.macro:
            configurable = candidates[resolved[flag].statement.selector]
            _check_parameter(flag.statement.selector, configurable, flag)
    return resolved


def _flag_candidates(text: Text) -> dict[str, Callable[..., Any]]:
    """Full names of what a flag may bind: classes and functions of modules that files import."""
    candidates = {}
    for file in text.files:
        for statement, location in file.imports:
            module = _import(statement, location)
            for name, value in vars(module).items():
                # What a module has imported would make the names of flags ambiguous.
                is_own = getattr(value, "__module__", None) == module.__name__
                if is_own and (inspect.isclass(value) or inspect.isfunction(value)):
                    candidates[f"{module.__name__}.{name}"] = value
    return candidates


def _matches(candidates: Mapping[str, Any], selector: str) -> list[str]:
    return [name for name in candidates if f".{name}".endswith(f".{selector}")]


def _full_name(candidates: Mapping[str, Any], location: Location, selector: str) -> str:
    matches = _matches(candidates, selector)
    if not matches:
        depth = selector.count(".") + 1
        tails = [".".join(name.split(".")[-depth:]) for name in candidates]
        modules = sorted({name.rpartition(".")[0] for name in candidates})
        scoped = _with_scope(selector, functools.partial(_matches, candidates))
        near = errors.suggestion(selector, tails)
        if scoped:  # The parameter, too: the flag can be pasted.
            near = f" Did you mean '{str(location).replace(selector, scoped, 1)}'?"
        raise errors.ConfigurationError(
            f"A gin flag must name a class or function of a module that the gin files import; "
            f"{location} names {selector!r}.{near} "
            f"They import {', '.join(modules) or 'nothing'}."
        )
    if len(matches) > 1:
        raise errors.ConfigurationError(
            f"A gin flag must name one class or function; {location} names {selector!r}, which "
            f"could be any of {', '.join(matches)}. Write more of its name."
        )
    return matches[0]


def find_used(function: Callable[..., Any]) -> Used:
    """What a call of `function` would read of what gin has bound; empty for scopes without.

    Raises ConfigurationError if a call would make itself again: gin would go round for ever.
    """
    used: dict[tuple[str, str], set[str]] = {}
    made: dict[Any, list] = {}  # Call -> calls whose results are its arguments.
    calls = [((), gin_private.selector_of(function))]
    while calls:
        call = scopes, selector = calls.pop()
        if call in made:
            continue
        made[call] = []
        bound = {}
        for depth in range(len(scopes) + 1):
            scope = "/".join(scopes[:depth])
            used.setdefault((scope, selector), set())
            # An inner scope's value replaces that of an outer one, which is then not read.
            for parameter, value in gin_private.bound_parameters(scope, selector).items():
                bound[parameter] = (scope, value)
        for parameter, (scope, value) in bound.items():
            used[scope, selector].add(parameter)
            for inner, other, is_called in gin_private.references(value):
                # A reference without a scope inherits the one in which it is read.
                calls.append((inner or scopes, other))
                if is_called:
                    made[call].append(calls[-1])
    try:
        graphlib.TopologicalSorter(made).prepare()
    except graphlib.CycleError as error:
        circle = [_call_name(*call) for call in error.args[1][::-1]]  # From caller to called.
        raise errors.ConfigurationError(
            f"A call must not need its own result; {' -> '.join(circle)} is a circle. Bind another "
            f"value to {circle[0]}."
        ) from None
    return used


def _call_name(scopes: Sequence[str], selector: str) -> str:
    """How gin files name a call: a macro, or a class with its scope."""
    if selector == MACRO:
        return "/".join(scopes)
    return "/".join([*scopes, ".".join(selector.split(".")[-2:])])


def check_used(flags: Mapping[Binding, Binding], used: Used, are_macros_checked: bool) -> None:
    """Raises ConfigurationError for a flag without effect, with the nearest that would have one.

    `flags` maps flags as written to those with full names. Files may bind more than is `used`: an
    experiment replaces what the files that it includes have bound.
    """
    for flag, resolved in flags.items():
        if not flag.macro:
            _check_parameter_is_used(flag, resolved, used)
        elif are_macros_checked and "value" not in used.get((flag.macro, MACRO), ()):
            macros = [scope for scope, selector in used if selector == MACRO]
            raise errors.ConfigurationError(
                f"A flag must set what this run uses; {flag.location} sets {flag.macro}, which "
                f"only parts of the files read that are not used."
                f"{errors.suggestion(flag.macro, macros)} Leave the flag out, or use its reader."
            )


def _check_parameter_is_used(flag: Binding, resolved: Binding, used: Used) -> None:
    scope, full_name, parameter, *_ = resolved.statement
    module, _, name = full_name.rpartition(".")
    target = getattr(importlib.import_module(module), name)
    if gin_private.is_decorated(target):
        return  # Code may call it, too.
    selector = gin_private.selector_of(target)
    if parameter in used.get((scope, selector), ()):
        return
    scoped_name = f"{scope}/{name}" if scope else name
    likely = _likely_targets(selector, scope, parameter, used)
    # Without a cutoff: all of these have the parameter, so the nearest name helps however far.
    near = difflib.get_close_matches(scoped_name, likely, n=1, cutoff=0.0)
    hint = f" Did you mean '{near[0]}.{parameter}'?" if near else ""
    raise errors.ConfigurationError(
        f"A flag must set what this run uses; {flag.location} sets {parameter} of {scoped_name}, "
        f"which is not read.{hint} Correct the flag, or leave it out."
    )


def _likely_targets(own_selector: str, own_scope: str, parameter: str, used: Used) -> list[str]:
    """What is used of the same class, else of classes with this parameter, as flags name it."""
    macros = {scope for scope, selector in used if selector == MACRO and scope}
    same, others = [], []
    for scope, selector in used:
        if scope.partition("/")[0] in macros:
            continue
        name = "/".join(filter(None, [scope, selector.rpartition(".")[2]]))
        if selector == own_selector:
            if scope != own_scope:
                same.append(name)
        elif parameter in (_parameter_names(gin_private.wrapped(selector)) or ()):
            others.append(name)
    return same or others


def check_types(text: Text, used: Used) -> None:
    """Raises ConfigurationError unless every used literal has its parameter's declared type."""
    for (scope, selector), parameters in used.items():
        annotations = _annotations(gin_private.wrapped(selector))
        for parameter in parameters:
            value, where = gin_private.bound_parameters(scope, selector)[parameter], parameter
            # Ends: `gin_files.check_macros` lets no macro refer to itself.
            while gin_private.is_macro(value):
                name = "/".join(value.scopes)
                value = gin_private.bound_parameters(name, MACRO).get("value")
                set_at = text.macro_values[name][1] if name in text.macro_values else "a file"
                where = f"{name} (set in {set_at})"
            annotation = annotations.get(parameter, Any)
            if not gin_private.is_reference(value) and not _fits(value, annotation):
                is_generic = typing.get_origin(annotation) is not None
                wanted = annotation if is_generic else getattr(annotation, "__name__", annotation)
                # 1e3 is a float to Python.
                is_whole = isinstance(value, float) and value.is_integer()
                how = (
                    f"Write {int(value)}."
                    if is_whole and _fits(int(value), annotation)
                    else ("Correct it.")
                )
                raise errors.ConfigurationError(
                    f"A value must have the type of its parameter; {where} is {value!r}, and "
                    f"{parameter} of {selector.rpartition('.')[2]} is of type {wanted}. {how}"
                )


def _annotations(configurable: Callable[..., Any]) -> dict[str, Any]:
    """Types of parameters, without those whose names only a type checker can look up."""
    known, found = _names_of(inspect.getmodule(configurable) or typing), {}
    annotations = getattr(gin_private.constructor(configurable), "__annotations__", {})
    for name, annotation in annotations.items():
        # One at a time: names imported under TYPE_CHECKING alone fail, and would fail the others.
        one = types.SimpleNamespace(__annotations__={name: annotation})
        with contextlib.suppress(Exception):
            found |= typing.get_type_hints(one, globalns=known)
    return found


@functools.cache
def _names_of(module: types.ModuleType) -> Mapping[str, Any]:
    """Names of a module, with those imported under TYPE_CHECKING of modules that are loaded."""
    names = dict(vars(module))
    with contextlib.suppress(OSError, TypeError, SyntaxError):  # Such as no source file.
        for node in ast.parse(inspect.getsource(module)).body:
            if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
                continue
            for line in (x for x in node.body if isinstance(x, ast.ImportFrom)):
                loaded = sys.modules.get(line.module)
                for alias in line.names if loaded else ():
                    if hasattr(loaded, alias.name):
                        names[alias.asname or alias.name] = getattr(loaded, alias.name)
    return names


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a literal has a type, as far as that can be told; whole numbers are floats, too.

    >>> [_fits(3, float), _fits("fast", float), _fits(None, int | None), _fits(True, int)]
    [True, False, True, False]
    >>> [_fits({"a": (3, "x")}, Mapping[str, tuple[int, int]]), _fits(["a"], Sequence[str])]
    [False, True]
    """
    if gin_private.is_reference(value):
        return True
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if annotation in (int, float):  # Python has True as an int, a gin file would mean a mistake.
        return isinstance(value, (int, annotation)) and not isinstance(value, bool)
    # A string is a sequence, too, and is never meant; gin's brackets are lists.
    if origin in (collections.abc.Sequence, tuple, list):
        if not isinstance(value, list | tuple):
            return False
        if origin is not tuple or arguments[1:] == (...,):
            return all(_fits(item, *arguments[:1]) for item in value) if arguments else True
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin in (collections.abc.Mapping, dict) and isinstance(value, Mapping):
        key_type, item_type = arguments or (Any, Any)
        return all(_fits(k, key_type) and _fits(x, item_type) for k, x in value.items())
    kind = origin or annotation
    try:
        return not isinstance(kind, type) or isinstance(value, kind)
    except TypeError:  # Such as protocols, which tell of no instance.
        return True
