"""A path and a text in; a file that holds all of it out, or what was there before."""

from etils import epath

UNFINISHED = ".unfinished"


def write(path: epath.Path, text: str) -> None:
    """Writes a file as a whole or not at all, whenever the process is killed; replaces another."""
    unfinished = path.parent / f".{path.name}{UNFINISHED}"
    unfinished.write_text(text)
    unfinished.replace(path)
