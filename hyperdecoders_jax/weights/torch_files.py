"""PyTorch's `.bin` files of weights: pickles, read with `weights_only`, so that none runs code.

Source: pytorch/pytorch, torch/_weights_only_unpickler.py; transformers' names of files.
"""

from __future__ import annotations

import os
import pickle
import types
import zipfile

import ml_dtypes
import numpy as np
from etils import epath

from hyperdecoders_jax import files as files_lib
from hyperdecoders_jax.weights import safetensors_files
from hyperdecoders_jax.weights.arrays import FLOATS, Arrays, StoredArray

SINGLE_FILE = "pytorch_model.bin"
INDEX_FILE = "pytorch_model.bin.index.json"

# In older versions a file could run code in spite of `weights_only` (CVE-2025-32434).
_OLDEST = (2, 6)


def open(path: str | os.PathLike) -> dict[str, StoredArray]:
    """Arrays of a file, or of a folder's `pytorch_model.bin` or its shards; memory-mapped.

    Raises like `safetensors_files.open`; ImportError if PyTorch is missing or too old to be safe,
    ValueError also if a file would run code. Cost: files from before PyTorch 1.6 are read whole.
    """
    path = epath.Path(path)
    files = safetensors_files.find(path, SINGLE_FILE, "PyTorch's weights must be a .bin file")
    if not files:
        raise FileNotFoundError(
            f"A folder of PyTorch's weights must hold {SINGLE_FILE} or {INDEX_FILE}; {path} holds "
            f"{safetensors_files.listing(path)}. Name another folder, or the file itself."
        )
    return safetensors_files.merge(files, _open_file)


def write(path: str | os.PathLike, arrays: Arrays) -> None:
    """Writes a `state_dict` from memory; names of one `StoredArray` share bytes, as if tied."""
    torch = _import_torch()
    # By identity: arrays that are merely equal stay separate.
    tensors = {id(x): x for x in arrays.values()}
    tensors = {key: _to_tensor(array.read(), torch) for key, array in tensors.items()}
    torch.save({name: tensors[id(array)] for name, array in arrays.items()}, os.fspath(path))


def _import_torch() -> types.ModuleType:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: without a library of its own.
        raise ImportError(
            f"Files of type .bin need PyTorch; importing it failed: {error}. Install it (pip "
            "install torch), or save the model as safetensors."
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < _OLDEST:
        raise ImportError(
            f"PyTorch must be 2.6 or newer to read .bin files, which could run code otherwise "
            f"(CVE-2025-32434); {torch.__version__} is installed. Update it (pip install -U torch)."
        )
    return torch


def _open_file(file: epath.Path) -> dict[str, StoredArray]:
    files_lib.check_regular(file)
    torch = _import_torch()
    try:
        with safetensors_files.local_copy(file) as path:
            # Only zip files, which PyTorch writes since 1.6, can be memory-mapped.
            mmap = zipfile.is_zipfile(path)
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    # A damaged pickle may raise any error.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, pickle.UnpicklingError):
            raise ValueError(
                f"A .bin file must hold tensors alone; {file} is damaged, or holds something else "
                f"that could run code, and nothing of it was run: {reason}. Take the model's "
                "safetensors, or download the file again from somebody you trust."
            ) from error
        raise ValueError(
            f"Weights must be complete .bin files; {file} is not: {reason}. Download it again."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ValueError(
            f"A .bin file of weights must hold tensors by their names; {file} holds a "
            f"{type(state).__name__}. Save model.state_dict() instead."
        )
    return {name: _to_array(name, value, file, torch) for name, value in state.items()}


def _to_array(name: str, value: object, file: epath.Path, torch) -> StoredArray:
    dtypes = {getattr(torch, name): dtype for name, dtype in FLOATS.items()}
    is_tensor = isinstance(value, torch.Tensor)
    # Sparse tensors are not laid out as arrays, those on the device "meta" have no values.
    is_array = is_tensor and value.layout == torch.strided and value.device.type == "cpu"
    if not is_array or value.dtype not in dtypes:
        kind = type(value).__name__
        if is_tensor:
            kind = f"{value.layout} on {value.device}" if value.dtype in dtypes else value.dtype
        raise ValueError(
            f"Weights must be dense tensors of type {', '.join(map(str, dtypes))}; {name} in "
            f"{file} is {kind}. Save model.state_dict() as floats, not quantised."
        )
    dtype = dtypes[value.dtype]

    def read():
        tensor = value.detach().contiguous()
        if value.dtype == torch.bfloat16:
            # PyTorch converts no bfloat16 to numpy: its bits pass as int16.
            tensor = tensor.view(torch.int16)
        return tensor.numpy().view(dtype)

    return StoredArray(tuple(value.shape), dtype, read)


def _to_tensor(array: np.ndarray, torch):
    # A copy in C order: PyTorch shares numpy's memory, which may be read-only.
    array = np.array(array, order="C")
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
