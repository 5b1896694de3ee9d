"""Records of a file in bounded memory, read by index in any order.

A file of several GB is shuffled completely, so every record must be at hand. Records are packed as
JSON: the first 64 MiB in memory, more in a temporary file (in `$TMPDIR`) without a name.
"""

from __future__ import annotations

import array
import hashlib
import json
import tempfile
import threading
from collections.abc import Iterable, Sequence
from typing import Any

_MEMORY_BYTES = 1 << 26


class PackedRecords(Sequence):
    """Records that can be read and not changed.

    >>> records = PackedRecords([{"word": "go", "n": 1}, {"word": "ran", "n": 2.5}])
    >>> records[1]
    {'word': 'ran', 'n': 2.5}

    Args:
        records: strings or numbers by name, the same names in each.

    Raises:
        ValueError: the disk of temporary files is full.
    """

    def __init__(self, records: Iterable[dict[str, Any]]):
        self._file = tempfile.SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115  Freed with this.
        self._lock = threading.Lock()  # Of the file's position.
        self._ends = array.array("Q", [0])
        digest = hashlib.blake2b(digest_size=16)
        self.kinds: dict[str, set[type]] = {}  # Of the values of each field.
        for record in records:
            packed = json.dumps(record, ensure_ascii=False).encode()
            digest.update(packed + b"\n")
            self._write(packed)
            self._ends.append(self._ends[-1] + len(packed))
            for name, value in record.items():
                self.kinds.setdefault(name, set()).add(type(value))
        # Equal for equal records in the same order, whatever their file's format.
        self.fingerprint = digest.hexdigest()

    def _write(self, packed: bytes) -> None:
        try:
            self._file.write(packed)
        except OSError as error:
            raise ValueError(
                f"Records must fit on the disk of temporary files; {tempfile.gettempdir()} gave: "
                f"{error.strerror} after {self._ends[-1]:,} bytes. Name a folder with more room by "
                "the variable TMPDIR."
            ) from error

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # Raises IndexError.
        start, end = self._ends[number], self._ends[number + 1]
        with self._lock:
            self._file.seek(start)
            packed = self._file.read(end - start)
        return json.loads(packed)
