"""A backbone from disk: safetensors in our names or Hugging Face's become T5's parameters.

`load` takes a `.safetensors` file or a folder of them (a Hugging Face T5 folder, sharded or not),
and accounts for every array: each one is loaded, a known copy of another, or an error.
`save` writes the same parameters in our names, T5X's paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np
import safetensors
from etils import epath
from safetensors import numpy as safetensors_numpy

from hyperdecoders_jax import model
from hyperdecoders_jax.interop import names
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Params

_DTYPES = {"F32": np.float32, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "F64": np.float64}
_SHARED = "shared.weight"
_HEAD = "lm_head.weight"
# Copies of the shared embedding that some Hugging Face checkpoints hold.
_ALIASES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# A table that T5 v1.1 checkpoints hold although cross-attention never reads it.
_UNUSED = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)


def load(path: str | epath.Path, config: TransformerConfig) -> Params:
    """Reads T5's own parameters: the keys `token_embedder`, `encoder` and `decoder`.

    Arrays keep the type that they are stored in.

    Args:
      path: of a `.safetensors` file, or of a folder that holds one or several.
      config: what the parameters must fit.

    Raises:
      FileNotFoundError: there is no such file or folder, or nothing to read in it.
      ValueError: the arrays are not exactly those of `config`.
    """
    stored = _read(_find_files(epath.Path(path)))
    their_names = names.hugging_face_names(config)
    is_theirs = _SHARED in stored
    wanted = their_names if is_theirs else {name: name for name in their_names}
    known = set(wanted.values())
    if is_theirs:
        copies = [*_ALIASES, _HEAD] if config.logits_via_embedding else _ALIASES
        _check_copies(path, stored, copies)
        known |= {*copies, *_UNUSED}
    missing = sorted(set(wanted.values()) - set(stored))
    unexpected = sorted(set(stored) - known)
    if missing or unexpected:
        raise ValueError(
            f"{path} must hold exactly the parameters of the model's T5; missing: "
            f"{_abridge(missing)}; unexpected: {_abridge(unexpected)}. Choose the file of "
            "gin_configs/models that fits these weights (v1.0: relu and tied; v1.1: gated and "
            "untied; the numbers of layers)."
        )
    flat = {}
    for name, stored_name in wanted.items():
        value = stored[stored_name]
        flat[name] = names.transpose(name, value) if is_theirs else value
    _check_shapes(path, flat, config)
    return names.unflatten(flat)


def save(path: str | epath.Path, params: Params, metadata: Mapping[str, str]) -> None:
    """Writes T5's own parameters of `params`, in our names and their types.

    Args:
      path: of the `.safetensors` file.
      params: of a model; new parameters in it are left out.
      metadata: strings that the file should carry, such as where the weights come from.
    """
    backbone = {key: params[key] for key in model.BACKBONE_KEYS}
    flat = {name: np.ascontiguousarray(x) for name, x in names.flatten(backbone).items()}
    epath.Path(path).write_bytes(safetensors_numpy.save(flat, dict(metadata)))


def _find_files(path: epath.Path) -> list[epath.Path]:
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if found:
            return found
        held = ", ".join(sorted(child.name for child in path.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(
            f"The folder of a backbone must hold .safetensors files; {path} holds {held}. "
            "Save the model with safetensors (save_pretrained does), or name another folder."
        )
    if not path.exists():
        raise FileNotFoundError(
            "The initial checkpoint must be a .safetensors file or a folder of them; there is "
            f"nothing at {path}. Correct INITIAL_CHECKPOINT_PATH, or leave it None to start from "
            "random weights."
        )
    if path.suffix != ".safetensors":
        raise ValueError(
            f"The initial checkpoint must be a .safetensors file or a folder of them; got {path}. "
            "Save the weights as safetensors first."
        )
    return [path]


def _read(files: list[epath.Path]) -> dict[str, np.ndarray]:
    arrays = {}
    for file in files:
        try:
            # Not safetensors.numpy.load, which knows no bfloat16.
            for name, stored in safetensors.deserialize(file.read_bytes()):
                if stored["dtype"] not in _DTYPES:
                    raise ValueError(
                        f"Weights must be of type {', '.join(_DTYPES)}; {name} in {file} is of "
                        f"type {stored['dtype']}. Save the weights as floats, not quantised."
                    )
                array = np.frombuffer(stored["data"], _DTYPES[stored["dtype"]])
                arrays[name] = array.reshape(stored["shape"])
        except safetensors.SafetensorError as error:
            raise ValueError(
                f"A backbone must be whole safetensors files; {file} is not: {error}. "
                "Copy or download it again."
            ) from error
    return arrays


def _check_copies(path, stored: Mapping[str, np.ndarray], copies: Sequence[str]) -> None:
    for name in copies:
        if name in stored and not np.array_equal(stored[name], stored[_SHARED]):
            raise ValueError(
                f"{name} must be a copy of {_SHARED}, because the model has one embedding for both;"
                f" they differ in {path}. "
                + (
                    "Set LOGITS_VIA_EMBEDDING = False, as the files of T5 v1.1 do."
                    if name == _HEAD
                    else "These weights are of another architecture: choose a T5's."
                )
            )


def _check_shapes(path, flat: Mapping[str, np.ndarray], config: TransformerConfig) -> None:
    shapes = names.flatten(model.Model(config).param_shapes())
    for name, value in flat.items():
        if value.shape != shapes[name].shape:
            raise ValueError(
                f"{path} must fit the model; {name} has shape {value.shape} there and "
                f"{shapes[name].shape} in the configuration. Choose the file of "
                "gin_configs/models that fits these weights."
            )


def _abridge(found: list[str]) -> str:
    if not found:
        return "none"
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(found[:5]) + more
