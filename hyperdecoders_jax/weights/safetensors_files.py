"""safetensors files of weights: one file, several, or shards with an index.

Source: huggingface/safetensors; transformers' `save_pretrained` for names and index of shards.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from etils import epath
from safetensors import numpy as safetensors_numpy

from hyperdecoders_jax import files as files_lib
from hyperdecoders_jax.weights import fingerprints
from hyperdecoders_jax.weights.arrays import Arrays, StoredArray

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
# "5GB", as transformers counts.
MAX_SHARD_BYTES = 5 * 10**9

_DTYPES = {"F32": np.float32, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "F64": np.float64}


def open(path: str | os.PathLike) -> dict[str, StoredArray]:
    """Unread arrays of a file, or of a folder's `model.safetensors`, else shards, else all files.

    FileNotFoundError if there are none, or a shard is missing; ValueError if a file is damaged,
    holds other arrays than floats, or repeats one. Cost: remote files (gs://…) are copied to disk.
    """
    return merge(files(epath.Path(path)), _open_file)


def merge(
    files: Sequence[epath.Path], open_file: Callable[[epath.Path], Arrays]
) -> dict[str, StoredArray]:
    """The arrays of several files; ValueError if one is repeated."""
    found: dict[str, StoredArray] = {}
    for file in files:
        arrays = open_file(file)
        if repeated := sorted(set(arrays) & set(found)):
            raise ValueError(
                f"The files of a model must hold each array once; {file} holds {repeated[0]} again."
                " Move one of two models to a folder of its own, or copy the folder again."
            )
        found |= arrays
    return found


def metadata(path: str | os.PathLike) -> dict[str, str]:
    """Metadata of a file, or of a folder's first file."""
    return _handle(files(epath.Path(path))[0]).metadata() or {}


def json_metadata(path: str | os.PathLike, key: str) -> dict[str, Any] | list[Any] | None:
    """What a file's metadata say as JSON under a key; None if nothing, ValueError if it is none."""
    text = metadata(path).get(key)
    try:
        found = None if text is None else json.loads(text)
        if not isinstance(found, dict | list | None):
            raise ValueError(f"{key} is {text:.40}")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            "What a file of weights says of its model must be JSON, as it was written; in "
            f"{os.fspath(path)} it is not: {error}. Convert the weights again, or copy the file."
        ) from error
    return found


def files(path: epath.Path) -> list[epath.Path]:
    """The files that `open` reads, in order; raises like `open`."""
    found = find(path, SINGLE_FILE, "Weights must be a .safetensors file") or visible(path)
    if not found:
        raise FileNotFoundError(
            f"A folder of weights must hold .safetensors files; {path} holds {listing(path)}. Save "
            "the model with save_pretrained, or name another folder."
        )
    return found


def find(path: epath.Path, single_file: str, must: str) -> list[epath.Path]:
    """A file of weights, or a folder's `single_file` or shards; none if a folder has neither."""
    if not path.exists():
        raise FileNotFoundError(
            f"{must} or a folder of them; there is nothing at {path}. Correct the path."
        )
    if not path.is_dir():
        return [path]
    # transformers reads in this order, whatever else a folder holds.
    if (path / single_file).exists():
        return [path / single_file]
    index = path / f"{single_file}.index.json"
    return shards(index) if index.exists() else []


def has_files(folder: epath.Path, single_file: str) -> bool:
    """Whether a folder holds `single_file`, or an index of its shards."""
    return any((folder / name).exists() for name in (single_file, f"{single_file}.index.json"))


def listing(folder: epath.Path, empty: str = "nothing") -> str:
    """The first names in a folder, for errors."""
    return ", ".join(sorted(child.name for child in folder.iterdir())[:8]) or empty


def visible(folder: epath.Path) -> list[epath.Path]:
    """A folder's safetensors files, sorted, without hidden ones, which are unfinished."""
    return sorted(x for x in folder.glob("*.safetensors") if not x.name.startswith("."))


def shards(index: epath.Path) -> list[epath.Path]:
    """The files that Hugging Face's index names, in order; FileNotFoundError if one is missing."""
    fields = files_lib.read_json(index)
    try:
        names = sorted(set(fields["weight_map"].values()))
        # An index is a downloaded file: it must not name files elsewhere on this machine.
        if not names or any(os.path.basename(name) != name for name in names):
            raise ValueError("it names no file, or one of another folder")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"An index of shards must be JSON with a weight_map to files beside it; {index} is "
            f"not: {error!r}. Copy or download it again."
        ) from error
    missing = [name for name in names if not files_lib.is_regular(index.parent / name)]
    if missing:
        raise FileNotFoundError(
            f"All {len(names)} shards that {index} names must be beside it; missing: "
            f"{', '.join(missing)}. Copy or download them again."
        )
    return [index.parent / name for name in names]


