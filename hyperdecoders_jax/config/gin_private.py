"""gin's private names: the only module that uses them, one function for each use.

gin publishes how to bind values, not how to look up what is bound, which the checks need. Tested
with gin-config 0.5; a newer gin that renames something changes this file only.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gin import config as gin_config

# Selector under which gin keeps macros: `NAME = 3` binds `NAME/gin.macro.value`.
MACRO = "gin.macro"


def bound_parameters(scope: str, selector: str) -> Mapping[str, Any]:
    """Values bound to a class or function in exactly this scope."""
    return gin_config._CONFIG.get((scope, selector), {})


def wrapped(selector: str) -> Callable[..., Any]:
    """The original class or function that is registered as `selector`."""
    return gin_config._REGISTRY[selector].wrapped


def selector_of(value: Callable[..., Any]) -> str | None:
    """Full name under which a class or function is registered, or None."""
    return getattr(gin_config._inverse_lookup(value), "selector", None)


def is_decorated(value: Callable[..., Any]) -> bool:
    """Whether `value` was registered by its own module, with `@gin.configurable`."""
    # Names that files register dynamically are wrapped for references alone; the module keeps the
    # original, which is then not the wrapper.
    return getattr(gin_config._inverse_lookup(value), "wrapper", None) is value


def constructor(configurable: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose parameters can be bound: of a class the first `__init__` or `__new__`."""
    if inspect.isclass(configurable):
        configurable = gin_config._find_class_construction_fn(configurable)
    return inspect.unwrap(configurable)


def builtins() -> Any:
    """What files may name as `gin.…` without an import: `macro`, `constant`, `singleton`."""
    # The object itself: its `constant` is a function that has no public name.
    return gin_config._GinBuiltins()


def is_macro(value: Any) -> bool:
    """Whether a bound value is `%NAME`."""
    return is_reference(value) and value.configurable.selector == MACRO


def macro_of(parameter: str) -> str | None:
    """NAME where `scope/Class.parameter` is `%NAME`, in its scope or else without; or None."""
    for name in (parameter, parameter.rpartition("/")[2]):
        try:
            value = gin_config.query_parameter(name)
        except ValueError:  # Nothing is bound.
            continue
        return "/".join(value.scopes) if is_macro(value) else None
    return None


def is_reference(value: Any) -> bool:
    """Whether a bound value is `@name`, `@name()` or `%NAME`."""
    return isinstance(value, gin_config.ConfigurableReference)


def references(value: Any) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    """(scopes, selector, whether it is called) of the references in nested containers."""
    for reference in gin_config.iterate_references(value):
        yield tuple(reference.scopes), reference.configurable.selector, reference.evaluate
