"""Flax's msgpack files, as transformers shards them, open as arrays; arrays become such files.

    flax_model.msgpack                                            or, beyond a size,
    flax_model-0000i-of-0000n.msgpack, flax_model.msgpack.index.json

A file is one nested map of names to arrays. Written are the bytes that `save_pretrained` of a
Flax model writes after it has been loaded: names in order, level by level.

Source: flax/serialization.py; transformers 4.57, modeling_flax_utils.py; the msgpack specification.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, BinaryIO

import ml_dtypes
import msgpack
import numpy as np
from etils import epath
from flax import serialization

from hyperdecoders_jax.weights import names, safetensors_files
from hyperdecoders_jax.weights.arrays import Arrays, StoredArray

SINGLE_FILE = "flax_model.msgpack"
INDEX_FILE = "flax_model.msgpack.index.json"

_DTYPES = {
    np.dtype(dtype).name: np.dtype(dtype)
    for dtype in (np.float32, ml_dtypes.bfloat16, np.float16, np.float64)
}
# Flax's kinds of extension that are arrays, and arrays without axes.
_ARRAY_KINDS = (1, 3)
# First key of a map that stands for one large array.
_CHUNKED = "__msgpack_chunked_array__"
# First byte of an extension → bytes that tell its length. The last one's is fixed; extensions of
# the other fixed lengths are too short for any array.
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD8: 0}
_FIXED_BYTES = 16
# Bytes that a binary string's own head may take.
_BINARY_HEADS = (2, 3, 5)
# What reading bytes as something else can come to.
_DAMAGES = (
    AttributeError,
    KeyError,
    RecursionError,
    TypeError,
    ValueError,
    msgpack.UnpackException,
)
# More than a map's head, a name, or the shape and type of an array take.
_MOST_HEAD_BYTES = 2048


def has_files(folder: epath.Path) -> bool:
    """Whether a folder holds such files."""
    return any((folder / name).exists() for name in (SINGLE_FILE, INDEX_FILE))


def open(folder: str | os.PathLike) -> dict[str, StoredArray]:
    """The arrays of a folder, by their names joined by "/"; no array is read yet.

    Cost: a remote file (gs://…) is copied to this machine's disk first.

    Raises:
      FileNotFoundError: there is no such file in the folder, or a shard is gone.
      ValueError: a file is damaged, holds something that is no array of floats, or repeats
        another's.
    """
    folder = epath.Path(folder)
    if (folder / SINGLE_FILE).exists():
        return _open_file(folder / SINGLE_FILE)
    if not (folder / INDEX_FILE).exists():
        raise FileNotFoundError(
            f"A folder of Flax weights must hold {SINGLE_FILE} or {INDEX_FILE}; {folder} holds "
            "neither. Correct the path."
        )
    found: dict[str, StoredArray] = {}
    for file in safetensors_files.shards(folder / INDEX_FILE):
        arrays = _open_file(file)
        if repeated := sorted(set(arrays) & set(found)):
            raise ValueError(
                f"The shards of a model must hold each array once; {file} holds {repeated[0]} "
                "again. Copy or download the folder again."
            )
        found |= arrays
    return found


def write(
    folder: str | os.PathLike,
    arrays: Arrays,
    max_shard_bytes: int = safetensors_files.MAX_SHARD_BYTES,
) -> None:
    """Writes `flax_model.msgpack`, or shards and their index where that would be too large.

    Args:
      folder: that exists.
      arrays: by their names, joined by "/".
      max_shard_bytes: of arrays in a file; a larger array is a shard of its own.

    Cost: one array in memory, three times.
    """
    folder = epath.Path(folder)
    arrays = {name: arrays[name] for name in sorted(arrays, key=lambda name: name.split("/"))}
    groups = safetensors_files.split(arrays, max_shard_bytes)
    if len(groups) == 1:
        _write_file(folder / SINGLE_FILE, arrays)
        return
    stem, ending = os.path.splitext(SINGLE_FILE)
    weight_map = {}
    for number, group in enumerate(groups, start=1):
        file = f"{stem}-{number:05}-of-{len(groups):05}{ending}"
        _write_file(folder / file, {name: arrays[name] for name in group})
        weight_map |= dict.fromkeys(group, file)
    total = sum(array.num_bytes for array in arrays.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _write_file(file: epath.Path, arrays: Arrays) -> None:
    with file.open("wb") as out:
        _write_value(out, names.unflatten(dict(arrays)))


def _write_value(out: BinaryIO, value: dict[str, Any] | StoredArray) -> None:
    if isinstance(value, StoredArray):
        out.write(serialization.msgpack_serialize(np.asarray(value.read())))
        return
    packer = msgpack.Packer()
    out.write(packer.pack_map_header(len(value)))
    for key in sorted(value):
        out.write(packer.pack(key))
        _write_value(out, value[key])


def _open_file(file: epath.Path) -> dict[str, StoredArray]:
    try:
        # Open as long as an array of it may be read.
        with safetensors_files.local_copy(file) as path:
            data = _Data(os.open(path, os.O_RDONLY))
        tree, end = _scan(data, 0)
        if not isinstance(tree, dict):
            raise ValueError("it does not begin with a map of names")
        if end != data.size:
            raise ValueError(f"{data.size - end} bytes follow the last array")
        found = names.flatten(tree)
        wrong = [name for name, value in found.items() if not isinstance(value, StoredArray)]
        if wrong:
            raise ValueError(f"{names.abridge(wrong)} is no array")
    except _DAMAGES as error:
        raise ValueError(
            f"Flax weights must be whole msgpack files of named arrays of {', '.join(_DTYPES)}; "
            f"{file} is not: {str(error) or type(error).__name__}. Copy or download it again."
        ) from error
    return found


class _Data:
    """The bytes of a file, by their places; closed when nobody needs them."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def __del__(self):
        os.close(self._descriptor)

    def read(self, start: int, stop: int) -> bytes:
        """Raises ValueError where the file ends before `stop`."""
        if stop > self.size:
            raise ValueError(f"it has {self.size} bytes, and needs {stop} at least")
        parts = []
        while start < stop:  # One call reads 2 GiB at most.
            parts.append(os.pread(self._descriptor, stop - start, start))
            start += len(parts[-1])
        return b"".join(parts)

    def unpacker(self, start: int) -> msgpack.Unpacker:
        """Reads the few bytes of a head, from its place."""
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(self.read(start, min(start + _MOST_HEAD_BYTES, self.size)))
        return unpacker


def _scan(data: _Data, start: int) -> tuple[Any, int]:
    """What stands at a place, a map, an array or a plain value; and where it ends."""
    first = data.read(start, start + 1)[0]
    if first in _EXTENSIONS:
        return _scan_array(data, start, _EXTENSIONS[first])
    unpacker = data.unpacker(start)
    if not (first >> 4 == 0x8 or first in (0xDE, 0xDF)):  # no map
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
    head = data.read(start, start + length + 2)  # What it is, its length, and its kind.
    num_bytes = int.from_bytes(head[1:-1], "big") if length else _FIXED_BYTES
    kind = head[-1]
    if kind not in _ARRAY_KINDS:
        raise ValueError(f"it holds a value of kind {kind}, which is no array")
    start += len(head)
    stop = start + num_bytes
    unpacker = data.unpacker(start)
    num_fields = unpacker.read_array_header()
    shape, name = tuple(unpacker.unpack()), unpacker.unpack()
    if num_fields != 3 or name not in _DTYPES or any(size < 0 for size in shape):
        raise ValueError(f"it holds an array of type {name} and shape {shape}")
    dtype = _DTYPES[name]
    values = stop - math.prod(shape) * dtype.itemsize
    if values - start - unpacker.tell() not in _BINARY_HEADS or stop > data.size:
        raise ValueError(f"an array of shape {shape} does not fit its {num_bytes} bytes")
    return (
        StoredArray(
            shape, dtype, lambda: np.frombuffer(data.read(values, stop), dtype).reshape(shape)
        ),
        stop,
    )


def _joined(fields: dict[str, Any]) -> StoredArray:
    """One large array that Flax has cut into chunks."""
    shape, chunks = (
        tuple(fields[name][str(i)] for i in range(len(fields[name])))
        for name in ("shape", "chunks")
    )
    sizes = [size for (size,) in (chunk.shape for chunk in chunks)]
    dtypes = {chunk.dtype for chunk in chunks}
    if sum(sizes) != math.prod(shape) or len(dtypes) != 1:
        raise ValueError(f"the chunks of an array of shape {shape} do not fit it")
    return StoredArray(
        shape,
        dtypes.pop(),
        lambda: np.concatenate([chunk.read() for chunk in chunks]).reshape(shape),
    )
