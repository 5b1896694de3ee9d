"""What of texts a vocabulary cannot write: characters and spaces that decoding does not give back.

SentencePiece normalises text (NFKC, one space for several) and has no piece for some characters;
T5's cannot write `{`, a newline or two spaces. A model never learns such a target as it stands.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from absl import logging

# Spaces that are not one space between two words.
_SPACES = re.compile(r"\s{2,}|[^\S ]|^\s|\s$")
_MAX_SHOWN = 8
_SHOWN_CHARACTERS = 60


class Vocabulary(Protocol):
    """SeqIO's vocabularies, and `tokenizer.Tokenizer`."""

    def encode(self, text: str) -> Sequence[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class LostText:
    """Counts texts that a vocabulary cannot write, and what it loses of them.

    A character, or a run of spaces, is tried once, between two letters; after that a text costs a
    look at its characters, not its tokens.

    >>> from hyperdecoders_jax.data import tokenizer
    >>> lost = LostText(tokenizer.ByteTokenizer())
    >>> lost.add(["naïve {x}"])
    >>> lost.count
    0
    """

    def __init__(self, vocabulary: Vocabulary):
        self._vocabulary = vocabulary
        self._is_written: dict[str, bool] = {}
        self._letter = "a" if self._write("aa") == "aa" else ""
        self._pieces = collections.Counter()
        self._example: tuple[str, str] | None = None  # A text, and a lost piece of it.
        self.num_read = 0
        self.count = 0

    def _write(self, text: str) -> str:
        return self._vocabulary.decode(list(self._vocabulary.encode(text)))

    def _is_lost(self, probe: str) -> bool:
        if probe not in self._is_written:
            self._is_written[probe] = self._write(probe) == probe
        return not self._is_written[probe]

    def find(self, text: str) -> list[str]:
        """The pieces of a text that are lost, each once."""
        letter = self._letter
        found = [c for c in set(text) if not c.isspace() and self._is_lost(f"{letter}{c}{letter}")]
        for match in _SPACES.finditer(text):
            before, after = letter * (match.start() > 0), letter * (match.end() < len(text))
            if self._is_lost(f"{before}{match[0]}{after}"):
                found.append(match[0])
        return list(dict.fromkeys(found))

    def add(self, texts: Iterable[str]) -> None:
        """Looks at more texts."""
        for text in texts:
            self.num_read += 1
            if pieces := self.find(text):
                self.count += 1
                self._pieces.update(pieces)
                self._example = self._example or (text, pieces[0])

    def add_bytes(self, texts: Iterable[bytes]) -> None:
        """Looks at more texts in UTF-8, as TensorFlow gives them."""
        self.add(text.decode(errors="replace") for text in texts)

    def warn(self, whose: str) -> None:
        """Logs what is lost, if anything is; see `describe`."""
        if sentence := self.describe(whose):
            logging.warning("%s", sentence)

    def describe(self, whose: str) -> str | None:
        """A sentence on what is lost `whose` texts ("targets of task 'a'"); None if nothing is."""
        if self._example is None:
            return None
        shown = [repr(piece) for piece, _ in self._pieces.most_common(_MAX_SHOWN)]
        more = len(self._pieces) - len(shown)
        text, piece = self._example
        middle = text.index(piece)
        start = max(0, middle - _SHOWN_CHARACTERS // 2)
        text = text if len(text) <= _SHOWN_CHARACTERS else text[start : start + _SHOWN_CHARACTERS]
        return (
            f"{self.count:,} of {self.num_read:,} {whose} hold what the vocabulary cannot write, "
            f"{', '.join(shown)}{f' and {more} more' if more > 0 else ''}: {text!r} becomes "
            f"{self._write(text)!r}. Replace these in the data, or use a vocabulary that has them."
        )
