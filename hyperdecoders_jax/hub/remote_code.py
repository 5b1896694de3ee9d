"""The PyTorch model as one Python file, which an export carries to users without this package.

The file holds those definitions of this package that the two classes of `_ROOTS` need, their text
unchanged, module by module in the order in which Python would import them. A module that others
read by its name becomes a namespace of that name.
Source: transformers, "Sharing custom models": files named by `auto_map` in a `config.json`.
"""

from __future__ import annotations

import ast
import collections
import dataclasses
import functools
import itertools
import pathlib
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping
from typing import NoReturn

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.modeling import source_registry
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import exported_folder

FILE = "modeling_hyperdecoder.py"
AUTO_MAP = {
    "AutoConfig": "modeling_hyperdecoder.HyperdecoderConfig",
    "AutoModelForSeq2SeqLM": "modeling_hyperdecoder.HyperdecoderForConditionalGeneration",
}
_ROOTS = (
    ("hub.hyperdecoder_config", "HyperdecoderConfig"),
    ("hub.torch_model", "HyperdecoderForConditionalGeneration"),
)
_PACKAGE = pathlib.Path(files.__file__).parent
# What may be imported: transformers, and what it needs itself.
_LIBRARIES = sys.stdlib_module_names | {"numpy", "torch", "transformers"}
_SHAPES = ("Bool", "Float", "Int")
_HEADER = '''\
"""Hyperdecoders and HyperGrid on T5 for transformers: the model of this folder's weights.

    AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)

Made by hyperdecoders_jax {version} from its own source, Apache License 2.0; it needs PyTorch and
transformers alone. Do not edit: `hyperdecoders export --with_code` writes it anew.
Source: Ivison & Peters 2022 (arXiv:2203.08304); Tay et al. 2021 (arXiv:2007.05891).
"""

from __future__ import annotations

{imports}

# Shapes in signatures are for readers.
{shapes} = Annotated
'''


def check(config: TransformerConfig, formats: Collection[str]) -> None:
    """Raises UsageError unless the file is of use to an export of a model in these formats."""
    if exported_folder.is_plain(config):
        raise errors.UsageError(
            "--with_code must be of a model that something adapts; this one is a plain T5, whose "
            "code transformers has. Leave it out, or keep gates that all examples share: --no-fold."
        )
    if "safetensors" not in formats:
        raise errors.UsageError(
            "--with_code writes a PyTorch model and needs --format=safetensors; got "
            f"--format={','.join(formats)}. Add safetensors."
        )
    sources = {config.encoder_adapter.source, config.decoder_adapter.source}
    if others := sorted(sources - {*source_registry.BUILT_IN}):
        raise errors.UsageError(
            "--with_code has the package's own adapter sources, "
            f"{', '.join(source_registry.BUILT_IN)}; this model's is {others[0]!r}. Leave the flag "
            "out: such a model is for Flax and JAX."
        )


def render() -> str:
    """The file's text."""
    needed = _needed()
    counts = collections.Counter(itertools.chain(*needed.values()))

    def in_file(module: str, name: str) -> str:
        return name if counts[name] == 1 else f"{module.rpartition('.')[2]}_{name}"

    imports = {("types", "SimpleNamespace"), ("typing", "Annotated")}
    sections = []
    for module, names in needed.items():
        imports |= {_library(module, read) for read in module.reads(names)} - {None}
        path = module.name.replace(".", "/")
        origins = {name: (module.name, name) for name in names} | module.imported
        new_names = {name: in_file(*origin) for name, origin in origins.items()}
        section = [f"# From {_PACKAGE.name}/{path}.py", *module.texts(names, new_names)]
        if read_by_name := _read_by_name(module, needed):
            aliases = sorted({read.name for read in read_by_name})
            fields = sorted({read.attribute for read in read_by_name})
            values = ", ".join(f"{field}={new_names[field]}" for field in fields)
            made = f"{' = '.join(aliases)} = SimpleNamespace({values})"
            section.append(textwrap.fill(made, 100, subsequent_indent="    "))
        sections.append("\n\n\n".join(section))
    head = _HEADER.format(
        version=files.VERSION, imports=_import_lines(imports), shapes=" = ".join(_SHAPES)
    )
    return "\n\n\n".join([head.rstrip(), *sections]) + "\n"


