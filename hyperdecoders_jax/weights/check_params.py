"""One comparison of arrays with the parameters of a model, and its one message."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from hyperdecoders_jax import model
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import names

# What to do where a caller knows nothing better.
CHOOSE = (
    "Choose the files of gin_configs/models and gin_configs/adapters that fit these weights (v1.0: "
    "relu and tied; v1.1: gated and untied; the numbers of layers); hyperdecoders convert "
    "--vocab_size=N changes the rows of a vocabulary."
)
_SHOWN = 3


class Shaped(Protocol):
    """An array, a stored array or the shape of one."""

    shape: tuple[int, ...]


def check_params(
    arrays: Mapping[str, Shaped],
    wanted: TransformerConfig | Mapping[str, Any],
    where: str,
    *,
    may_lack: Collection[str] = (),
    is_start: bool = False,
    advice: str = CHOOSE,
    called: Mapping[str, str] | None = None,
) -> list[str]:
    """Raises ValueError if arrays are not exactly the parameters of a model, in their shapes.

    `arrays` are under our paths; `wanted` is the model, or the shapes of its parameters by path.
    Below the top-level keys `may_lack` parameters may be missing; where a run starts from them
    (`is_start`), parts that adapt the T5, as a whole. Returns the missing paths, in the order of
    the model. `where`, `advice` and `called`, names in the files by path, are for the message.
    """
    called = called or {}
    if isinstance(wanted, TransformerConfig):
        wanted = names.flatten(model.Model(wanted).param_shapes())
    if is_start:
        held = {path.split("/")[0] for path in arrays} | set(model.BACKBONE_KEYS)
        may_lack = {path.split("/")[0] for path in wanted} - held
    absent = [path for path in wanted if path not in arrays]
    lacking = [path for path in absent if path.split("/")[0] in may_lack]
    missing = sorted(called.get(path, path) for path in set(absent) - set(lacking))
    unexpected = sorted(called.get(path, path) for path in arrays if path not in wanted)
    others = [
        # By our path, also where files call it otherwise: shapes are those of our layout.
        f"{path} is {tuple(arrays[path].shape)} there and {tuple(wanted[path].shape)} in the model"
        for path in sorted(arrays)
        if path in wanted and tuple(arrays[path].shape) != tuple(wanted[path].shape)
    ]
    if missing or unexpected or others:
        raise ValueError(
            f"{where} must hold exactly the parameters of the model; missing: "
            f"{names.abridge(missing)}; unexpected: {names.abridge(unexpected)}; of another shape: "
            f"{names.abridge(others, _SHOWN)}. {advice}"
        )
    return lacking
