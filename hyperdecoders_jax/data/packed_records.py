"""Records of a file in bounded memory, read by index in any order.

A file of several GB is shuffled completely, so every record must be at hand. Records are packed as
JSON: the first 64 MiB in memory, more in a temporary file (in `$TMPDIR`) without a name.
"""

from __future__ import annotations

import array
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

_MEMORY_BYTES = 1 << 26
_ENCODER = json.JSONEncoder(ensure_ascii=False)  # `json.dumps` would make one for each record.


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
        self._memory = bytearray()
        self._file: BinaryIO | None = None  # Takes the place of memory that is full.
        self._ends = array.array("Q", [0])
        digest = hashlib.blake2b(digest_size=16)
        self.kinds: dict[str, set[type]] = {}  # Of the values of each field.
        for record in records:
            packed = _ENCODER.encode(record).encode()
            digest.update(packed + b"\n")
            self._memory += packed
            self._ends.append(self._ends[-1] + len(packed))
            if len(self._memory) > _MEMORY_BYTES:
                self._to_disk()
            for name, value in record.items():
                self.kinds.setdefault(name, set()).add(type(value))
        if self._file is not None:
            self._to_disk()
        # Equal for equal records in the same order, whatever their file's format.
        self.fingerprint = digest.hexdigest()

    def _to_disk(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  Freed with this.
            rest = memoryview(self._memory)
            while rest:  # A write may take a part.
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise ValueError(
                f"Records must fit on the disk of temporary files; {tempfile.gettempdir()} gave: "
                f"{error.strerror} after {self._ends[-1]:,} bytes. Name a folder with more room by "
                "the variable TMPDIR."
            ) from error
        self._memory = bytearray()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # Raises IndexError.
        return json.loads(self._packed(number))

    def _packed(self, number: int) -> bytes | bytearray:
        start, end = self._ends[number], self._ends[number + 1]
        if self._file is None:
            return self._memory[start:end]
        return os.pread(self._file.fileno(), end - start, start)  # Threads share no position.

    def chunks(
        self, order: Iterable[int], max_records: int = 512, max_bytes: int = 1 << 20
    ) -> Iterator[list[dict[str, Any]]]:
        """Records in an order of their indices, as many at once as both limits let, at least one.

        Several are unpacked together: that takes half as long as one by one.
        """
        chunk, size = [], 0
        for number in order:
            packed = self._packed(number)
            if chunk and (len(chunk) == max_records or size + len(packed) > max_bytes):
                yield json.loads(b"[%b]" % b",".join(chunk))
                chunk, size = [], 0
            chunk.append(packed)
            size += len(packed)
        if chunk:
            yield json.loads(b"[%b]" % b",".join(chunk))
