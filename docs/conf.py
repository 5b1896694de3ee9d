"""Sphinx: the site of the pages in this folder (`make docs`)."""

import dataclasses
import inspect
import os
import pathlib
import re
import sys
import tokenize

from pygments.lexers.python import PythonLexer

DOCS = pathlib.Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))
# The reference imports the package; no accelerator is looked for.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from hyperdecoders_jax import files  # noqa: E402 (the clone's)

project = "hyperdecoders_jax"
author = copyright = "The hyperdecoders_jax authors"
version = release = files.VERSION
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "results/**"]
# Flags stay as they are written: --train_file, not –train_file.
smartquotes = False
highlight_language = "none"
# Docstrings put code between single backticks.
default_role = "code"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Cost", "Source"]

html_theme = "furo"
html_title = "hyperdecoders_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sphinx = False

# Files elsewhere in the repository that are pages of the site.
ELSEWHERE = {
    "changelog": ROOT / "CHANGELOG.md",
    "contributing": ROOT / "CONTRIBUTING.md",
    "tasks": ROOT / "tasks/README.md",
}


def read_page(app, docname, source):
    """Replaces pages by the files that they stand for, and links to those by links to pages."""
    if docname in ELSEWHERE:
        source[0] = ELSEWHERE[docname].read_text(encoding="utf-8")
    text = re.sub(r"\]\((?:\.\./)?docs/", "](", source[0])
    for page, file in ELSEWHERE.items():
        for prefix in ("../", ""):
            text = text.replace(f"]({prefix}{file.relative_to(ROOT)}", f"]({page}.md")
    source[0] = text


def describe_fields(app, what, name, obj, options, lines):
    """Adds the comments beside a class's fields to its docstring."""
    if what != "class" or any(line.startswith((":ivar ", ":param ")) for line in lines):
        return
    if comments := field_comments(obj):
        lines += ["", *(f":param {field}: {text}" for field, text in comments.items()), ""]


def shorten_defaults(app, what, name, obj, options, signature, returned):
    """Leaves the fields of nested configurations out of signatures: `AdamWConfig(…)`."""
    inner = r"(?:[^()]|\((?:[^()]|\([^()]*\))*\))"
    return signature and re.sub(rf"(\w+Config)\({inner}+\)", r"\1(…)", signature), returned


def field_comments(cls):
    """{field: its comment, behind it or on the lines above it} of a dataclass or NamedTuple."""
    if not dataclasses.is_dataclass(cls) and not hasattr(cls, "_fields"):
        return {}
    comments, above, field = {}, [], None
    lines = iter(inspect.getsource(cls).splitlines(keepends=True))
    for token in tokenize.generate_tokens(lambda: next(lines, "")):
        if token.type == tokenize.COMMENT:
            text = token.string.removeprefix("#").strip()
            is_behind = bool(token.line[: token.start[1]].strip())
            if is_behind and field:
                comments[field] = " ".join([*above, text])
            above = [] if is_behind else [*above, text]
        elif token.type == tokenize.NAME and token.start[1] == 4:
            found = re.match(r" {4}(\w+): ", token.line)
            field = found[1] if found else None
            if found and above:
                comments[field] = " ".join(above)
        elif token.type == tokenize.NEWLINE:
            above = []
    return comments


def setup(app):
    """Connects the functions above."""
    app.add_lexer("gin", PythonLexer)
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", describe_fields)
    app.connect("autodoc-process-signature", shorten_defaults)
