"""Adapter folders: what a run trained, and what is needed to predict with it.

    <folder>/config.json           what the parameters belong to: `trained_model.Description`
             adapters.safetensors  all that the backbone does not give, in our paths, float32
             spiece.model          of the vocabulary, unless that is of bytes

The frozen backbone is only named, by its path and a fingerprint; a folder is a few per cent of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.model import BACKBONE_KEYS
from hyperdecoders_jax.weights import (
    check_params,
    conversion,
    fingerprints,
    names,
    run_folder,
    safetensors_files,
    trained_model,
)
from hyperdecoders_jax.weights.arrays import Arrays, in_memory
from hyperdecoders_jax.weights.trained_model import Backbone, Description, TrainedModel

CONFIG_FILE = "config.json"
ARRAYS_FILE = "adapters.safetensors"
# In its metadata: the model as JSON, which `config.json` must repeat.
_MODEL_KEY = "model"
FORMAT = "hyperdecoders_jax adapters"
VERSION = 1


def is_adapter_folder(path: epath.PathLike) -> bool:
    """Whether a folder's `config.json` says that it holds adapters."""
    return run_folder.has_field(epath.Path(path) / CONFIG_FILE, "format", FORMAT)


def write(folder: epath.PathLike, description: Description, arrays: Arrays) -> None:
    """Writes into a folder that exists; `arrays` are all parameters but the backbone's."""
    folder = epath.Path(folder)
    for name, content in description.vocabulary.files.items():
        (folder / name).write_bytes(content)
    described = trained_model.to_json(description)
    metadata = {"format": FORMAT, _MODEL_KEY: json.dumps(described["model"])}
    arrays, fingerprint = fingerprints.recorded(arrays)
    safetensors_files.write_file(folder / ARRAYS_FILE, arrays, metadata)
    head = {"format": FORMAT, "version": VERSION, "made_by": trained_model.made_by()}
    head[fingerprints.FIELD] = fingerprint()
    # Last: nothing takes a folder without it for an adapter folder.
    (folder / CONFIG_FILE).write_text(json.dumps(head | described, indent=1) + "\n")


def read(folder: epath.PathLike) -> tuple[Description, Arrays]:
    """Opens an adapter folder without its backbone; FileNotFoundError or ValueError if damaged."""
    folder = epath.Path(folder)
    description, arrays, _ = _open(folder, _read_config(folder / CONFIG_FILE))
    return description, arrays


def _open(folder: epath.Path, fields: Mapping[str, Any]) -> tuple[Description, Arrays, str | None]:
    """Description and arrays of a folder, and their fingerprint, unchecked."""
    advice = "Write the folder again with hyperdecoders convert, or copy it again."
    with trained_model.fields_of(folder / CONFIG_FILE, "what an adapter folder holds", advice):
        description = run_folder.read_description(folder, fields, "the adapters")
    file = folder / ARRAYS_FILE
    arrays = safetensors_files.open(file)
    trained = safetensors_files.json_metadata(file, _MODEL_KEY) or {}
    if trained != fields["model"]:
        differing = [name for name, x in fields["model"].items() if trained.get(name) != x]
        raise ValueError(
            f"The model in {folder / CONFIG_FILE} must be the one that {ARRAYS_FILE} was trained "
            f"as; these fields differ: {', '.join(differing) or 'some are missing'}. Undo the edit "
            "or copy it again."
        )
    return description, arrays, fingerprints.of_config(fields)


def read_whole(
    folder: str, backbone: str | None, read_start: Callable[..., TrainedModel]
) -> TrainedModel:
    """Opens an adapter folder, and the T5 that it adapts by `read_start` (`formats.read`).

    `backbone` is the T5's path in any format; None: where the run had it. FileNotFoundError if it
    is missing; ValueError if there is no adapter folder, it is damaged, or the T5 is another.
    """
    path = epath.Path(folder)
    description, stored, fingerprint = _open(path, _read_config(path / CONFIG_FILE))
    lacking = check_arrays(folder, description, stored)
    fingerprints.check(stored, fingerprint, os.fspath(path / ARRAYS_FILE))
    frozen = _read_frozen(description, lacking, backbone, read_start) if lacking else {}
    return trained_model.of_text(description, {**stored, **frozen}, tuple(stored))


def check_arrays(folder: epath.PathLike, description: Description, arrays: Arrays) -> list[str]:
    """Checks the arrays of a folder; returns the paths that the backbone must give."""
    return check_params.check_params(
        arrays,
        description.model,
        str(epath.Path(folder) / ARRAYS_FILE),
        may_lack=BACKBONE_KEYS if description.backbone is not None else (),
        advice="Copy the folder again.",
    )


def _read_frozen(
    description: Description,
    paths: Sequence[str],
    backbone: str | None,
    read_start: Callable[..., TrainedModel],
) -> Arrays:
    wanted, where = description.backbone, backbone or description.backbone.source
    try:
        found = read_start(where, config=description.model)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"These adapters need the T5 that they were trained with, {wanted.source}: {error} "
            "Pass its path here as backbone=…."
        ) from error
    conversion.check_config(found, description.model, where)
    check_params.check_params(found.arrays, description.model, where, is_start=True)
    # In memory: their fingerprint is computed, then they are used.
    float32 = trained_model.DTYPES["float32"]
    frozen = {path: found.arrays[path].cast(float32).read() for path in paths}
    how = "Pass the path of the right one as backbone=…."
    check_backbone(wanted, fingerprints.fingerprint(names.unflatten(frozen)), where, how)
    return in_memory(frozen)


def check_backbone(wanted: Backbone, fingerprint: str, where: str, how: str) -> None:
    """ValueError unless `where` has the wanted `fingerprint`; `how` to choose ends the message."""
    if fingerprint != wanted.fingerprint:
        raise ValueError(
            f"The backbone must be the one that the adapters were trained with, {wanted.source} of "
            f"fingerprint {str(wanted.fingerprint)[:12]}; {where} has {fingerprint[:12]}. {how}"
        )


def _read_config(file: epath.Path) -> dict[str, Any]:
    if not file.exists():
        raise ValueError(
            f"An adapter folder must hold {CONFIG_FILE}; there is no {file}. Make one with "
            "hyperdecoders convert --from=run:MODEL_DIR --to=adapters:FOLDER."
        )
    fields = files.read_json(file, "Copy the folder again.")
    if fields.get("format") != FORMAT:
        raise ValueError(
            f"{file} must say format {FORMAT!r}; it belongs to something else. Make an adapter "
            "folder with hyperdecoders convert --from=run:MODEL_DIR --to=adapters:FOLDER."
        )
    run_folder.check_version(fields, VERSION, file)
    return fields
