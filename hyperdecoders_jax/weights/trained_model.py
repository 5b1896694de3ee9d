"""A trained model as data, which every format reads and writes; what one does not tell is None."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Collection, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from hyperdecoders_jax import errors
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding import beam_search, sampling
from hyperdecoders_jax.decoding.decode import DecodingConfig
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Params
from hyperdecoders_jax.weights import names
from hyperdecoders_jax.weights.arrays import Arrays

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
VOCABULARY_FILE = "spiece.model"
# Metadata of safetensors files: `Vocabulary.fingerprint`.
VOCABULARY_KEY = "vocabulary_fingerprint"
# By name: a file may choose among these classes and no others.
_BEAMS = (beam_search.BeamSearchConfig, beam_search.HuggingFaceScoring, beam_search.T5XScoring)
_DECODING = {x.__name__: x for x in (*_BEAMS, sampling.GreedyConfig, sampling.SamplingConfig)}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The frozen T5 that adapters belong to, named instead of stored."""

    source: str  # Path or hub id.
    fingerprint: str | None  # Of its parameters in float32; None where nobody hashed them.
    dtype: str  # That the run computed with, "float32" or "bfloat16".


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A vocabulary by its content."""

    model: bytes  # Of a spiece.model, or `tokenizer.BYTES_MODEL`.
    num_sentinels: int  # Behind its pieces.

    @property
    def is_bytes(self) -> bool:
        """Whether this is ByT5's vocabulary, which has no file."""
        return self.model == tokenizer.BYTES_MODEL

    @property
    def fingerprint(self) -> str:
        """Hash of the content."""
        return tokenizer.fingerprint(self.model, self.num_sentinels)

    @property
    def files(self) -> dict[str, bytes]:
        """Its files in a folder: one, or none for bytes."""
        return {} if self.is_bytes else {VOCABULARY_FILE: self.model}


@dataclasses.dataclass(frozen=True)
class Description:
    """What parameters belong to."""

    model: TransformerConfig
    decoding: DecodingConfig | None = None
    backbone: Backbone | None = None  # A frozen T5 that is stored elsewhere.
    vocabulary: Vocabulary | None = None  # Of inputs and targets.
    task_names: tuple[str, ...] = ()  # In the order that numbers tasks.
    task_feature_lengths: Mapping[str, int] | None = None  # Tokens of inputs and targets.
    step: int = 0


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model, whichever folder it came from.

    `arrays` are under our paths, in our layouts, lazily read; an adapter folder holds those of
    `own`. `skipped` are names in files that became no parameter, `new` parameters of no file, each
    with the reason; `files` of the tokenizer, by name; `metadata` of a safetensors file; `unread`
    arrays that the original stores and never reads, so that it can be written again.
    """

    description: Description
    arrays: Arrays
    own: Collection[str] = ()
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    new: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unread: Arrays = dataclasses.field(default_factory=dict)

    @property
    def config(self) -> TransformerConfig:
        """Sizes and adapters."""
        return self.description.model

    def replace(self, **changes: Any) -> TrainedModel:
        """A copy with other fields; `model` replaces the description's."""
        if "model" in changes:
            model = changes.pop("model")
            changes["description"] = dataclasses.replace(self.description, model=model)
        return dataclasses.replace(self, **changes)

    def as_predicted(self) -> TrainedModel:
        """The same with a frozen T5 in the type that its run predicted with."""
        backbone = self.description.backbone
        dtype = np.dtype(np.float32) if backbone is None else DTYPES[backbone.dtype]
        arrays = self.arrays.items()
        return self.replace(arrays={p: x if p in self.own else x.cast(dtype) for p, x in arrays})

    def params(self) -> Params:
        """All parameters in memory, as a tree."""
        return names.unflatten({path: array.read() for path, array in self.arrays.items()})


def of_text(
    description: Description, arrays: Arrays, own: Collection[str] = (), **more: Any
) -> TrainedModel:
    """A trained model with a vocabulary, whose files and fingerprint go into other formats."""
    vocabulary = description.vocabulary
    metadata = {VOCABULARY_KEY: vocabulary.fingerprint}
    return TrainedModel(description, arrays, own, files=vocabulary.files, metadata=metadata, **more)


def to_json(description: Description) -> dict[str, Any]:
    """The fields of a description, as `config.json` of adapter folders and runs holds them."""
    vocabulary, backbone = description.vocabulary, description.backbone
    return {
        "step": description.step,
        "backbone": backbone and dataclasses.asdict(backbone),
        "vocabulary": {
            "file": None if vocabulary.is_bytes else VOCABULARY_FILE,
            "num_sentinels": vocabulary.num_sentinels,
            "fingerprint": vocabulary.fingerprint,
        },
        "task_names": list(description.task_names),
        "task_feature_lengths": dict(description.task_feature_lengths),
        "decoding": decoding_to_json(description.decoding),
        "model": modeling_config.to_dict(description.model),
    }


def from_json(
    fields: Mapping[str, Any], model: TransformerConfig, vocabulary: bytes
) -> Description:
    """Inverse of `to_json`, given model and vocabulary; KeyError, TypeError or AttributeError."""
    description = Description(
        model=model,
        decoding=decoding_from_json(fields["decoding"]),
        backbone=Backbone(**fields["backbone"]) if fields.get("backbone") else None,
        vocabulary=Vocabulary(vocabulary, fields["vocabulary"]["num_sentinels"]),
        task_names=tuple(fields["task_names"]),
        task_feature_lengths=fields["task_feature_lengths"],
        step=fields["step"],
    )
    lengths = [description.task_feature_lengths[name] for name in ("inputs", "targets")]
    if not all(isinstance(length, int) and length > 0 for length in lengths):
        raise TypeError(f"task_feature_lengths of {lengths}")
    if not isinstance(description.step, int):
        raise TypeError(f"step of {description.step!r}")
    num_names = len(description.task_names)
    if model.reads_tasks and num_names > model.num_tasks:
        raise TypeError(f"{num_names} task_names and num_tasks of {model.num_tasks}")
    return description


def made_by() -> str:
    """This package and its version, for files that it writes."""
    return f"hyperdecoders_jax {importlib.metadata.version('hyperdecoders_jax')}"


def decoding_to_json(config: Any) -> dict[str, Any]:
    """Nested plain values of a decoding config; its class is the field `type`."""
    fields = {"type": type(config).__name__}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        fields[field.name] = decoding_to_json(value) if dataclasses.is_dataclass(value) else value
    return fields


def decoding_from_json(fields: Mapping[str, Any]) -> Any:
    """Inverse of `decoding_to_json`; KeyError or TypeError for fields, ValueError for classes."""
    items = fields.items()
    fields = {key: decoding_from_json(x) if isinstance(x, Mapping) else x for key, x in items}
    name = fields.pop("type")
    if name not in _DECODING:
        raise ValueError(
            f"A way of decoding must be one of {tuple(_DECODING)}; got {name!r}."
            f"{errors.suggestion(name, _DECODING)} A later version may have it: update the package."
        )
    return _DECODING[name](**fields)
