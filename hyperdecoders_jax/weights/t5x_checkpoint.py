"""T5X checkpoints, read and written without T5X, one array at a time, on disk or in a bucket.

A folder `checkpoint_<step>` has one of two layouts. Both store arrays as zarr and name them by
their path in the train state, `target/encoder/…` for a parameter:

    t5x     checkpoint             msgpack: tree of small arrays, and of specs of the zarr folders
            target.encoder.…/      zarr, one folder per array
    orbax   state/_METADATA        JSON: the names in the tree
            state/manifest.ocdbt   zarr of all arrays in one key-value store

Checkpoints that this package wrote have a fingerprint beside them, `fingerprint.json`.
Source: t5x/checkpoints.py; the folders that T5X writes with Orbax.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import tensorstore
from etils import epath
from flax import serialization, traverse_util

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.weights import arrays as arrays_lib
from hyperdecoders_jax.weights import fingerprints, names
from hyperdecoders_jax.weights.arrays import Accounted, Arrays, StoredArray

LAYOUTS = ("t5x", "orbax")
# Written by T5X since June 2021, which also reads 2.
_VERSION = 3
_T5X_INDEX = "checkpoint"
_ORBAX_INDEX = "state/_METADATA"
# Beside them, of this package: the fingerprint of the parameters. T5X does not read it.
FINGERPRINT_FILE = "fingerprint.json"
# Beside the folders of all steps: which of them an evaluation found to be the best.
BEST_FILE = "best_checkpoint.json"
# Start of a TensorFlow checkpoint's file `checkpoint`.
_TENSORFLOW = b"model_checkpoint_path"
# 16 MiB of float32: chunks are compressed in parallel, and each host of T5X reads only its own.
_CHUNK_ELEMENTS = 4 * 2**20


def is_checkpoint(path: str | epath.Path) -> bool:
    """Whether `path` is a T5X checkpoint of either layout, or a folder of checkpoints."""
    path = epath.Path(path)
    return _has_index(path) or bool(steps(path))


def steps(path: str | epath.Path) -> dict[int, epath.Path]:
    """Step → folder of the checkpoints in T5X's MODEL_DIR, oldest first."""
    path = epath.Path(path)
    if not path.is_dir():
        return {}
    found = {child: re.fullmatch(r"checkpoint_(\d+)", child.name) for child in path.iterdir()}
    # A folder without an index is unfinished.
    complete = {int(m[1]): child for child, m in found.items() if m and _has_index(child)}
    return dict(sorted(complete.items()))


def best_or_newest(path: str | epath.Path) -> int | None:
    """Step of the checkpoint in T5X's MODEL_DIR that `write_best` named, else of the newest."""
    known, file = list(steps(path)), epath.Path(path) / BEST_FILE
    best = files.read_json(file).get("step") if file.exists() else None
    return best if best in known else (known or [None])[-1]


def write_best(path: str | epath.Path, step: int, metric: str) -> None:
    """Writes that the checkpoint of a step is the best by a metric."""
    content = json.dumps({"step": step, "metric": metric})
    files.write_text(epath.Path(path) / BEST_FILE, content + "\n")


def open(path: str | epath.Path) -> dict[str, StoredArray]:
    """Parameters of a checkpoint, by our paths; see `account`."""
    return account(path).arrays


def account(path: str | epath.Path) -> Accounted:
    """Parameters of a checkpoint; the rest of its train state is skipped.

    `path` is `checkpoint_<step>`, its file `checkpoint`, or the folder of a single one. Raises
    FileNotFoundError, or ValueError if it is damaged (chunks are checked when read) or not a T5's.
    """
    folder = _find(epath.Path(path))
    _check_regular(folder)
    is_t5x = files.is_regular(folder / _T5X_INDEX)
    stores = _list_t5x(folder) if is_t5x else _list_item(folder / "state")
    target, left = {}, {}
    for name, store in stores.items():
        top, _, rest = name.partition("/")
        if top == "target":
            target[rest] = store
        elif top == "state":
            left[name] = "the count of steps" if rest == "step" else "state of T5X's optimiser"
        else:
            raise ValueError(
                f"A train state must be made of target and state alone; {folder} has {name} too. "
                "It is of another model than T5: name another checkpoint."
            )
    if not target:
        raise ValueError(
            f"A checkpoint must hold parameters; {folder} has none under target. Name another."
        )
    # Before requests to a bucket for every array.
    if scanned := [x for x in target if x.startswith(("encoder/encoder/", "decoder/decoder/"))]:
        raise ValueError(
            f"Each layer must have parameters of its own, encoder/layers_0/…; {folder} stacks "
            f"those of all layers, as in {scanned[0]} (scanned layers). Convert them with "
            "T5X to the layout of its minimal T5 first."
        )
    found = _open_arrays(folder, target)
    if (file := folder / FINGERPRINT_FILE).exists():
        fingerprints.check(found, files.read_json(file).get(fingerprints.FIELD), os.fspath(folder))
    return Accounted(found, left)


