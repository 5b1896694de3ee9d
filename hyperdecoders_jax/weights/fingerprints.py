"""Fingerprint of a tree of arrays: tells whether two models have the same parameters."""

from __future__ import annotations

import concurrent.futures
import hashlib

import jax
import numpy as np
from jax.experimental import multihost_utils

from hyperdecoders_jax.types import Params


def fingerprint(tree: Params) -> str:
    """Hash of paths, shapes, types and bytes of a nested dict, whatever its order and devices.

    >>> x, y = np.zeros(3), np.ones(2)
    >>> fingerprint({"x": x, "y": y}) == fingerprint({"y": y, "x": x})
    True
    >>> fingerprint({"x": x, "y": y}) == fingerprint({"x": y, "y": x})
    False

    Cost: one pass over the bytes, about 1 GB/s and core; arrays are hashed in parallel.
    """
    leaves = sorted(
        ("/".join(str(key.key) for key in path), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(dict(tree))
    )

    def digest(leaf) -> bytes:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        array = np.ascontiguousarray(leaf)
        head = f"{array.shape} {array.dtype}".encode()
        # A view, not `tobytes`: a copy of the largest array would be gigabytes.
        return hashlib.sha256(head + b"\0" + array.reshape(-1).view(np.uint8).data).digest()

    # Threads, because hashlib releases the GIL while it hashes.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        digests = list(pool.map(digest, [leaf for _, leaf in leaves]))
    total = hashlib.sha256()
    for (path, _), leaf_digest in zip(leaves, digests, strict=True):
        total.update(path.encode() + b"\0" + leaf_digest)
    return total.hexdigest()[:32]
