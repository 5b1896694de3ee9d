"""A trained model as data, which every format reads and writes; what one does not tell is None."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from hyperdecoders_jax import errors, files, types
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.decoding import beam_search, sampling
from hyperdecoders_jax.decoding.decode import DecodingConfig, GreedyConfig
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Params
from hyperdecoders_jax.weights import names
from hyperdecoders_jax.weights.arrays import Arrays

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
VOCABULARY_FILE = "spiece.model"
# Metadata of safetensors files: `Vocabulary.fingerprint`.
VOCABULARY_KEY = "vocabulary_fingerprint"
MOST_SENTINELS = 10_000
# By name: a file may choose among these classes and no others.
_WAYS = (beam_search.BeamSearchConfig, sampling.GreedyConfig, sampling.SamplingConfig)
_SCORINGS = (
    beam_search.T5XScoring, beam_search.HuggingFaceScoring, beam_search.HuggingFace457Scoring,
)  # fmt: skip
_DECODING = {x.__name__: x for x in (*_WAYS, *_SCORINGS)}


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The frozen T5 that adapters belong to, named instead of stored."""

    source: str  # Path or hub id.
    fingerprint: str | None  # Of its parameters in float32; None where nobody hashed them.
    dtype: str  # That the run computed with, "float32" or "bfloat16".

    def __post_init__(self):
        kinds = {"source": str, "fingerprint": str | None}
        for name, kind in kinds.items():
            is_valid = isinstance(getattr(self, name), kind)
            errors.check_field(self, name, is_valid, "be a text", "It names the frozen T5.")
        is_valid, advice = self.dtype in tuple(DTYPES), "Use float32 where it is not known."
        errors.check_field(self, "dtype", is_valid, f"be one of {tuple(DTYPES)}", advice)


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A vocabulary by its content."""

    model: bytes  # Of a spiece.model, or `tokenizer.BYTES_MODEL`.
    num_sentinels: int  # Behind its pieces.

    def __post_init__(self):
        is_count = errors.is_whole(self.num_sentinels, 0, MOST_SENTINELS)
        must, advice = f"be an integer from 0 to {MOST_SENTINELS:,}", "T5 has 100, mT5 0, ByT5 125."
        errors.check_field(self, "num_sentinels", is_count, must, advice)

    @property
    def is_bytes(self) -> bool:
        """Whether this is ByT5's vocabulary, which has no file."""
        return self.model == tokenizer.BYTES_MODEL

    @property
    def fingerprint(self) -> str:
        """Hash of what it computes."""
        return self.fingerprints[0]

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprint, and those of earlier versions; see `tokenizer.fingerprints`."""
        return tokenizer.fingerprints(self.model, self.num_sentinels)

    @property
    def files(self) -> dict[str, bytes]:
        """Its files in a folder: one, or none for bytes."""
        return {} if self.is_bytes else {VOCABULARY_FILE: self.model}


@dataclasses.dataclass(frozen=True)
class Description:
    """What parameters belong to."""

    model: TransformerConfig
    decoding: DecodingConfig = GreedyConfig()
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
    """Inverse of `to_json`, given model and vocabulary; raises what `fields_of` tells."""
    description = Description(
        model=model,
        decoding=decoding_from_json(fields["decoding"]),
        backbone=Backbone(**fields["backbone"]) if fields.get("backbone") else None,
        vocabulary=Vocabulary(vocabulary, fields["vocabulary"]["num_sentinels"]),
        task_names=to_texts("task_names", fields["task_names"]),
        task_feature_lengths=fields["task_feature_lengths"],
        step=fields["step"],
    )
    for name in ("inputs", "targets"):
        check_length(f"task_feature_lengths.{name}", description.task_feature_lengths[name])
    step, most = description.step, 2**63 - 1
    errors.check_value("step", step, errors.is_whole(step, 0, most), "be a number of steps")
    min_len, num_names = description.decoding.min_len, len(description.task_names)
    must = f"be at most the {description.task_feature_lengths['targets']} tokens of targets"
    is_short = min_len <= description.task_feature_lengths["targets"]
    errors.check_value("decoding.min_len", min_len, is_short, must)
    if model.reads_tasks:
        must = f"be at least the {num_names} of task_names"
        is_enough = model.num_tasks is not None and num_names <= model.num_tasks
        errors.check_value("num_tasks", model.num_tasks, is_enough, must)
    return description


@contextlib.contextmanager
def fields_of(file: epath.PathLike, what: str, advice: str) -> Iterator[None]:
    """Tells, as ValueError, what is wrong with the fields of a JSON file, which should say `what`.

    Messages name the file, and end with `advice`: those of configurations are for gin files.
    """
    try:
        yield
    except errors.FieldError as error:
        raise ValueError(f"{error.name} in {file} {error.problem} {advice}") from error
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if errors.is_own(error):
            raise
        raise ValueError(
            f"{file} must say {what}; it does not: {type(error).__name__} {error}. {advice}"
        ) from error


def check_length(name: str, value: object) -> None:
    """Raises FieldError unless a value is a number of tokens."""
    most = types.MAX_LEN
    must = f"be an integer from 1 to {most:,}, a number of tokens"
    errors.check_value(name, value, errors.is_whole(value, 1, most), must)


def to_texts(name: str, value: object) -> tuple[str, ...]:
    """A list of texts in JSON; FieldError if it is none."""
    is_list = isinstance(value, list | tuple) and all(isinstance(x, str) for x in value)
    errors.check_value(name, value, is_list, "be a list of texts")
    return tuple(value)


def read_vocabulary(folder: epath.Path) -> bytes:
    """The bytes of a folder's `spiece.model`; FileNotFoundError or ValueError if there is none."""
    file = folder / VOCABULARY_FILE
    files.check_regular(file)
    if not file.exists():
        raise FileNotFoundError(
            f"A model that reads and writes text must hold {VOCABULARY_FILE}; there is none in "
            f"{folder}. Copy it, or the folder, again."
        )
    return file.read_bytes()


def made_by() -> str:
    """This package and its version, for files that it writes."""
    return f"hyperdecoders_jax {files.VERSION}"


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
