"""Modules that gin files of earlier versions import, under their names of today.

A run keeps its `config.gin`, and names in it are modules of the version that wrote it. Such a file
still works with `--gin_file`: what moved is imported from where it is now, and bindings of what was
removed are skipped, since today's run files bind the same macros. Add a line here whenever a module
that gin files import moves.
"""

from __future__ import annotations

import dataclasses

from gin import config_parser

from hyperdecoders_jax import errors
from hyperdecoders_jax.config import gin_statements
from hyperdecoders_jax.config.gin_statements import Binding, MacroRead, Reference, Text

# Module then -> module now, with what is under it.
MOVED = {
    "hyperdecoders_jax.trained_model": "hyperdecoders_jax.trained.trained_model",
}

# Class and former parameter -> parameter now. Renamed here, and not in the class alone, so that the
# last of several bindings wins whichever name it uses.
RENAMED_PARAMETERS = {("hyperdecoders_jax.modeling.config.AdapterConfig", "targets"): "sites"}

# What bound a command's function: today's run files do that, from the same macros.
REMOVED = (
    "hyperdecoders_jax.analyze",
    "hyperdecoders_jax.convert",
    "hyperdecoders_jax.eval",
    "hyperdecoders_jax.infer",
    "hyperdecoders_jax.params",
    "hyperdecoders_jax.preparation",
    "hyperdecoders_jax.train",
)


def update(text: Text) -> Text:
    """The text with modules of today.

    Raises:
        ConfigurationError: a literal is bound to a parameter of a module that was removed; skipping
            it would change the run.
    """
    bindings = tuple(map(_rename_parameter, text.bindings))
    text = Text(text.files, bindings, text.skipped)
    kept = gin_statements.skip_modules(text, REMOVED)
    for binding in kept.skipped[len(text.skipped) :]:
        _check_is_repeated(binding)
    renames = {
        file: {
            statement.module: new_name(statement.module)
            for statement, _ in file.imports
            if new_name(statement.module) != statement.module
        }
        for file in kept.files
    }
    if not any(renames.values()):
        return kept
    bindings = tuple(
        binding.rename(lambda name, file=binding.file: _new_selector(name, renames[file]))
        if renames.get(binding.file)
        else binding
        for binding in kept.bindings
    )
    for file in kept.files:
        file.imports = [(_new_import(statement), place) for statement, place in file.imports]
    return Text(kept.files, bindings, kept.skipped)


def new_name(module: str) -> str:
    """Name of today of a module.

    >>> new_name("hyperdecoders_jax.trained_model")
    'hyperdecoders_jax.trained.trained_model'
    >>> new_name("hyperdecoders_jax.losses")
    'hyperdecoders_jax.losses'
    """
    for old, new in MOVED.items():
        if f"{module}.".startswith(f"{old}."):
            return new + module.removeprefix(old)
    return module


def _new_import(statement: config_parser.ImportStatement) -> config_parser.ImportStatement:
    new = statement._replace(module=new_name(statement.module))
    # Bindings go on using the name that the file knows.
    if statement.is_from and new.bound_name() != statement.bound_name():
        new = new._replace(alias=statement.bound_name())
    return new


def _new_selector(selector: str, renames: dict[str, str]) -> str:
    """Renames what is written in full; after `from … import`, the first name is the module's."""
    for old, new in renames.items():
        if selector.startswith(f"{old}."):
            return new + selector.removeprefix(old)
    return selector


def _rename_parameter(binding: Binding) -> Binding:
    statement = binding.statement
    for (owner, former), new in RENAMED_PARAMETERS.items():
        # A flag may name the end of its class alone.
        is_owner = f".{owner}".endswith(f".{binding.full_name(statement.selector)}")
        if statement.arg_name == former and is_owner:
            return dataclasses.replace(binding, statement=statement._replace(arg_name=new))
    return binding


def _check_is_repeated(binding: Binding) -> None:
    leaves = list(gin_statements.leaves(binding.statement.value))
    if binding.macro or any(isinstance(leaf, MacroRead | Reference) for leaf in leaves):
        return
    name = f"{binding.statement.selector}.{binding.statement.arg_name}"
    raise errors.ConfigurationError(
        f"A gin file must bind what this version has; {binding.location} sets {name} of "
        f"{binding.full_name(binding.statement.selector)}, which was removed. Set the macro that "
        "the command's file in gin_configs/runs reads there, and remove this line."
    )
