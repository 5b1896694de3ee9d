"""Flax's msgpack files of weights, as transformers writes them, read one array at a time.

    flax_model.msgpack                                            or, beyond a size,
    flax_model-0000i-of-0000n.msgpack, flax_model.msgpack.index.json

A file is one nested map of names to arrays; names are sorted at each level, as `save_pretrained`
of a loaded Flax model does. Why not `flax.serialization`: of a file of 1.0 GB (24 arrays) it needs
1,960 MB of memory and 3 to 5 s to open, msgpack's `Unpacker` 185 MB and 1.1 s; scanning the heads
of arrays, as done here, 0.02 s, and then 40 MB for one array at a time.
Source: flax/serialization.py; transformers 4.57, modeling_flax_utils.py; the msgpack specification.
"""

from __future__ import annotations

import math
import os
import pathlib
from typing import Any, BinaryIO

import msgpack
import numpy as np
from etils import epath
from flax import serialization

from hyperdecoders_jax import files as files_lib
from hyperdecoders_jax.weights import names, safetensors_files
from hyperdecoders_jax.weights.arrays import FLOATS, Arrays, StoredArray

SINGLE_FILE = "flax_model.msgpack"
INDEX_FILE = "flax_model.msgpack.index.json"

# Flax's extension types of arrays, and of numpy's scalars.
_ARRAY_KINDS = (1, 3)
# Key of a map that is one large array, cut into chunks.
_CHUNKED = "__msgpack_chunked_array__"
# First byte of an extension → bytes of its length field. The last one has a fixed length; the
# other fixed lengths are too short for any array.
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD8: 0}
_FIXED_BYTES = 16
# Sizes of a binary string's own head.
_BINARY_HEADS = (2, 3, 5)
# Errors of reading arbitrary bytes as msgpack.
_DAMAGE = (AttributeError, KeyError, RecursionError, TypeError, ValueError, msgpack.UnpackException)
# More than a map's head, a name, or an array's shape and type take.
_MOST_HEAD_BYTES = 2048


def has_files(folder: epath.Path) -> bool:
    """Whether a folder holds such files."""
    return safetensors_files.has_files(folder, SINGLE_FILE)


def open(folder: str | os.PathLike) -> dict[str, StoredArray]:
    """Unread arrays of a folder, by names joined by "/"; see `safetensors_files.open`."""
    folder = epath.Path(folder)
    files = safetensors_files.find(folder, SINGLE_FILE, "Flax weights must be a .msgpack file")
    if not files:
        raise FileNotFoundError(
            f"A folder of Flax weights must hold {SINGLE_FILE} or {INDEX_FILE}; {folder} holds "
            "neither. Correct the path."
        )
    return safetensors_files.merge(files, _open_file)


def write(
    folder: str | os.PathLike,
    arrays: Arrays,
    max_shard_bytes: int = safetensors_files.MAX_SHARD_BYTES,
) -> None:
    """Writes `flax_model.msgpack`, or shards and an index. Cost: one array in memory, thrice."""
    folder = epath.Path(folder)
    # By keys, not by characters: "a/b" comes before "a-b".
    arrays = {name: arrays[name] for name in sorted(arrays, key=lambda name: name.split("/"))}
    shards = safetensors_files.split(arrays, max_shard_bytes)
    safetensors_files.write_shards(folder / SINGLE_FILE, shards, _write_file, {})


def _write_file(file: epath.Path, arrays: Arrays) -> None:
    with file.open("wb") as out:
        _write_value(out, names.unflatten(dict(arrays)))


def _write_value(out: BinaryIO, value: dict[str, Any] | StoredArray) -> None:
    # An array at a time; Flax's own function takes only a whole tree in memory.
    if isinstance(value, StoredArray):
        out.write(serialization.msgpack_serialize(np.asarray(value.read())))
        return
    packer = msgpack.Packer()
    out.write(packer.pack_map_header(len(value)))
    for key in sorted(value):
        out.write(packer.pack(key))
        _write_value(out, value[key])


