"""Names that gin files of earlier versions use, as they are today.

A run's `config.gin` names modules of the version that wrote it and still works with `--gin_file`:
moved modules are imported from where they are now, bindings of removed ones are skipped, since
today's run files bind the same macros, and parameters have their new names.
"""

import dataclasses
import functools

from gin import config_parser

from hyperdecoders_jax import errors
from hyperdecoders_jax.config import gin_statements
from hyperdecoders_jax.config.gin_statements import Binding, MacroRead, Reference, SourceFile, Text

# Module then -> module now, with what is under it. Whoever moves a module that gin files import
# adds a line: a file that a user saved cannot be corrected here.
MOVED = {"hyperdecoders_jax.trained_model": "hyperdecoders_jax.trained.start"}

# Class and former parameter -> parameter now. Renamed here, and not in the class alone, so that the
# last of several bindings wins whichever name it uses.
RENAMED_PARAMETERS = {("hyperdecoders_jax.modeling.config.AdapterConfig", "targets"): "sites"}

# What bound a command's function: today's run files do that, from the same macros.
REMOVED = tuple(
    f"hyperdecoders_jax.{name}"
    for name in ("analyze", "convert", "eval", "infer", "params", "preparation", "train")
)


def update(text: Text) -> Text:
    """The text with names of today; literals for removed modules are a ConfigurationError."""
    text = Text(text.files, tuple(map(_rename_parameter, text.bindings)), text.skipped)
    kept = gin_statements.skip_modules(text, REMOVED)
    for binding in kept.skipped[len(text.skipped) :]:
        _check_is_repeated(binding)
    modules = {statement.module for file in kept.files for statement, _ in file.imports}
    if all(new_name(module) == module for module in modules):
        return kept
    bindings = tuple(
        b if b.file is None else b.rename(functools.partial(_new_selector, b.file))
        for b in kept.bindings
    )
    for file in kept.files:  # Copies of this call, which nobody else has.
        file.imports = [(_new_import(statement), where) for statement, where in file.imports]
    return Text(kept.files, bindings, kept.skipped)


def new_name(module: str) -> str:
    """Name of today of a module.

    >>> new_name("hyperdecoders_jax.trained_model")
    'hyperdecoders_jax.trained.start'
    >>> new_name("hyperdecoders_jax.losses")
    'hyperdecoders_jax.losses'
    """
    for old, new in MOVED.items():
        if f"{module}.".startswith(f"{old}."):
            return new + module.removeprefix(old)
    return module


def _new_import(statement: config_parser.ImportStatement) -> config_parser.ImportStatement:
    new = statement._replace(module=new_name(statement.module))
    # Bindings of the file go on using the name that they know.
    if statement.is_from and new.bound_name() != statement.bound_name():
        new = new._replace(alias=statement.bound_name())
    return new


def _new_selector(file: SourceFile, selector: str) -> str:
    for statement, _ in file.imports:
        # After `import a.b`, names are written in full; after others, with the module's own name.
        is_path = not statement.is_from and not statement.alias
        if is_path and selector.startswith(f"{statement.module}."):
            return new_name(statement.module) + selector.removeprefix(statement.module)
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
    # A reference or macro repeats what the run file binds. A literal was set by a flag of then:
    # without it the run would be another one.
    leaves = gin_statements.leaves(binding.statement.value)
    if any(isinstance(leaf, MacroRead | Reference) for leaf in leaves):
        return
    name = f"{binding.statement.selector}.{binding.statement.arg_name}"
    raise errors.ConfigurationError(
        f"A gin file must bind what this version has; {binding.location} sets {name} of "
        f"{binding.full_name(binding.statement.selector)}, which was removed. Set the macro that "
        "the command's file in gin_configs/runs reads there, and remove this line."
    )
