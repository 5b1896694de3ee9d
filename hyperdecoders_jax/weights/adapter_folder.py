"""Adapter folders: what a run trained, and what is needed to predict with it; out and in.

    <folder>/config.json           what the parameters belong to: see `Description`
             adapters.safetensors  all that the backbone does not give, in our paths, float32
             spiece.model          of the vocabulary, unless that is of bytes

The frozen backbone is not in it but named, by where it was and by a fingerprint of its parameters;
where everything was trained there is none. A folder holds a few per cent of a model, and no code.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from hyperdecoders_jax import errors
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding import beam_search, sampling
from hyperdecoders_jax.decoding.decode import DecodingConfig
from hyperdecoders_jax.model import BACKBONE_KEYS, Model
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import names, safetensors_files
from hyperdecoders_jax.weights.arrays import Arrays

CONFIG_FILE = "config.json"
ARRAYS_FILE = "adapters.safetensors"
# In its metadata: the model as JSON, which `config.json` must repeat.
_MODEL_KEY = "model"
VOCABULARY_FILE = "spiece.model"
FORMAT = "hyperdecoders_jax adapters"
VERSION = 1

_DECODING = {
    config.__name__: config
    for config in (
        beam_search.BeamSearchConfig,
        beam_search.HuggingFaceScoring,
        beam_search.T5XScoring,
        sampling.GreedyConfig,
        sampling.SamplingConfig,
    )
}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The parameters that an adapter folder needs and does not hold.

    Attributes:
      source: path or hub id, as the run was given it.
      fingerprint: of these parameters in float32.
      dtype: that the run cast them to, "float32" or "bfloat16".
    """

    source: str
    fingerprint: str
    dtype: str


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A vocabulary by its content.

    Attributes:
      model: the bytes of its spiece.model, or `tokenizer.BYTES_MODEL`.
      num_sentinels: that follow its pieces.
    """

    model: bytes
    num_sentinels: int

    @property
    def fingerprint(self) -> str:
        """That of the run's vocabulary."""
        return tokenizer.fingerprint(self.model, self.num_sentinels)


@dataclasses.dataclass(frozen=True)
class Description:
    """What the parameters of an adapter folder belong to.

    Attributes:
      model: sizes and adapters.
      decoding: how the run's predictions were made.
      backbone: the rest of the parameters; None where the folder holds all.
      vocabulary: of texts.
      task_names: the ordered list that numbers tasks.
      task_feature_lengths: tokens of inputs and targets in training.
      step: of the checkpoint.
    """

    model: TransformerConfig
    decoding: DecodingConfig
    backbone: Backbone | None
    vocabulary: Vocabulary
    task_names: tuple[str, ...]
    task_feature_lengths: Mapping[str, int]
    step: int


def is_adapter_folder(path: epath.PathLike) -> bool:
    """Whether there is a folder that says it is one."""
    file = epath.Path(path) / CONFIG_FILE
    try:
        return file.exists() and json.loads(file.read_text()).get("format") == FORMAT
    except (ValueError, AttributeError):
        return False


def write(folder: epath.PathLike, description: Description, arrays: Arrays) -> None:
    """Writes an adapter folder.

    Args:
      folder: that exists.
      description: of the model.
      arrays: all parameters, under our paths, but those of `description.backbone`.
    """
    folder = epath.Path(folder)
    is_bytes = description.vocabulary.model == tokenizer.BYTES_MODEL
    if not is_bytes:
        (folder / VOCABULARY_FILE).write_bytes(description.vocabulary.model)
    model = modeling_config.to_dict(description.model)
    metadata = {"format": FORMAT, _MODEL_KEY: json.dumps(model)}
    safetensors_files.write_file(folder / ARRAYS_FILE, arrays, metadata)
    fields = {
        "format": FORMAT,
        "version": VERSION,
        "made_by": made_by(),
        "step": description.step,
        "backbone": description.backbone and dataclasses.asdict(description.backbone),
        "vocabulary": {
            "file": None if is_bytes else VOCABULARY_FILE,
            "num_sentinels": description.vocabulary.num_sentinels,
            "fingerprint": description.vocabulary.fingerprint,
        },
        "task_names": list(description.task_names),
        "task_feature_lengths": dict(description.task_feature_lengths),
        "decoding": decoding_to_dict(description.decoding),
        "model": model,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(fields, indent=1) + "\n")


