"""Gin files and flags as text: where files are, what they say, which macros they set and read.

Nothing that files name is imported, so mistakes are found before TensorFlow is loaded. gin itself
takes a misspelt macro in silence. Conventions and flags are T5X's (t5x/gin_utils.py).
"""

import contextlib
import functools
import graphlib
import importlib
import math
import os
import re
import tokenize
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath
from gin import config_parser

from hyperdecoders_jax import errors
from hyperdecoders_jax.config import gin_statements, moved_modules
from hyperdecoders_jax.config.gin_statements import Binding, Location, MacroRead, Reference, Text

# Where the gin files of this package are, wherever it is installed.
PACKAGE_CONFIGS = "hyperdecoders_jax.gin_configs"
# Macros that have a flag of their own.
OWN_FLAGS = ("MODEL_DIR", "VOCABULARY")
# What may stand where a run must set a macro of settings.gin.
MEANINGS = {
    "INITIAL_CHECKPOINT_PATH": (
        "a Hugging Face folder or hub id such as google/t5-v1_1-base, a T5X checkpoint, a file or "
        "folder of this package, or None for random weights"
    ),
    "MIXTURE_OR_TASK_NAME": (
        "a registered name (hyperdecoders tasks lists them); or give your own files, --train_file"
    ),
    "MODEL_DIR": "the folder that gets all that a run writes",
    "TASK_FEATURE_LENGTHS": "most tokens of each text, as {'inputs': 512, 'targets': 64}",
    "TRAIN_STEPS": "the number of updates",
}
# Raised by gin's parser: TypeError for a list as a key, RecursionError for deep brackets.
_PARSE_ERRORS = (SyntaxError, tokenize.TokenError, ValueError, TypeError, RecursionError)
_SHOWN_CHARACTERS = 120
# Of a folder that is searched for suggestions; it may hold anything.
_MAX_LISTED_FILES = 1000


class _Delegate(config_parser.ParserDelegate):
    """Keeps what values refer to as names, where gin's own delegate looks it up."""

    def configurable_reference(self, scoped_configurable_name, evaluate):
        return Reference(scoped_configurable_name, evaluate)

    def macro(self, macro_name):
        return MacroRead(macro_name)


def package_config_folder() -> str:
    """The folder of the gin files that ship with the package."""
    return os.path.dirname(importlib.import_module(PACKAGE_CONFIGS).__file__)


def find_file(name: str, search_paths: Sequence[str] = (), included_by: str | None = None) -> str:
    """The path of a gin file; raises ConfigurationError if no searched folder has it.

    `name` is an absolute path, a URL, or relative to a searched folder: this one, `search_paths`,
    the package's. The message names the file that includes it, `included_by`.
    """
    folders = ["", *search_paths, package_config_folder()]
    # Buckets and URLs are never relative to a folder.
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
    """Whether there is a file, here or in a bucket; a ConfigurationError if that can't be asked."""
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


def files_under(folder: str, subfolder: str = "") -> list[str]:
    """Gin files at any depth of a subfolder, as they are named with `folder` searched."""
    found = []
    for parent, _, files in os.walk(os.path.join(folder, subfolder)):
        paths = [os.path.join(parent, file) for file in files if file.endswith(".gin")]
        # A pipe of that name would wait for its writer for ever.
        found += [os.path.relpath(path, folder) for path in paths if os.path.isfile(path)]
    return sorted(found)


def _known_files(name: str, folders: Sequence[str]) -> list[str]:
    """Gin files that could have been meant: the package's, and neighbours of what was named."""
    known = files_under(folders[-1])
    own_folder = os.path.dirname(name)
    for folder in folders[:-1]:
        with contextlib.suppress(OSError):
            files = sorted(os.listdir(os.path.join(folder, own_folder) or "."))
            known += [os.path.join(own_folder, file) for file in files[:_MAX_LISTED_FILES]]
    return [file for file in known if file.endswith(".gin")]


def is_gin_value(text: str) -> bool:
    """Whether gin reads `text` as one value: a literal, a reference or a macro.

    >>> [is_gin_value(text) for text in ("3", "(1, 2)", "'a'", "%SIZE", "/a/b", "glue_v1")]
    [True, True, True, True, False, False]
    """
    try:
        parser = config_parser.ConfigParser(text, _Delegate())
        parser.parse_value()
    except (*_PARSE_ERRORS, StopIteration):
        return False
    return parser.current_token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER)


