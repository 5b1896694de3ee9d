"""Records and examples in bounded memory, read by index in any order.

A file of several GB is shuffled completely, so every record must be at hand. They are packed: the
first 64 MiB in memory, more in a temporary file (in `$TMPDIR`) without a name.
"""

from __future__ import annotations

import array
import hashlib
import json
import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

_MEMORY_BYTES = 1 << 26
_ENCODER = json.JSONEncoder(ensure_ascii=False)  # `json.dumps` would make one for each record.


class _Packed(Sequence):
    """What is packed, in the order in which it was appended."""

    def __init__(self):
        self._memory = bytearray()
        self._file: BinaryIO | None = None  # Takes the place of memory that is full.
        self._ends = array.array("Q", [0])

    def _append(self, packed: bytes) -> None:
        self._memory += packed
        self._ends.append(self._ends[-1] + len(packed))
        if len(self._memory) > _MEMORY_BYTES:
            self._to_disk()

    def _close(self) -> None:
        """Ends the appending."""
        if self._file is not None:
            self._to_disk()

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
        return self._unpack(self._packed(range(len(self))[index]))  # range raises IndexError.

    def _unpack(self, packed: bytes | bytearray) -> Any:
        raise NotImplementedError

    def _packed(self, number: int) -> bytes | bytearray:
        start, end = self._ends[number], self._ends[number + 1]
        if self._file is None:
            return self._memory[start:end]
        return os.pread(self._file.fileno(), end - start, start)  # Threads share no position.


class PackedRecords(_Packed):
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
        super().__init__()
        digest = hashlib.blake2b(digest_size=16)
        self.kinds: dict[str, set[type]] = {}  # Of the values of each field.
        for record in records:
            packed = _ENCODER.encode(record).encode()
            digest.update(packed + b"\n")
            self._append(packed)
            for name, value in record.items():
                self.kinds.setdefault(name, set()).add(type(value))
        self._close()
        # Equal for equal records in the same order, whatever their file's format.
        self.fingerprint = digest.hexdigest()

    def _unpack(self, packed: bytes | bytearray) -> dict[str, Any]:
        return json.loads(packed)

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


class PackedExamples(_Packed):
    """Examples with arrays, texts and numbers as values; each time another copy is read.

    >>> PackedExamples([{"inputs": [3, 1], "text": b"go"}])[0]
    {'inputs': [3, 1], 'text': b'go'}

    Raises:
        ValueError: the disk of temporary files is full.
    """

    def __init__(self, examples: Iterable[dict[str, Any]]):
        super().__init__()
        for example in examples:
            self._append(pickle.dumps(example, pickle.HIGHEST_PROTOCOL))
        self._close()

    def _unpack(self, packed: bytes | bytearray) -> dict[str, Any]:
        return pickle.loads(packed)  # Of this process's own file, which has no name.