def _open_file(file: epath.Path) -> dict[str, StoredArray]:
    files_lib.check_regular(file)
    try:
        with safetensors_files.local_copy(file) as path:
            data = _Data(path)
        tree, end = _scan(data, 0)
        if not isinstance(tree, dict):
            raise ValueError("it does not begin with a map of names")
        if end != data.size:
            raise ValueError(f"{data.size - end} bytes follow the last array")
        found = names.flatten(tree)
        wrong = [name for name, value in found.items() if not isinstance(value, StoredArray)]
        if wrong:
            raise ValueError(f"{names.abridge(wrong)} is no array")
    except _DAMAGE as error:
        raise ValueError(
            f"Flax weights must be complete msgpack files of named arrays of {', '.join(FLOATS)}; "
            f"{file} is not: {str(error) or type(error).__name__}. Copy or download it again."
        ) from error
    return found


class _Data:
    """An open file, read by offset; closed with the last array that refers to it."""

    def __init__(self, path: str):
        self._file = pathlib.Path(path).open("rb", buffering=0)  # noqa: SIM115
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from `start` to `stop`; ValueError if the file is shorter."""
        if stop > self.size:
            raise ValueError(f"it has {self.size} bytes, and needs {stop} at least")
        parts = []
        while start < stop:  # One call reads at most 2 GiB.
            parts.append(os.pread(self._file.fileno(), stop - start, start))
            start += len(parts[-1])
        return b"".join(parts)

    def unpacker(self, start: int) -> msgpack.Unpacker:
        """Reads a head, from its offset on."""
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(self.read(start, min(start + _MOST_HEAD_BYTES, self.size)))
        return unpacker


def _scan(data: _Data, start: int) -> tuple[Any, int]:
    """The map, array or plain value at an offset, and the offset of its end."""
    first = data.read(start, start + 1)[0]
    if first in _EXTENSIONS:
        return _scan_array(data, start, _EXTENSIONS[first])
    unpacker = data.unpacker(start)
    if not (first >> 4 == 0x8 or first in (0xDE, 0xDF)):  # not a map
        value = unpacker.unpack()
        return value, start + unpacker.tell()
    size = unpacker.read_map_header()
    start += unpacker.tell()
    found = {}
    for _ in range(size):
        unpacker = data.unpacker(start)
        name = unpacker.unpack()
        if not isinstance(name, str):
            raise ValueError(f"a name in it is {name!r}")
        found[name], start = _scan(data, start + unpacker.tell())
    return (_joined(found) if _CHUNKED in found else found), start


def _scan_array(data: _Data, start: int, length: int) -> tuple[StoredArray, int]:
    head = data.read(start, start + length + 2)  # First byte, length and extension type.
    num_bytes = int.from_bytes(head[1:-1], "big") if length else _FIXED_BYTES
    kind = head[-1]
    if kind not in _ARRAY_KINDS:
        raise ValueError(f"it holds a value of kind {kind}, which is no array")
    start += len(head)
    stop = start + num_bytes
    unpacker = data.unpacker(start)
    num_fields = unpacker.read_array_header()
    shape, name = tuple(unpacker.unpack()), unpacker.unpack()
    if num_fields != 3 or name not in FLOATS or any(size < 0 for size in shape):
        raise ValueError(f"it holds an array of type {name} and shape {shape}")
    dtype = FLOATS[name]
    # The values end the extension; between them and the type is a binary string's head.
    values = stop - math.prod(shape) * dtype.itemsize
    if values - start - unpacker.tell() not in _BINARY_HEADS or stop > data.size:
        raise ValueError(f"an array of shape {shape} does not fit its {num_bytes} bytes")

    def read():
        return np.frombuffer(data.read(values, stop), dtype).reshape(shape)

    return StoredArray(shape, dtype, read), stop


def _joined(fields: dict[str, Any]) -> StoredArray:
    """A large array that Flax cut into flat chunks."""
    shape, chunks = (
        tuple(fields[name][str(i)] for i in range(len(fields[name])))
        for name in ("shape", "chunks")
    )
    sizes = [size for (size,) in (chunk.shape for chunk in chunks)]
    dtypes = {chunk.dtype for chunk in chunks}
    if sum(sizes) != math.prod(shape) or len(dtypes) != 1:
        raise ValueError(f"the chunks of an array of shape {shape} do not fit it")

    def read():
        return np.concatenate([chunk.read() for chunk in chunks]).reshape(shape)

    return StoredArray(shape, dtypes.pop(), read)
