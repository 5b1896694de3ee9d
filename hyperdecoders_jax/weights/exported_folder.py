"""Exported folders: a whole model in Hugging Face's form, written and read.

    <folder>/config.json         T5's own fields, and what adapts it beside them
             flax_model.msgpack  T5's parameters in the names of Flax's T5, all others in our paths
             model.safetensors   T5's in PyTorch's names, all others in our paths, joined by "."
             spiece.model        of the vocabulary, unless that is of bytes

A model that nothing adapts is a plain T5, which needs no code of ours.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from etils import epath

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.data import tokenizer, tokenizer_json
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import AdapterConfig, TransformerConfig
from hyperdecoders_jax.types import Params
from hyperdecoders_jax.weights import (
    check_params,
    fingerprints,
    flax_files,
    hugging_face,
    names,
    run_folder,
    safetensors_files,
    trained_model,
)
from hyperdecoders_jax.weights.arrays import Accounted, Arrays, StoredArray
from hyperdecoders_jax.weights.trained_model import VOCABULARY_FILE, Description, TrainedModel

MODEL_TYPE = "hyperdecoder"
ARCHITECTURE = "HyperdecoderForConditionalGeneration"
VERSION = 1
FORMATS = ("flax", "safetensors")
UNDO = "Copy the folder again, or undo what was changed in its config.json."
# What a config.json says of the model that a T5's does not.
MODEL_FIELDS = (
    *("encoder_adapter", "decoder_adapter", "encoder_hypergrid", "decoder_hypergrid"),
    *("num_tasks", "num_trained_tasks"),
)


def is_plain(config: TransformerConfig) -> bool:
    """Whether a model is a T5 that nothing adapts.

    >>> sizes = (9, 8, 2, 4, 6, 1, 1)
    >>> is_plain(TransformerConfig(*sizes))
    True
    >>> is_plain(TransformerConfig(*sizes, encoder_adapter=AdapterConfig("manual")))
    False
    """
    sources = {config.encoder_adapter.source, config.decoder_adapter.source}
    grids = (config.encoder_hypergrid, config.decoder_hypergrid)
    return sources == {AdapterConfig().source} and grids == (None, None)


def is_hyperdecoder(path: epath.PathLike) -> bool:
    """Whether a folder holds an exported model that is no plain T5."""
    file = epath.Path(path) / hugging_face.CONFIG_FILE
    return run_folder.has_field(file, "model_type", MODEL_TYPE)


def config_to_json(description: Description) -> dict[str, Any]:
    """The fields of a `config.json`; ValueError if Hugging Face's T5 has no such feed-forward."""
    t5 = hugging_face.config_to_json(description.model)
    if is_plain(description.model):
        return t5
    described = trained_model.to_json(description)
    vocabulary = described["vocabulary"]
    return {
        **t5,
        "architectures": [ARCHITECTURE],
        "model_type": MODEL_TYPE,
        **{name: described["model"][name] for name in MODEL_FIELDS},
        **{name: described[name] for name in ("task_names", "task_feature_lengths", "decoding")},
        "vocabulary": {name: vocabulary[name] for name in ("num_sentinels", "fingerprint")},
        "step": description.step,
        "format_version": VERSION,
        "made_by": trained_model.made_by(),
    }


def config_from_json(fields: Mapping[str, Any]) -> TransformerConfig:
    """The model in an exported `config.json`, with float32 activations; ValueError if invalid."""
    # Our classes compute the same in every release of transformers, whichever saved the folder.
    of_t5 = {**fields, "model_type": "t5", "transformers_version": None}
    with trained_model.fields_of("config.json", "what an exported model is", UNDO):
        t5 = hugging_face.config_from_json(of_t5)
        ours = {name: fields[name] for name in MODEL_FIELDS if name in fields}
        return modeling_config.from_dict(modeling_config.to_dict(t5) | ours)


def to_flax_tree(params: Params, config: TransformerConfig) -> Params:
    """Parameters as a tree of FlaxT5ForConditionalGeneration; others than T5's stay. Traceable.

    >>> config = TransformerConfig(9, 8, 2, 4, 6, 1, 1)
    >>> params = {"decoder": {"decoder_norm": {"scale": 1.0}}, "decoder_adapters": {"bias": 2.0}}
    >>> to_flax_tree(params, config)
    {'decoder': {'final_layer_norm': {'weight': 1.0}}, 'decoder_adapters': {'bias': 2.0}}
    """
    wanted, flat = names.flax_names(config), names.flatten(params)
    return names.unflatten({wanted.get(path, path): _turned(path, x) for path, x in flat.items()})


def from_flax_tree(tree: Params, config: TransformerConfig) -> Params:
    """Inverse of `to_flax_tree`."""
    paths = {name: path for path, name in names.flax_names(config).items()}
    flat = {paths.get(name, name): value for name, value in names.flatten(tree).items()}
    return names.unflatten({path: _turned(path, value) for path, value in flat.items()})


def check_formats(formats: Collection[str]) -> None:
    """Raises UsageError unless all formats of weights are among `FORMATS`."""
    for name in formats:
        if name not in FORMATS:
            raise errors.UsageError(
                f"--format must be one or several of {FORMATS}, with commas; got {name!r}."
                f"{errors.suggestion(name, FORMATS)} Leave it out for flax."
            )