def write(path: str | epath.Path, arrays: Arrays, step: int = 0, layout: str = "t5x") -> epath.Path:
    """Writes a checkpoint that T5X restores; returns its folder, `path/checkpoint_<step>`.

    `path` is T5X's MODEL_DIR. It has no optimiser state: T5X continues at `step` with
    `RestoreCheckpointConfig.fallback_to_scratch = True` and
    `apply_assignment_map.assignment_map = (("state/param_states.*", None),)`.
    All versions of T5X read the layout "t5x". FileExistsError if the folder exists.
    """
    if layout not in LAYOUTS:
        hint = errors.suggestion(layout, LAYOUTS)
        raise ValueError(f"The layout must be one of {LAYOUTS}; got {layout!r}.{hint}")
    folder = epath.Path(path) / f"checkpoint_{step}"
    # Never overwritten: a checkpoint of two writers would be neither's.
    if folder.exists():
        raise FileExistsError(
            f"A checkpoint must go into a new folder; there is {folder}. Remove it or name another."
        )
    arrays, fingerprint = fingerprints.recorded(arrays)
    state = {f"target/{name}": array for name, array in arrays.items()}
    write_state = _write_t5x if layout == "t5x" else _write_orbax
    write_state(folder, state, np.asarray(step, np.int32))
    content = json.dumps({fingerprints.FIELD: fingerprint()})
    (folder / FINGERPRINT_FILE).write_text(content + "\n")
    return folder


def kvstore(folder: epath.Path) -> dict[str, str]:
    """TensorStore's specification of a folder.

    >>> kvstore(epath.Path("gs://bucket/models/checkpoint_5"))
    {'driver': 'gcs', 'bucket': 'bucket', 'path': 'models/checkpoint_5/'}
    >>> kvstore(epath.Path("/models/checkpoint_5"))
    {'driver': 'file', 'path': '/models/checkpoint_5/'}
    """
    if os.fspath(folder).startswith("gs://"):
        bucket, _, path = os.fspath(folder).removeprefix("gs://").partition("/")
        return {"driver": "gcs", "bucket": bucket, "path": f"{path}/"}
    return {"driver": "file", "path": f"{os.fspath(folder.resolve())}/"}


def _has_index(folder: epath.Path) -> bool:
    index = folder / _T5X_INDEX
    return (
        not _is_tensorflow(index) if files.is_regular(index) else (folder / _ORBAX_INDEX).exists()
    )


def _is_tensorflow(index: epath.Path) -> bool:
    with index.open("rb") as file:
        return file.read(len(_TENSORFLOW)) == _TENSORFLOW


def _find(path: epath.Path) -> epath.Path:
    folder = path.parent if path.name == _T5X_INDEX and files.is_regular(path) else path
    if files.is_regular(folder / _T5X_INDEX) and _is_tensorflow(folder / _T5X_INDEX):
        raise ValueError(
            f"A checkpoint must be T5X's; {folder} holds one of TensorFlow (Mesh TensorFlow's T5). "
            "Name the weights in T5X's format, or convert them with T5X first."
        )
    if _has_index(folder):
        return folder
    found = list(steps(folder).values())
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(step.name for step in found)
        raise ValueError(f"The folder must hold one checkpoint; {path} holds {listed}. Name one.")
    raise FileNotFoundError(
        f"A T5X checkpoint must be a folder with the file {_T5X_INDEX} (msgpack) or {_ORBAX_INDEX} "
        f"(Orbax); {path} has neither. Correct the path: it ends in checkpoint_<step>."
    )


def _check_regular(folder: epath.Path) -> None:
    """ValueError if a local folder holds a pipe or device, which TensorStore would wait for."""
    for parent, _, names_there in os.walk(folder):
        for name in names_there:
            files.check_regular(epath.Path(parent) / name, "Copy the checkpoint again.")


def _list_t5x(folder: epath.Path) -> dict[str, np.ndarray | dict[str, Any]]:
    """Name in the train state → the array, or TensorStore's specification of its store."""
    index = folder / _T5X_INDEX
    try:
        state = serialization.msgpack_restore(index.read_bytes())["optimizer"]
        leaves = traverse_util.flatten_dict(
            state, sep="/", is_leaf=lambda _, node: {"driver", "kvstore"} <= set(node)
        )
        return {
            # The spec names the disk or bucket of the writer; here an array's folder is beside the
            # file. T5X before TensorStore 0.1.14 has the path outside of `kvstore`.
            name: kvstore(folder / epath.Path(x["kvstore"].get("path") or x["path"]).name)
            if isinstance(x, dict)
            else x
            for name, x in leaves.items()
        }
    # Any of them, depending on where the file is cut or changed.
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"A checkpoint's file must be a complete msgpack with T5X's train state; {index} is "
            f"not: {error!r}. Copy or download it again; save one from before 2021 anew with T5X."
        ) from error


