"""Fingerprint of arrays: tells whether models have the same parameters, or files are damaged."""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from hyperdecoders_jax.types import Params
from hyperdecoders_jax.weights.arrays import Arrays, StoredArray

# The field of a `config.json`, or the key of a safetensors file's metadata, that holds it.
FIELD = "weights_fingerprint"
# transformers' `save_pretrained` writes this field, and keeps ours beside other weights.
_OF_TRANSFORMERS = "transformers_version"


def fingerprint(tree: Params | Arrays) -> str:
    """Hash of paths, shapes, types and bytes of a nested dict, whatever its order and devices.

    >>> x, y = np.zeros(3), np.ones(2)
    >>> fingerprint({"x": x, "y": y}) == fingerprint({"y": y, "x": x})
    True
    >>> fingerprint({"x": x, "y": y}) == fingerprint({"x": y, "y": x})
    False

    Cost: one pass over the bytes, about 1 GB/s and core; arrays are hashed in parallel.
    """
    leaves = {
        "/".join(str(key.key) for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(dict(tree))
    }
    # Threads, because hashlib releases the GIL while it hashes.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        digests = pool.map(_digest, leaves.values())
        return _total(dict(zip(leaves, digests, strict=True)))


def recorded(arrays: Arrays) -> tuple[dict[str, StoredArray], Callable[[], str]]:
    """The same arrays, hashed as they are read, and what gives their fingerprint after that.

    So a writer, which reads all of them, needs no second pass over the files that they come from.
    """
    digests: dict[str, bytes] = {}

    def record(path: str, value: np.ndarray) -> np.ndarray:
        digests[path] = _digest(value)
        return value

    read = {path: array.then(functools.partial(record, path)) for path, array in arrays.items()}
    return read, lambda: _total(digests)


def of_config(fields: Mapping[str, Any]) -> str | None:
    """The fingerprint in a `config.json`; None where there is none, or transformers wrote it.

    >>> of_config({FIELD: "abc"}), of_config({FIELD: "abc", "transformers_version": "4.57.6"})
    ('abc', None)
    """
    return None if _OF_TRANSFORMERS in fields else fields.get(FIELD)


def check(arrays: Arrays, wanted: str | None, where: str) -> None:
    """ValueError unless arrays, those of `where`, have the `wanted` fingerprint; None: any will do.

    Cost: reads all arrays.
    """
    if wanted is None:
        return
    if (found := fingerprint(arrays)) != wanted:
        raise ValueError(
            f"The weights in {where} must be those that were written there, of fingerprint "
            f"{str(wanted)[:12]}; they have {found[:12]}, so a file is damaged, or of another "
            "model. Copy the folder again."
        )


def _digest(leaf: Any) -> bytes:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        leaf = multihost_utils.process_allgather(leaf, tiled=True)
    array = np.ascontiguousarray(leaf)
    head = f"{array.shape} {array.dtype}".encode()
    # A view, not `tobytes`: a copy of the largest array would be gigabytes.
    return hashlib.sha256(head + b"\0" + array.reshape(-1).view(np.uint8).data).digest()


def _total(digests: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for path in sorted(digests):
        total.update(path.encode() + b"\0" + digests[path])
    return total.hexdigest()[:32]