def write_weights(
    folder: epath.PathLike,
    description: Description,
    arrays: Arrays,
    formats: Collection[str] = ("flax",),
    max_shard_bytes: int = safetensors_files.MAX_SHARD_BYTES,
    other_fields: Mapping[str, Any] | None = None,
) -> None:
    """Writes `config.json` and weights in some of `FORMATS` into a folder that exists.

    An array larger than `max_shard_bytes` is a file of its own; `other_fields` join those of
    `config.json`. ValueError if the arrays are not the model's, or Hugging Face has no such T5 or
    format. Cost: an array, or file of safetensors.
    """
    folder = epath.Path(folder)
    check_formats(formats)
    config = description.model
    fields = config_to_json(description) | dict(other_fields or {})
    check_params.check_params(arrays, config, "The arrays of an export", advice=UNDO)
    arrays, fingerprint = fingerprints.recorded(arrays)
    if "flax" in formats:
        wanted = names.flax_names(config)
        flax = {wanted.get(path, path): _turned(path, x) for path, x in arrays.items()}
        flax_files.write(folder, flax, max_shard_bytes)
    if "safetensors" in formats:
        wanted = names.hugging_face_names(config)
        t5 = {path: x for path, x in arrays.items() if path in wanted}
        others = {path.replace("/", "."): arrays[path] for path in sorted(set(arrays) - set(t5))}
        theirs = hugging_face.from_ours(t5, config) | others
        # transformers refuses files that do not say whose layout they have.
        safetensors_files.write_sharded(folder, theirs, max_shard_bytes, {"format": "pt"})
    fields[fingerprints.FIELD] = fingerprint()
    (folder / hugging_face.CONFIG_FILE).write_text(json.dumps(fields, indent=2) + "\n")


def read(folder: epath.PathLike) -> TrainedModel:
    """Opens an exported model that is no plain T5; of several formats as `hugging_face.open`.

    FileNotFoundError if a file is missing; ValueError if it is none, damaged or of a later version.
    """
    folder = epath.Path(folder)
    description = read_description(folder)
    accounted = open_weights(folder, description.model)
    return trained_model.of_text(description, accounted.arrays, skipped=accounted.left)


def open_weights(
    folder: epath.Path, config: TransformerConfig, prefers_flax: bool = False
) -> Accounted:
    """Opens the weights of an exported model of known configuration; see `read`.

    With `prefers_flax` Flax's files come first, where there are some.
    """
    if prefers_flax and flax_files.has_files(folder):
        tree = names.unflatten(flax_files.open(folder))
        accounted = Accounted(names.flatten(from_flax_tree(tree, config)), {})
    else:
        theirs = hugging_face.open_arrays(folder)
        t5 = {name: x for name, x in theirs.items() if hugging_face.is_of_t5(name)}
        others = {name.replace(".", "/"): x for name, x in theirs.items() if name not in t5}
        accounted = hugging_face.to_ours(t5, config)
        accounted = Accounted(accounted.arrays | others, accounted.left)
    check_params.check_params(accounted.arrays, config, f"The weights in {folder}", advice=UNDO)
    fields = (
        hugging_face.read_config(folder) if (folder / hugging_face.CONFIG_FILE).exists() else {}
    )
    fingerprints.check(accounted.arrays, fingerprints.of_config(fields), f"{folder}")
    return accounted


def check_weights(folder: epath.Path) -> None:
    """ValueError unless weights have the fingerprint in their `config.json`, if it has one of ours.

    For classes that read the files themselves. Cost: reads all arrays.
    """
    if not (folder / hugging_face.CONFIG_FILE).exists():
        return
    fields = hugging_face.read_config(folder)
    if fingerprints.of_config(fields) is not None:
        open_weights(folder, config_from_json(fields))


def read_description(folder: epath.PathLike) -> Description:
    """Description in an exported model's `config.json` and `spiece.model`; see `read`."""
    folder = epath.Path(folder)
    file = folder / hugging_face.CONFIG_FILE
    fields = hugging_face.read_config(folder)
    if fields.get("model_type") != MODEL_TYPE:
        raise ValueError(
            f"The model_type of an exported model must be {MODEL_TYPE!r}; {file} says "
            f"{fields.get('model_type')!r}. Name a folder that hyperdecoders export wrote."
        )
    run_folder.check_version({**fields, "version": fields.get("format_version")}, VERSION, file)
    spiece = folder / VOCABULARY_FILE
    content, advice = _read_vocabulary(folder), "Copy it from the export again."
    with trained_model.fields_of(file, "what an exported model is", advice):
        description = trained_model.from_json(fields, config_from_json(fields), content)
        wanted, found = fields["vocabulary"]["fingerprint"], description.vocabulary.fingerprints
    if wanted not in found:
        has = "is missing" if content == tokenizer.BYTES_MODEL else f"has {found[0][:12]}"
        raise ValueError(
            f"{spiece} must be the vocabulary that the model was trained with, of fingerprint "
            f"{str(wanted)[:12]}; it {has}. {advice}"
        )
    return description


def _read_vocabulary(folder: epath.Path) -> bytes:
    """The model of `spiece.model`, else of the file that transformers 5 leaves of the two."""
    if (folder / VOCABULARY_FILE).exists():
        return trained_model.read_vocabulary(folder)
    if (tokens := folder / tokenizer_json.FILE).exists():
        files.check_regular(tokens)
        return tokenizer.with_sentinels(*tokenizer_json.read(tokens))
    return tokenizer.BYTES_MODEL


def _turned(path: str, value: Any) -> Any:
    """A parameter in the layout of Flax's T5, or back in ours."""
    if not path.endswith("/relpos_bias/rel_embedding"):
        return value
    if isinstance(value, StoredArray):
        return value.then(np.transpose, value.shape[::-1])
    return value.T