def _import_lines(imports: Collection[tuple[str, str]]) -> str:
    """Import statements of (module, "name as alias"); no module's name for one as a whole."""
    wholes = sorted(f"import {name}" for origin, name in imports if not origin)
    names = collections.defaultdict(list)
    for origin, name in sorted(imports):
        names[origin].append(name)
    parts = [f"from {origin} import {', '.join(names[origin])}" for origin in names if origin]
    return "\n".join([*wholes, *parts])


@dataclasses.dataclass(frozen=True)
class _Read:
    """A name that code reads, alone or as `name.attribute`."""

    name: str
    attribute: str | None
    in_annotation: bool  # Never evaluated: readers alone need it.


@dataclasses.dataclass(frozen=True, eq=False)
class _Module:
    """One file of this package, as far as its text goes."""

    name: str  # such as "hub.torch_model"
    text: str
    definitions: dict[str, ast.stmt]  # name → the statement that binds it
    modules: dict[str, str]  # alias → module of this package
    imported: dict[str, tuple[str, str]]  # name → module of this package, and its name there
    libraries: dict[str, tuple[str, str]]  # name → as `_import_lines` takes it

    def reads(self, names: Collection[str]) -> list[_Read]:
        """What some of its definitions read."""
        return [read for name in names for read in _reads(self.definitions[name])]

    def texts(self, names: Collection[str], new_names: Mapping[str, str]) -> list[str]:
        """Definitions as they lie in the file, with the comments above them, some renamed."""
        lines, found = self.text.splitlines(), {}
        nodes = set(map(self.definitions.get, names))
        renamed = {old: new for old, new in new_names.items() if new != old}
        for node in nodes:
            for line, column, name in sorted(_positions(node, renamed), reverse=True):
                text = lines[line - 1].encode()  # Columns count bytes.
                end = text[column + len(name.encode()) :]
                lines[line - 1] = (text[:column] + renamed[name].encode() + end).decode()
        for node in nodes:
            first = min(x.lineno for x in (node, *getattr(node, "decorator_list", ()))) - 1
            while first and lines[first - 1].startswith("#"):
                first -= 1
            found[first] = "\n".join(lines[first : node.end_lineno])
        return [text for _, text in sorted(found.items())]