def to_binding(name: str, value: str) -> str:
    """One `NAME = VALUE` line for gin; what is no gin value is taken as a string.

    >>> to_binding("TRAIN_STEPS", "30")
    'TRAIN_STEPS = 30'
    >>> to_binding("MODEL_DIR", "/data/run 1")
    "MODEL_DIR = '/data/run 1'"

    Raises ConfigurationError for a value that begins like one of gin's and doesn't end like one.
    """
    value = value.strip()
    if is_gin_value(value):
        return f"{name} = {value}"
    if value[:1] in tuple("([{@%'\""):
        raise errors.ConfigurationError(
            f"The value of --gin.{name} must be one gin value; got {value!r}, which does not "
            f"parse. Close its brackets and quotes, or quote it for the shell: --gin.{name}='…'."
        )
    return f"{name} = {value!r}"


def read(
    gin_files: Sequence[str], bindings: Sequence[str] = (), search_paths: Sequence[str] = ()
) -> Text:
    """Reads files, what they include, and flags; the modules in them are those of today.

    `gin_files` bind in their order, then `bindings` as `to_binding` makes them. `search_paths` come
    after this folder and before the package's. A missing or invalid file is a ConfigurationError.
    """
    text = Text()
    for name in gin_files:
        text += _read_file(name, search_paths)
    return moved_modules.update(text + _read_flags(bindings))


def _read_flags(bindings: Sequence[str]) -> Text:
    found = []
    for binding in bindings:
        location = Location(gin_statements.FLAGS, 0, re.sub(r"\s*=\s*", "=", binding, count=1))
        for statement in _statements(binding, gin_statements.FLAGS):
            if not isinstance(statement, config_parser.BindingStatement):
                raise errors.ConfigurationError(
                    f"A gin flag must be a binding NAME=VALUE; got {binding!r}. Imports and "
                    "includes belong into a file."
                )
            _check_numbers(statement, location)
            found.append(Binding(statement, None, location, location))
    return Text(bindings=tuple(found))


def _read_file(name: str, search_paths: Sequence[str], open_files: Sequence[tuple] = ()) -> Text:
    """Reads a file and what it includes; `open_files` are (name, path) of those around it."""
    path = find_file(name, search_paths, open_files[-1][0] if open_files else None)
    if path in [other for _, other in open_files]:
        raise errors.ConfigurationError(
            f"Includes must not go round in a circle; {name} includes itself by way of "
            f"{' -> '.join(other for _, other in open_files)}. Remove one of these includes."
        )
    # Bindings since the last include: an include binds in between.
    file, text, bindings = gin_statements.SourceFile(name, path, []), Text(), []
    block = None
    for statement in _statements(_read_text(path, name), name):
        _, line_num, char_num, line = statement.location
        location = Location(name, line_num, line.strip())
        if isinstance(statement, config_parser.IncludeStatement):
            text += Text(bindings=tuple(bindings))
            text += _read_file(statement.filename, search_paths, [*open_files, (name, path)])
            bindings = []
        elif isinstance(statement, config_parser.BlockDeclaration):
            block = location
        elif isinstance(statement, config_parser.BindingStatement):
            _check_numbers(statement, location)
            # gin's parser counts characters in blocks alone.
            class_location = location if char_num is None else block
            bindings.append(Binding(statement, file, location, class_location))
        elif statement.module == "__gin__.dynamic_registration":
            file.dynamic_registration = location
        else:
            file.imports.append((statement, location))
    return text + Text((file,), tuple(bindings))


def _read_text(path: str, name: str) -> str:
    """The text of a gin file; `name` is how messages call it."""
    try:
        content = epath.Path(path).read_bytes()
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise errors.ConfigurationError(
            f"A gin file must be readable; {path} gave {error.strerror or error}. Check its rights."
        ) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise errors.ConfigurationError(
            f"A gin file must be UTF-8 text; line {line} of {name} holds the byte "
            f"0x{content[error.start]:02x} ({error.reason}). Save the file as UTF-8."
        ) from error


def _statements(source: str, name: str) -> Iterator[Any]:
    try:
        yield from config_parser.ConfigParser(source, _Delegate())
    except _PARSE_ERRORS as error:
        line, text = getattr(error, "lineno", None) or "?", getattr(error, "text", None) or ""
        reason, advice = _why_not_parsed(error, text)
        shown = repr((text or source).strip()[:_SHOWN_CHARACTERS])
        must = f"A gin flag must be a binding NAME = VALUE; got {shown}"
        if name != gin_statements.FLAGS:
            must = (
                "A gin file must hold imports, includes and bindings; "
                f"{name}:{line} is none of them: {shown}"
            )
        raise errors.ConfigurationError(f"{must} ({reason}). {advice}") from None