def write_file(
    path: str | os.PathLike,
    arrays: Arrays,
    metadata: Mapping[str, str] | None = None,
    has_fingerprint: bool = False,
) -> None:
    """Writes all arrays into one file. Cost: all arrays in memory.

    With `has_fingerprint` its metadata hold one of its arrays: for files that no `config.json` is
    beside.
    """
    # In C order: safetensors writes the memory of an array and ignores strides.
    held = {name: np.asarray(array.read(), order="C") for name, array in arrays.items()}
    metadata = dict(metadata or {})
    if has_fingerprint:
        metadata[fingerprints.FIELD] = fingerprints.fingerprint(held)
    if _is_remote(path):
        epath.Path(path).write_bytes(safetensors_numpy.save(held, metadata))
        return
    # An empty file gets the mode that the umask gives; safetensors' own is replaced below.
    epath.Path(path).write_bytes(b"")
    mode = os.stat(path).st_mode
    safetensors_numpy.save_file(held, os.fspath(path), metadata)
    # safetensors makes files that only the owner may read, whatever the umask.
    os.chmod(path, mode)


def check_fingerprints(path: str | os.PathLike) -> None:
    """ValueError if a file that `open` reads has a fingerprint, and other arrays than it says."""
    for file in files(epath.Path(path)):
        wanted = (_handle(file).metadata() or {}).get(fingerprints.FIELD)
        fingerprints.check(_open_file(file), wanted, os.fspath(file))


def write_sharded(
    folder: str | os.PathLike,
    arrays: Arrays,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    metadata: Mapping[str, str] | None = None,
    has_fingerprint: bool = False,
) -> None:
    """Writes `model.safetensors`, or shards and their index. Cost: one shard in memory."""
    num_parameters = sum(math.prod(array.shape) for array in arrays.values())
    shards = split(arrays, max_shard_bytes)
    write = functools.partial(write_file, metadata=metadata, has_fingerprint=has_fingerprint)
    file = epath.Path(folder) / SINGLE_FILE
    write_shards(file, shards, write, {"total_parameters": num_parameters})


def write_shards(
    single_file: epath.Path,
    shards: Sequence[Arrays],
    write: Callable[[epath.Path, Arrays], None],
    metadata: Mapping[str, Any],
) -> None:
    """Writes one shard to `single_file`, or several and their index under transformers' names."""
    if len(shards) == 1:
        write(single_file, shards[0])
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"{single_file.stem}-{number:05}-of-{len(shards):05}{single_file.suffix}"
        write(single_file.parent / file, shard)
        weight_map |= dict.fromkeys(shard, file)
    total_size = sum(array.num_bytes for shard in shards for array in shard.values())
    index = {"metadata": {**metadata, "total_size": total_size}, "weight_map": weight_map}
    # Last: a folder of half a model has no index.
    file = single_file.parent / f"{single_file.name}.index.json"
    file.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def split(arrays: Arrays, max_shard_bytes: int) -> list[dict[str, StoredArray]]:
    """Splits arrays, in order, into shards of at most `max_shard_bytes`, or of one larger array.

    >>> from hyperdecoders_jax.weights import arrays
    >>> shards = split(arrays.in_memory({n: np.zeros(2, np.float32) for n in "abc"}), 16)
    >>> [list(shard) for shard in shards]
    [['a', 'b'], ['c']]
    """
    shards: list[dict[str, StoredArray]] = [{}]
    room = max_shard_bytes
    for name, array in arrays.items():
        if shards[-1] and array.num_bytes > room:
            shards.append({})
            room = max_shard_bytes
        shards[-1][name] = array
        room -= array.num_bytes
    return shards


@contextlib.contextmanager
def local_copy(file: epath.Path) -> Iterator[str]:
    """Local path of a file; a remote one is copied, and the copy deleted afterwards."""
    if not _is_remote(file):
        yield os.fspath(file)
        return
    # An open file stays readable after its deletion.
    with tempfile.TemporaryDirectory() as folder:
        yield os.fspath(file.copy(epath.Path(folder) / file.name))


def _is_remote(path: str | os.PathLike) -> bool:
    return "://" in os.fspath(path)


def _open_file(file: epath.Path) -> dict[str, StoredArray]:
    handle = _handle(file)
    arrays = {}
    for name in handle.keys():  # noqa: SIM118  The handle is no mapping.
        header = handle.get_slice(name)
        shape, kind = tuple(header.get_shape()), header.get_dtype()
        if kind not in _DTYPES:
            raise ValueError(
                f"Weights must be of type {', '.join(_DTYPES)}; {name} in {file} is of type "
                f"{kind}. Save the weights as floats, not quantised."
            )
        read = functools.partial(handle.get_tensor, name)
        arrays[name] = StoredArray(shape, np.dtype(_DTYPES[kind]), read)
    return arrays


def _handle(file: epath.Path) -> safetensors.safe_open:
    files_lib.check_regular(file)
    try:
        with local_copy(file) as path:
            # Not memory-mapped: pages of a mapped file count as memory of the process.
            return safetensors.safe_open(path, framework="np", backend="pread")
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"Weights must be complete safetensors files; {file} is not: {error}. Copy or download "
            "it again."
        ) from error