def open_item(item: epath.Path) -> dict[str, StoredArray]:
    """Unread arrays of an Orbax item (a folder with `_METADATA`); ValueError if it is damaged."""
    return _open_arrays(item, _list_item(item))


def _list_item(item: epath.Path) -> dict[str, dict[str, Any]]:
    """Name in the item's tree → TensorStore's specification of the array's store."""
    _check_regular(item)
    index = item / "_METADATA"
    try:
        entries = files.read_json(index)["tree_metadata"].values()
        trees = [[key["key"] for key in entry["key_metadata"]] for entry in entries]
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"A checkpoint's {_ORBAX_INDEX} must be JSON with the names of its arrays; {index} is "
            f"not: {error!r}. Copy or download the checkpoint again."
        ) from error
    is_ocdbt = (item / "manifest.ocdbt").exists()
    locate = _ocdbt if is_ocdbt else lambda state, name: kvstore(state / name)
    return {"/".join(keys): locate(item, ".".join(keys)) for keys in trees}


def _ocdbt(state: epath.Path, name: str) -> dict[str, Any]:
    return {"driver": "ocdbt", "base": kvstore(state), "path": f"{name}/"}


def _open_arrays(folder: epath.Path, stores: Mapping[str, Any]) -> dict[str, StoredArray]:
    # All in parallel: every request to a bucket has latency.
    futures = {
        path: tensorstore.open(
            # TensorStore would read a missing chunk as zeros.
            {"driver": "zarr", "kvstore": store, "fill_missing_data_reads": False},
            open=True,
        )
        for path, store in stores.items()
        if isinstance(store, dict)
    }
    opened = {}
    for path, array in stores.items():
        name = f"{path} of {folder}"
        if path in futures:
            store = _wait(name, futures[path].result)
            read = functools.partial(_wait, name, lambda store=store: store.read().result())
            opened[path] = StoredArray(store.shape, store.dtype.numpy_dtype, read)
        else:
            # T5X keeps small arrays in the index itself.
            opened |= arrays_lib.in_memory({path: np.asarray(array)})
        if not jnp.issubdtype(opened[path].dtype, jnp.floating):
            raise ValueError(
                f"A parameter must be an array of floats; {name} is of type {opened[path].dtype}. "
                "T5X before June 2021 wrote bfloat16 as uint16: restore and save it with T5X."
            )
    return opened


def _wait(name: str, result: Callable[[], Any]) -> Any:
    try:
        return result()
    except ValueError as error:
        reason = str(error).split(" [", 1)[0]  # without TensorStore's long spec
        raise ValueError(
            f"A checkpoint must hold all chunks of its arrays, undamaged; {name}: {reason}. "
            "Copy or download the checkpoint again."
        ) from error


def _write_t5x(folder: epath.Path, state: Arrays, step: np.ndarray) -> None:
    folder.mkdir(parents=True)
    tree = {"state/step": step}
    for name, array in state.items():
        beside = name.replace("/", ".")
        spec = _write_array(array, kvstore(folder / beside), "gzip")
        # T5X puts the folder, and the bucket if there is one, in front when it reads.
        tree[name] = spec | {"kvstore": {"driver": "file", "path": f"{beside}/"}}
    contents = {"version": _VERSION, "optimizer": names.unflatten(tree)}
    (folder / _T5X_INDEX).write_bytes(serialization.msgpack_serialize(contents))


def _write_orbax(folder: epath.Path, state: Arrays, step: np.ndarray) -> None:
    (folder / "state").mkdir(parents=True)
    tree = {}
    for name, array in {**state, **arrays_lib.in_memory({"state/step": step})}.items():
        keys = name.split("/")
        _write_array(array, _ocdbt(folder / "state", ".".join(keys)), "zstd")
        tree[str(tuple(keys))] = {
            "key_metadata": [{"key": key, "key_type": 2} for key in keys],  # 2: of a dict
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
    metadata = {"tree_metadata": tree, "use_ocdbt": True, "use_zarr3": False}
    (folder / _ORBAX_INDEX).write_text(json.dumps(metadata))
    for complete in (folder / "state", folder):
        # In a bucket Orbax takes a folder without it for unfinished.
        (complete / "commit_success.txt").write_text("")


def _write_array(array: StoredArray, kvstore: dict[str, Any], compressor: str) -> dict[str, Any]:
    """Writes an array as zarr; returns TensorStore's specification of it."""
    store = tensorstore.open(
        {
            "driver": "zarr",
            "kvstore": kvstore,
            "dtype": np.dtype(array.dtype).name,
            "metadata": {"shape": array.shape, "compressor": {"id": compressor, "level": 1}},
            "schema": {"chunk_layout": {"chunk": {"elements_soft_constraint": _CHUNK_ELEMENTS}}},
        },
        create=True,
    ).result()
    store.write(array.read()).result()
    spec = store.spec().to_json()
    return {key: spec[key] for key in ("driver", "dtype", "metadata")}