def read(folder: epath.PathLike) -> tuple[Description, Arrays]:
    """Opens an adapter folder.

    Raises:
      FileNotFoundError: a file of it is missing.
      ValueError: it is none, or of a later version, or damaged.
    """
    folder = epath.Path(folder)
    fields = _read_config(folder / CONFIG_FILE)
    try:
        vocabulary = fields["vocabulary"]
        is_bytes = vocabulary["file"] is None
        description = Description(
            model=modeling_config.from_dict(fields["model"]),
            decoding=decoding_from_dict(fields["decoding"]),
            backbone=fields["backbone"] and Backbone(**fields["backbone"]),
            vocabulary=Vocabulary(
                tokenizer.BYTES_MODEL if is_bytes else (folder / VOCABULARY_FILE).read_bytes(),
                vocabulary["num_sentinels"],
            ),
            task_names=tuple(fields["task_names"]),
            task_feature_lengths=fields["task_feature_lengths"],
            step=fields["step"],
        )
        check_description(description)
        fingerprint = description.vocabulary.fingerprint
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"An adapter folder must hold {VOCABULARY_FILE}; there is none in {folder}. Copy the "
            "folder again."
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder / CONFIG_FILE} must say what an adapter folder holds; it does not: "
            f"{type(error).__name__} {error}. Write the folder again with hyperdecoders convert."
        ) from error
    if fingerprint != vocabulary["fingerprint"]:
        raise ValueError(
            f"{folder / VOCABULARY_FILE} must be the vocabulary that the adapters were trained "
            f"with, of fingerprint {str(vocabulary['fingerprint'])[:12]}; it has "
            f"{fingerprint[:12]}. Copy the folder again."
        )
    arrays = safetensors_files.open(folder / ARRAYS_FILE)
    trained = json.loads(safetensors_files.metadata(folder / ARRAYS_FILE).get(_MODEL_KEY, "null"))
    if trained != fields["model"]:
        differing = [
            name for name in fields["model"] if (trained or {}).get(name) != fields["model"][name]
        ]
        raise ValueError(
            f"The model in {folder / CONFIG_FILE} must be the one that {ARRAYS_FILE} was trained "
            f"as; these fields differ: {', '.join(differing) or 'some are missing'}. Undo the "
            "edit, or copy the folder again."
        )
    return description, arrays


def check_description(description: Description) -> None:
    """Checks what a file says besides the model's own fields, which check themselves.

    Raises:
      KeyError, TypeError: lengths, names or the step are no good; whoever reads the file names it.
    """
    lengths = [description.task_feature_lengths[name] for name in ("inputs", "targets")]
    if not all(isinstance(length, int) and length > 0 for length in lengths):
        raise TypeError(f"task_feature_lengths of {lengths}")
    if not isinstance(description.step, int):
        raise TypeError(f"step of {description.step!r}")
    model, num_names = description.model, len(description.task_names)
    if model.reads_tasks and num_names > model.num_tasks:
        raise TypeError(f"{num_names} task_names and num_tasks of {model.num_tasks}")


def check_arrays(folder: epath.PathLike, description: Description, arrays: Arrays) -> list[str]:
    """Lists the parameters that the backbone must give, having checked all others.

    Raises:
      ValueError: one is missing, unexpected or of another shape.
    """
    shapes = names.flatten(Model(description.model).param_shapes())
    lacking = [path for path in shapes if path not in arrays]
    misfits = [p for p in arrays if p not in shapes or arrays[p].shape != shapes[p].shape]
    has_backbone = description.backbone is not None
    misfits += [p for p in lacking if not (has_backbone and p.split("/")[0] in BACKBONE_KEYS)]
    if misfits:
        raise ValueError(
            f"An adapter folder must hold every parameter but the backbone's; in "
            f"{epath.Path(folder) / ARRAYS_FILE} these are missing, unexpected or of another "
            f"shape: {names.abridge(sorted(misfits))}. Copy the folder again."
        )
    return lacking


def check_backbone(wanted: Backbone, fingerprint: str, where: str, how: str) -> None:
    """Checks that a backbone is the one that the adapters were trained with.

    Args:
      wanted: of the adapter folder.
      fingerprint: of the same parameters elsewhere.
      where: they are.
      how: to name others, for the message.

    Raises:
      ValueError: it is another.
    """
    if fingerprint != wanted.fingerprint:
        raise ValueError(
            "The backbone must be the one that the adapters were trained with, "
            f"{wanted.source} of fingerprint {wanted.fingerprint[:12]}; {where} has "
            f"{fingerprint[:12]}. {how}"
        )


def _read_config(file: epath.Path) -> dict[str, Any]:
    if not file.exists():
        raise ValueError(
            f"An adapter folder must hold {CONFIG_FILE}; there is no {file}. Make one with "
            "hyperdecoders convert --from=run:MODEL_DIR --to=adapters:FOLDER."
        )
    try:
        fields = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(
            f"{file} must be JSON; it is not: {error}. Copy the folder again."
        ) from error
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise ValueError(
            f"{file} must say format {FORMAT!r}; it belongs to something else. Name an adapter "
            "folder; hyperdecoders convert --from=run:MODEL_DIR --to=adapters:FOLDER makes one."
        )
    if fields.get("version") != VERSION:
        raise ValueError(
            f"An adapter folder must be of version {VERSION}; {file} is of "
            f"{fields.get('version')!r}, made by {fields.get('made_by')}. Update this package."
        )
    return fields


def made_by() -> str:
    """This package and its version, for files that it writes."""
    return f"hyperdecoders_jax {importlib.metadata.version('hyperdecoders_jax')}"


def decoding_to_dict(config: Any) -> dict[str, Any]:
    """The fields of a way of decoding as plain values, nested; its class is the field `type`."""
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    fields = {
        name: decoding_to_dict(value) if dataclasses.is_dataclass(value) else value
        for name, value in fields.items()
    }
    return {"type": type(config).__name__, **fields}


def decoding_from_dict(fields: Mapping[str, Any]) -> Any:
    """The opposite of `decoding_to_dict`.

    Raises:
      KeyError, TypeError: a field is missing or unknown.
      ValueError: there is no such way of decoding.
    """
    fields = {
        name: decoding_from_dict(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
    }
    name = fields.pop("type")
    if name not in _DECODING:
        raise ValueError(
            f"A way of decoding must be one of {tuple(_DECODING)}; got {name!r}."
            f"{errors.suggestion(name, _DECODING)} A later version may have written it: update "
            "this package."
        )
    return _DECODING[name](**fields)
