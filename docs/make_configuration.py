"""Writes the tables of configuration.md from the gin files: `python docs/make_configuration.py`."""

import dataclasses
import pathlib
import re
from collections.abc import Iterator

from hyperdecoders_jax.config import gin_files, gin_statements
from hyperdecoders_jax.config.gin_statements import Binding

PAGE = pathlib.Path(__file__).parent / "configuration.md"
# Sections of the page: folders or files in which a macro is set or read first.
SECTIONS = {
    "Every run": ("runs/settings.gin", "runs/run.gin", "runs/embedded/train.gin"),
    "Evaluation, prediction, analysis": ("runs/embedded/",),
    "T5X alone": ("runs/t5x/",),
    "Adapters and gates": ("adapters/",),
    "Optimisation": ("optim/adamw_linear.gin", "optim/"),
    "Decoding": ("decoding/",),
    "Data": ("mixtures/", "experiments/glue/recipe.gin", "experiments/"),
}
# Macros that files set for each other.
INTERNAL = ("MODEL", "T5X_MODEL", "REGISTERED")


@dataclasses.dataclass
class Macro:
    """A macro: where it stands first, its default and meaning, and the parameters that read it."""

    section: str
    default: str = ""
    meaning: str = ""
    readers: list[str] = dataclasses.field(default_factory=list)


def bindings() -> Iterator[tuple[str, Binding]]:
    """(section, binding) of all that the package's gin files bind, in the order of `SECTIONS`."""
    folder = pathlib.Path(gin_files.package_config_folder())
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.gin"))]
    names.remove("runs/t5x/finetune.gin")  # Its macros are T5X's, and it includes files of T5X.
    for section, prefixes in SECTIONS.items():
        for prefix in prefixes:
            for name in [name for name in names if name.startswith(prefix)]:
                names.remove(name)
                of_file = (x for x in gin_files.read([name]).bindings if x.file.name == name)
                yield from ((section, binding) for binding in of_file)


def comment_of(binding: Binding) -> str:
    """The comment behind a binding, or ""."""
    lines = pathlib.Path(binding.file.path).read_text(encoding="utf-8").splitlines()
    found = re.search(r"\s# (.*)", lines[binding.location.line_num - 1])
    return found[1] if found else ""


def macros() -> dict[str, Macro]:
    """All macros by name, in the order in which files set or read them."""
    found = {}
    for section, binding in bindings():
        for name in [binding.macro, *binding.macro_reads]:
            if name in ("", *INTERNAL):
                continue
            macro = found.setdefault(name, Macro(section, meaning=gin_files.MEANINGS.get(name, "")))
            macro.meaning = macro.meaning or comment_of(binding)
            if name == binding.macro:
                value = binding.statement.value
                is_required = value == gin_statements.REQUIRED
                macro.default = macro.default or ("*required*" if is_required else f"`{value!r}`")
            elif not binding.macro:
                selector = binding.statement.selector.rpartition(".")[2]
                reader = f"`{selector}.{binding.statement.arg_name}`"
                macro.readers += [reader] * (reader not in macro.readers)
    return found


def make() -> str:
    """The text of the page: its introduction, which stays, and the tables."""
    introduction = PAGE.read_text(encoding="utf-8").partition("\n## ")[0]
    text, found = introduction, macros()
    for section in SECTIONS:
        text += f"\n## {section}\n\n| macro | meaning | default | read by |\n|---|---|---|---|\n"
        for name, macro in found.items():
            if macro.section == section:
                default = macro.default or "the model's file"
                cells = [f"`{name}`", macro.meaning, default, ", ".join(macro.readers)]
                text += f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(make(), encoding="utf-8")
