"""The adapter sources' names and traits: configurations are checked and read without a class."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from hyperdecoders_jax import errors


@dataclasses.dataclass(frozen=True)
class Traits:
    """What a configuration must know of a source."""

    reads_tasks: bool = False  # learns something for each task: their number must be known
    options_class: type | None = None  # frozen dataclass of the source's own hyperparameters


_TRAITS: dict[str, Traits] = {
    "none": Traits(),
    "manual": Traits(),
    "manual_specific": Traits(reads_tasks=True),
    "task": Traits(reads_tasks=True),
    "generated": Traits(),
}
BUILT_IN = tuple(_TRAITS)


def add(name: str, traits: Traits) -> None:
    """Adds a name other than the built-in ones, or replaces its traits."""
    if name in BUILT_IN or not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise ValueError(
            "The name of an adapter source must be a lower-case identifier other than "
            f"{', '.join(BUILT_IN)}; got {name!r}. Choose another."
        )
    options = traits.options_class
    # Configurations are keys of JAX's caches of compiled functions: they must hash and not change.
    if options is not None and not (
        dataclasses.is_dataclass(options) and options.__dataclass_params__.frozen
    ):
        raise TypeError(
            f"The options of an adapter source must be a frozen dataclass; {name!r} has "
            f"{options!r}. Decorate the class with @dataclasses.dataclass(frozen=True)."
        )
    _TRAITS[name] = traits


def traits_of(name: str) -> Traits:
    """The traits of a registered source, or ValueError."""
    if name not in _TRAITS:
        raise ValueError(
            f"AdapterConfig.source must be one of {tuple(_TRAITS)}; got {name!r}."
            f"{errors.suggestion(str(name), _TRAITS)} A source of your own is known once the "
            "module that registers it is imported: in Python, in a gin file, or by --module=NAME. "
            "Reading a folder never imports it."
        )
    return _TRAITS[name]


def checked_options(name: str, options: Any) -> Any:
    """The options of a source or its defaults; TypeError for a class or values that JSON loses."""
    options_class = traits_of(name).options_class
    if options is None and options_class is not None:
        options = options_from_dict(name, {})
    if not isinstance(options, options_class or type(None)):
        wanted = "None" if options_class is None else f"a {options_class.__name__}"
        raise TypeError(
            f"AdapterConfig.options must be {wanted} for the source {name!r}; got {options!r}. In "
            "gin bind it with @, for example options = @my_adapters.MixedOptions()."
        )
    if options is None:
        return None
    try:
        saved = json.loads(json.dumps(dataclasses.asdict(options)))
        is_plain = options_from_dict(name, saved) == options
    except TypeError:
        is_plain = False
    if not is_plain:
        raise TypeError(
            "AdapterConfig.options must hold numbers, texts, booleans, None and tuples of these, "
            f"which JSON keeps; got {options!r}. Convert lists to tuples in its __post_init__."
        )
    return options


def options_from_dict(name: str, fields: Mapping[str, Any]) -> Any:
    """The options of a source from plain values; see `make`."""
    return make(traits_of(name).options_class, {key: _to_tuples(x) for key, x in fields.items()})


def _to_tuples(value: Any) -> Any:
    return tuple(map(_to_tuples, value)) if isinstance(value, list) else value


def make(config_class: type, fields: Mapping[str, Any]) -> Any:
    """A dataclass from its fields by name; ValueError if one is unknown or missing."""
    known = {field.name: field for field in dataclasses.fields(config_class) if field.init}
    required = {
        name
        for name, field in known.items()
        if field.default is field.default_factory is dataclasses.MISSING
    }
    unknown, missing = sorted(set(fields) - set(known)), sorted(required - set(fields))
    if unknown or missing:
        raise ValueError(
            f"The fields of a {config_class.__name__} must be among {tuple(known)}, and "
            f"{tuple(sorted(required))} must be there; unknown: {unknown or 'none'}, missing: "
            f"{missing or 'none'}. A newer version of this package may have written them: update "
            "it, or correct the file."
        )
    return config_class(**fields)