@functools.cache
def _module(name: str) -> _Module:
    text = (_PACKAGE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
    made = _Module(name, text, {}, {}, {}, {})
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                _add_import(made, getattr(node, "module", None), alias)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for bound in (x for target in targets for x in ast.walk(target)):
                if isinstance(bound, ast.Name) and isinstance(bound.ctx, ast.Store):
                    made.definitions[bound.id] = node
                elif isinstance(bound, ast.Subscript | ast.Attribute):
                    _refuse(name, node)
        elif not isinstance(node, ast.Expr | ast.If):  # Docstrings, registrations, TYPE_CHECKING.
            _refuse(name, node)
    return made


def _refuse(module: str, node: ast.stmt) -> NoReturn:
    raise ValueError(
        f"What a module does when it is imported must be one statement a name; {module} has "
        f"{ast.unparse(node):.60} in line {node.lineno}. Write the value where the name is bound."
    )


def _add_import(made: _Module, origin: str | None, alias: ast.alias) -> None:
    name, prefix = alias.asname or alias.name, f"{_PACKAGE.name}."
    full = alias.name if origin is None else f"{origin}.{alias.name}"
    if not full.startswith(prefix):
        made.libraries[name] = (origin or "", ast.unparse(alias))
    elif (_PACKAGE / f"{full.removeprefix(prefix).replace('.', '/')}.py").exists():
        made.modules[name] = full.removeprefix(prefix)
    else:
        made.imported[name] = (f"{origin}.".removeprefix(prefix).rstrip("."), alias.name)


def _reads(node: ast.AST, in_annotation: bool = False) -> Iterator[_Read]:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        yield _Read(node.value.id, node.attr, in_annotation)
    elif isinstance(node, ast.Name):
        yield _Read(node.id, None, in_annotation)
    else:
        for field, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _reads(child, in_annotation or field in ("annotation", "returns"))


def _needed() -> dict[_Module, set[str]]:
    """The names that the roots need of each module, in the order of imports."""
    needed: dict[str, set[str]] = {}
    left = [(module, name, False) for module, name in _ROOTS]
    while left:
        module, name, in_annotation = left.pop()
        node = _module(module).definitions.get(name)
        # Of annotations, which are never evaluated, the names of types alone are of use.
        is_class = isinstance(node, ast.FunctionDef | ast.ClassDef)
        if node is None or (in_annotation and is_class) or name in needed.get(module, ()):
            continue
        needed.setdefault(module, set()).add(name)
        for read in _reads(node):
            if read.name in (origin := _module(module)).imported:
                left.append((*origin.imported[read.name], read.in_annotation))
            elif read.name in origin.modules:
                left.append((origin.modules[read.name], read.attribute, read.in_annotation))
            else:
                left.append((module, read.name, read.in_annotation))
    ordered = dict.fromkeys(x for module, _ in _ROOTS for x in _after_its_imports(module, set()))
    return {_module(name): needed[name] for name in ordered if name in needed}


def _after_its_imports(name: str, seen: set[str]) -> Iterator[str]:
    seen.add(name)
    module = _module(name)
    for other in (*module.modules.values(), *(x for x, _ in module.imported.values())):
        if other not in seen and (_PACKAGE / f"{other.replace('.', '/')}.py").exists():
            yield from _after_its_imports(other, seen)
    yield name


def _read_by_name(module: _Module, needed: Mapping[_Module, Collection[str]]) -> list[_Read]:
    """Reads of `module.definition` in all modules, of definitions that are needed."""
    return [
        read
        for other, names in needed.items()
        for read in other.reads(names)
        if other.modules.get(read.name) == module.name and read.attribute in needed[module]
    ]


def _library(module: _Module, read: _Read) -> tuple[str, str] | None:
    """What to import for what code reads; None if it needs nothing."""
    origin, name = module.libraries.get(read.name, (None, None))
    if name is None or read.name in _SHAPES:
        return None
    if (origin or name).partition(" ")[0].partition(".")[0] in _LIBRARIES:
        return origin, name
    if read.in_annotation:
        return None
    raise ValueError(
        f"The PyTorch model must import {', '.join(sorted(_LIBRARIES - sys.stdlib_module_names))} "
        f"and Python's own modules alone; {module.name} reads {read.name} of {origin or name}. "
        "Move that out of what the model needs."
    )


def _positions(definition: ast.stmt, names: Collection[str]) -> Iterator[tuple[int, int, str]]:
    """Line, column and name of where a definition binds or reads one of some names."""
    if getattr(definition, "name", None) in names:
        before = {ast.FunctionDef: "def ", ast.ClassDef: "class "}[type(definition)]
        yield definition.lineno, definition.col_offset + len(before), definition.name
    for node in ast.walk(definition):
        if isinstance(node, ast.Name) and node.id in names:
            yield node.lineno, node.col_offset, node.id
        elif isinstance(node, ast.arg) and node.arg in names:
            raise ValueError(
                f"Parameters must not have the name of what is renamed in one file; {node.arg} has "
                f"it in line {node.lineno}. Rename the parameter."
            )