def _why_not_parsed(error: Exception, line: str) -> tuple[str, str]:
    """What is wrong with a line of gin, and how to correct it."""
    reason = str(error.args[0] if error.args else type(error).__name__).partition("\n")[0]
    token = re.search(r"Failed to parse token '(.*)'", str(error.args[:1]))
    if token or "Unable to parse value" in reason or "Expected newline" in reason:
        # What was written behind `=`, unless it is one of several values in brackets.
        value = re.fullmatch(r"[^=]*=\s*([^\s'\"@%([\x7b#][^#]*?)\s*(#.*)?", line.strip())
        shown = value[1] if value else token[1] if token else None
        if shown is not None:
            near = errors.suggestion(shown, ("True", "False", "None"))
            return f"{shown} is no gin value", f"Quote a text: {shown!r}." if not near else near[1:]
    return reason, "Correct that line; texts stand in quotes."


def _check_numbers(statement: config_parser.BindingStatement, location: Location) -> None:
    for leaf in gin_statements.leaves(statement.value):
        # gin reads 1e999 and would save it as `inf`, which it cannot read.
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise errors.ConfigurationError(
                f"A number must be finite; {location} sets {leaf}. Write a smaller one."
            )
        if isinstance(leaf, int) and abs(leaf) >= 2**63:
            raise errors.ConfigurationError(
                f"A whole number must fit into 64 bits; {location} sets {leaf}. Write a smaller "
                "one."
            )


def check_macros(text: Text, readers: Sequence[str] = ()) -> None:
    """Raises ConfigurationError unless every macro that is set is read, and the other way round.

    `readers` are files of the package that are not part of this run and may read macros, too: an
    experiment sets them for other commands. The error names the macro, where it stands and the
    nearest name; or macros that are set to each other in a circle.
    """
    check_macros_are_read(text, readers)
    check_macros_are_set(text)


def check_macros_are_read(text: Text, readers: Sequence[str] = ()) -> None:
    """The first half of `check_macros`."""
    reads = text.all_macro_reads
    # Most runs read all that they set: other commands' files are opened only where one does not.
    if readers and not reads.issuperset(text.macro_values):
        reads |= _macros_read_in(tuple(os.path.abspath(find_file(name)) for name in readers))
    for name, (_, location) in text.macro_values.items():
        if name not in reads:
            unset = [macro for macro in text.macro_reads if macro not in text.macro_values]
            hint = errors.suggestion(name, unset) or errors.suggestion(name, sorted(reads))
            raise errors.ConfigurationError(
                f"Every macro that is set must be read by some gin file; {name} "
                f"(set in {location}) is read by none of the {len(text.files)} files of this run."
                f"{hint or ' Remove it, or include the file that reads it.'}"
            )


@functools.cache  # These files are the package's: nobody edits them while it runs.
def _macros_read_in(paths: Sequence[str]) -> set[str]:
    return read(paths).all_macro_reads


def check_macros_are_set(text: Text) -> None:
    """The second half of `check_macros`."""
    for name, location in text.macro_reads.items():
        flag = f", or with --{name.lower()}=…" if name in OWN_FLAGS else ""
        how = f"Set it in a gin file or with --gin.{name}=…{flag}."
        if meaning := MEANINGS.get(name):
            how = f"{how[:-1]}: {meaning}."
        if name not in text.macro_values:
            raise errors.ConfigurationError(
                f"Every macro that is read must be set; {name} (read in {location}) is set by no "
                f"file and no flag. {how}"
            )
        value, set_at = text.macro_values[name]
        if value == gin_statements.REQUIRED:
            raise errors.ConfigurationError(
                f"{name} must be set; {set_at} declares it as required, and no later file or flag "
                f"sets it (an earlier value is erased there: include mixtures after runs). {how}"
            )
    check_no_circle(text)


def check_no_circle(text: Text) -> None:
    """Raises ConfigurationError for macros that are set to each other in a circle.

    gin would follow it for ever. Only values that hold count: a later one may break it.
    """
    reads = {binding.macro: binding.macro_reads for binding in text.bindings if binding.macro}
    try:
        graphlib.TopologicalSorter(reads).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1][::-1]  # From reader to read.
        places = ", ".join(f"{name} in {text.macro_values[name][1]}" for name in circle[:-1])
        raise errors.ConfigurationError(
            f"A macro must not be set to itself; {' -> '.join(circle)} is a circle ({places}). "
            "Set one of them to a value."
        ) from None


def unread_macros(text: Text, described_in: str | None = None) -> list[str]:
    """`NAME (set in …)` of macros that a run's own files set nobody to read.

    Reads in the file `described_in` only describe the run to others, as those of T5X's do.
    """
    reads = {
        name for b in text.bindings if b.location.source != described_in for name in b.macro_reads
    }
    return [
        f"{name} (set in {location})"
        for name, (_, location) in text.macro_values.items()
        if name not in reads and not location.source.startswith("runs/")
    ]
