"""Hugging Face's T5 folders: read as a configuration and arrays, and written.

T5 v1.0, v1.1, LM-adapted, FLAN, UL2, mT5 and ByT5 are one architecture with other sizes.
Source: transformers 4.14 to 5.x, T5Config, MT5Config and their models.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import logging
from etils import epath

from hyperdecoders_jax import errors, files, types
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import (
    check_params,
    fingerprints,
    flax_files,
    folding,
    names,
    safetensors_files,
    torch_files,
)
from hyperdecoders_jax.weights.arrays import Accounted, Arrays, StoredArray

CONFIG_FILE = "config.json"
# Beside the weights of an adapter that the library peft made.
PEFT_FILE = "adapter_config.json"

# What the names of all of T5's own arrays begin with.
_TOP_NAMES = ("shared", "encoder", "decoder", "lm_head")
_SHARED = "shared.weight"
_HEAD = "lm_head.weight"
# Copies of the shared embedding; a file may hold any of the three, or several.
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# Files of v1.0 hold this table, which cross-attention never reads.
_NEVER_READ = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"

# What differs where config.json leaves a field out.
_DEFAULTS = {
    "t5": {"feed_forward_proj": "relu", "tie_word_embeddings": True},
    "mt5": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
}
# Their field of every size of ours.
_SIZES = {
    "vocab_size": "vocab_size",
    "emb_dim": "d_model",
    "num_heads": "num_heads",
    "head_dim": "d_kv",
    "mlp_dim": "d_ff",
    "num_encoder_layers": "num_layers",
}
# Their name of every number of ours.
_NAMES = _SIZES | {
    "relpos_buckets": "relative_attention_num_buckets",
    "relpos_max_distance": "relative_attention_max_distance",
}
# Their feed-forward blocks; "gated-gelu" is the tanh approximation, as `gelu` is here.
_FEED_FORWARD = {
    "relu": ("relu",),
    "gated-gelu": ("gelu", "linear"),
    "gated-gelu_new": ("gelu", "linear"),
    "gated-silu": ("silu", "linear"),
    "gated-relu": ("relu", "linear"),
}
_EPSILON = 1e-6
# What this T5 computes of the fields that not every model has.
_CHOICES = {
    "feed_forward_proj": tuple(_FEED_FORWARD),
    "layer_norm_epsilon": (_EPSILON,),
    "quantization_config": (None,),
    "pad_token_id": (types.PAD_ID, None),
    "eos_token_id": (types.EOS_ID, [types.EOS_ID], None),
    "decoder_start_token_id": (types.DECODER_START_ID, None),
}

HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
# What a model is downloaded with: its configuration, indices of shards, and tokenizer.
_SMALL = ["*.json", "spiece.model"]
# Files of weights; of a model that has several, the first are taken.
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "flax_model*.msgpack")


def config_from_json(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration in a `config.json`; ValueError if ours cannot compute such a model."""
    model_type = fields.get("model_type")
    if not isinstance(model_type, str) or model_type not in _DEFAULTS:
        umt5 = " umT5 has a table of relative positions in every layer, T5 one in each stack."
        reason = umt5 if model_type == "umt5" else ""
        raise ValueError(
            f"The model_type of config.json must be among {tuple(_DEFAULTS)}; got {model_type!r}."
            f"{reason} Choose a T5, mT5 or ByT5."
        )
    if missing := sorted(set(_SIZES.values()) - set(fields)):
        raise ValueError(
            f"config.json must give every size of the model; it lacks {', '.join(missing)}. Copy "
            "or download it again."
        )
    fields = _DEFAULTS[model_type] | dict(fields)
    for name, choices in _CHOICES.items():
        if name in fields and fields[name] not in choices:
            raise ValueError(
                f"{name} in config.json must be among {choices}; got {fields[name]!r}, which this "
                "T5 does not compute. Choose another model."
            )
    decoder_layers = fields.get("num_decoder_layers")
    dropout_rate = fields.get("dropout_rate", 0.1)
    if not isinstance(dropout_rate, int | float):
        raise ValueError(
            f"dropout_rate in config.json must be a number; got {dropout_rate!r}. T5's is 0.1."
        )
    try:
        return TransformerConfig(
            **{ours: fields[theirs] for ours, theirs in _SIZES.items()},
            num_decoder_layers=fields["num_layers"] if decoder_layers is None else decoder_layers,
            mlp_activations=_FEED_FORWARD[fields["feed_forward_proj"]],
            logits_via_embedding=_scales_logits(fields),
            dropout_rate=dropout_rate,
            relpos_buckets=fields.get("relative_attention_num_buckets", 32),
            relpos_max_distance=fields.get("relative_attention_max_distance", 128),
        )
    except errors.FieldError as error:
        ours = error.name.removeprefix(f"{TransformerConfig.__name__}.")
        raise ValueError(
            f"{_NAMES.get(ours, ours)} in config.json {error.problem} Copy or download it again."
        ) from error


def _is_of_5(fields: Mapping[str, Any]) -> bool:
    """Whether transformers 5, or a later release, wrote a `config.json`."""
    version = re.match(r"\d+", str(fields.get("transformers_version")))
    return int(version[0]) >= 5 if version else "scale_decoder_outputs" in fields


def _scales_logits(fields: Mapping[str, Any]) -> bool:
    """Whether the release that wrote a `config.json` scales the decoder's output by d_model^-0.5.

    Release 4 does where the embedding makes the logits. Release 5 says "tied" of every model, has a
    field for what told T5 v1.0 from v1.1, and never scales mT5's.
    """
    if not _is_of_5(fields):
        return bool(fields["tie_word_embeddings"])
    is_t5 = fields["model_type"] != "mt5"
    return is_t5 and bool(fields.get("scale_decoder_outputs", fields["tie_word_embeddings"]))


def config_to_json(config: TransformerConfig) -> dict[str, Any]:
    """The `config.json` of a plain T5; ValueError if Hugging Face's has no such feed-forward."""
    known = {ours: theirs for theirs, ours in reversed(_FEED_FORWARD.items())}
    if config.mlp_activations not in known:
        raise ValueError(
            f"mlp_activations must be among {tuple(known)} for a Hugging Face T5; got "
            f"{config.mlp_activations}. Keep this model in another format."
        )
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
        "num_decoder_layers": config.num_decoder_layers,
        "feed_forward_proj": known[config.mlp_activations],
        "tie_word_embeddings": config.logits_via_embedding,
        # Without it transformers 5.0 scales the decoder's output of every T5, v1.1's too.
        "scale_decoder_outputs": config.logits_via_embedding,
        "dropout_rate": config.dropout_rate,
        "relative_attention_num_buckets": config.relpos_buckets,
        "relative_attention_max_distance": config.relpos_max_distance,
        "layer_norm_epsilon": _EPSILON,
        "is_encoder_decoder": True,
        "pad_token_id": types.PAD_ID,
        "eos_token_id": types.EOS_ID,
        "decoder_start_token_id": types.DECODER_START_ID,
    }


def open(folder_or_hub_id: str | os.PathLike) -> tuple[TransformerConfig, dict[str, StoredArray]]:
    """The configuration and the arrays of a folder, in PyTorch's names and layouts.

    Safetensors come first, then `pytorch_model.bin`, then `flax_model.msgpack`. A hub id, such as
    "google/t5-v1_1-base", is downloaded into Hugging Face's cache, once.
    FileNotFoundError if the folder, or a file of it, is missing; ImportError if a hub id needs
    huggingface_hub, or a .bin file PyTorch; ValueError if a file is damaged or of another model.
    """
    folder = find(folder_or_hub_id)
    fields = read_config(folder)
    config, arrays = config_from_json(fields), open_arrays(folder)
    return _with_head_of_5(config, arrays, fields) if _is_of_5(fields) else (config, arrays)


def open_config(folder: epath.Path) -> TransformerConfig:
    """The configuration of `open`; of weights, only names are read, and where these don't tell."""
    fields = read_config(folder)
    config = config_from_json(fields)
    # Release 5 may store a head beside an embedding that it calls tied.
    return open(folder)[0] if _is_of_5(fields) and config.logits_via_embedding else config


def _with_head_of_5(
    config: TransformerConfig, arrays: dict[str, StoredArray], fields: Mapping[str, Any]
) -> tuple[TransformerConfig, dict[str, StoredArray]]:
    """A model as transformers 5 computes it, where scaling says nothing of whether a head is tied.

    A T5 here has a tied head and scales, or neither: what it lacks goes into a head of its own.
    """
    table = next((arrays[name] for name in (_SHARED, *COPIES) if name in arrays), None)
    head = arrays.get(_HEAD)
    # Of what says that it is not tied, as our own folders do, a missing head is a damage.
    is_tied = table is not None and head is None and fields.get("tie_word_embeddings", True)
    if is_tied and not config.logits_via_embedding:
        logging.info(
            "%s is not in the file: as in transformers 5, it is a copy of %s.", _HEAD, _SHARED
        )
        return config, arrays | {_HEAD: table}
    is_tied = table is None or head is None or np.array_equal(head.read(), table.read())
    if is_tied or not config.logits_via_embedding:
        return config, arrays
    logging.warning(
        "transformers 5 scales the output of this decoder by d_model^-0.5, though it has an %s of "
        "its own; so does this package, by scaling that, in float32. If 5.0, which takes every T5 "
        "for a v1.0, only saved a v1.1 again, set scale_decoder_outputs to false in config.json.",
        _HEAD,
    )
    scale = np.float32(config.emb_dim**-0.5)
    scaled = head.cast(np.float32).then(lambda value: value * scale)
    return dataclasses.replace(config, logits_via_embedding=False), arrays | {_HEAD: scaled}


def find(folder_or_hub_id: str | os.PathLike) -> epath.Path:
    """The folder itself, or the one that a hub id was downloaded to; raises like `open`."""
    folder = epath.Path(folder_or_hub_id)
    if folder.is_dir():
        return folder
    name = os.fspath(folder_or_hub_id)
    if folder.exists() or not HUB_ID.fullmatch(name):
        raise FileNotFoundError(
            "A Hugging Face model must be a folder, or a hub id such as google/t5-v1_1-base; got "
            f"{name}. Correct the path."
        )
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f"There is no folder {name}; downloading it needs huggingface_hub, and importing that "
            f"failed: {error}. Install it (pip install huggingface_hub), or download the folder by "
            "hand."
        ) from error
    try:
        for pattern in _WEIGHTS:
            folder = huggingface_hub.snapshot_download(name, allow_patterns=[*_SMALL, pattern])
            if any(epath.Path(folder).glob(pattern)):
                break
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise FileNotFoundError(
            f"There is no folder {name}, and no model of that name could be downloaded: "
            f"{reason} Correct the name, or download the folder by hand."
        ) from error
    return epath.Path(folder)


def open_arrays(folder: epath.Path) -> dict[str, StoredArray]:
    """The arrays of `open`; those that adapt an exported model have our paths, joined by "."."""
    is_safe = safetensors_files.visible(folder) or (folder / safetensors_files.INDEX_FILE).exists()
    if not is_safe and safetensors_files.has_files(folder, torch_files.SINGLE_FILE):
        return torch_files.open(folder)
    if not is_safe and flax_files.has_files(folder):
        flax = flax_files.open(folder)
        return _from_flax({name.replace("/", "."): x for name, x in flax.items()})
    arrays = safetensors_files.open(folder)
    is_flax = safetensors_files.metadata(folder).get("format") == "flax"
    return _from_flax(arrays) if is_flax else arrays


def is_of_t5(name: str) -> bool:
    """Whether an array of theirs is a T5's own, by its name.

    >>> is_of_t5("decoder.final_layer_norm.weight"), is_of_t5("decoder_adapters.embedding")
    (True, False)
    """
    return name.split(".")[0] in _TOP_NAMES


def read_config(folder: epath.Path) -> dict[str, Any]:
    """The fields of a folder's `config.json`; FileNotFoundError or ValueError if there are none."""
    refuse_peft(folder)
    file = folder / CONFIG_FILE
    if not file.exists():
        raise FileNotFoundError(
            f"A Hugging Face folder must hold {CONFIG_FILE}, with the model's sizes; {folder} has "
            "none. Download it to the weights."
        )
    return files.read_json(file)


def refuse_peft(folder: epath.Path) -> None:
    """ValueError if a folder holds an adapter of PEFT, be it beside the model that it changes."""
    if not (folder / PEFT_FILE).exists():
        return
    base = files.read_json(folder / PEFT_FILE).get("base_model_name_or_path")
    what = f"an adapter of PEFT for {base!r:.100}"
    how = ""
    if (folder / CONFIG_FILE).exists():
        what += ", beside a model that would be read without it"
        how = f"; to read the model without it, move {PEFT_FILE} and its weights elsewhere"
    raise ValueError(
        f"A folder must hold a whole model, or what this package trained; {folder} holds {what} "
        f"({PEFT_FILE}). Merge it with peft, by PeftModel.from_pretrained(model, folder)"
        f".merge_and_unload().save_pretrained(other), and name the other folder{how}."
    )


def write(
    folder: str | os.PathLike,
    config: TransformerConfig,
    arrays: Arrays,
    max_shard_bytes: int = safetensors_files.MAX_SHARD_BYTES,
    fingerprint: Callable[[], str] | None = None,
) -> None:
    """Writes `config.json` and safetensors for transformers; `arrays` are those of `from_ours`.

    `fingerprint`, of the same arrays in our layouts, is called when they are written.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # transformers refuses files that do not say whose layout they have.
    safetensors_files.write_sharded(folder, arrays, max_shard_bytes, {"format": "pt"})
    fields = config_to_json(config)
    if fingerprint is not None:
        fields[fingerprints.FIELD] = fingerprint()
    (folder / CONFIG_FILE).write_text(json.dumps(fields, indent=2) + "\n")


def to_ours(arrays: Arrays, config: TransformerConfig) -> Accounted:
    """T5's parameters in our names and layouts, copies compared; ValueError if not `config`'s."""
    arrays, left = without_copies(arrays, config)
    wanted = names.hugging_face_names(config)
    found = {path: transposed(path, arrays[x]) for path, x in wanted.items() if x in arrays}
    # Apart, so that an unexpected name that looks like one of our paths is not taken for it.
    others = {f"unexpected/{name}": name for name in set(arrays) - set(wanted.values())}
    check_params.check_params(
        found | {path: arrays[name] for path, name in others.items()},
        modeling_config.without_adaptation(config),
        "The weights",
        advice="Compare the configuration with these weights: the numbers of layers; one "
        "feed-forward input and no lm_head (v1.0), or two and an lm_head (v1.1); where only the "
        "vocabulary differs, `hyperdecoders convert --vocab_size=N` makes its rows more or fewer.",
        called=wanted | others,
    )
    return Accounted(found, left)


def from_ours(arrays: Arrays, config: TransformerConfig) -> dict[str, StoredArray]:
    """Inverse of `to_ours`; ValueError if the arrays are not exactly T5's parameters."""
    wanted = names.hugging_face_names(config)
    check_params.check_params(
        arrays,
        modeling_config.without_adaptation(config),
        "A Hugging Face T5",
        advice="Leave out what adapts the T5, or write the whole model with hyperdecoders export."
        f"{folding.advice(config)}",
    )
    return {name: transposed(path, arrays[path]) for path, name in wanted.items()}


def without_copies(
    arrays: Arrays, config: TransformerConfig
) -> tuple[dict[str, StoredArray], dict[str, str]]:
    """Arrays with one name for the embedding, and why others were skipped; ValueError if unlike."""
    arrays = dict(arrays)
    left = {}
    tables = [name for name in (_SHARED, *COPIES) if name in arrays]
    if config.logits_via_embedding and _HEAD in arrays:
        tables.append(_HEAD)
    if not tables:
        return arrays, left
    table = arrays.pop(tables[0])
    value = table.read() if len(tables) > 1 else None
    for name in tables[1:]:
        if not np.array_equal(arrays.pop(name).read(), value):
            advice = "These weights are of another architecture: choose a T5's."
            if name == _HEAD:
                advice = "Set LOGITS_VIA_EMBEDDING = False (in config.json: tie_word_embeddings)."
            raise ValueError(
                f"{name} must be a copy of {tables[0]}, because the model has one embedding for "
                f"both; they differ. {advice}"
            )
        left[name] = f"a copy of {tables[0]}"
    if _NEVER_READ in arrays:
        del arrays[_NEVER_READ]
        left[_NEVER_READ] = "T5 never reads it"
    return arrays | {_SHARED: table}, left


def transposed(path: str, array: StoredArray) -> StoredArray:
    """A T5 parameter in the other layout, ours or PyTorch's."""
    shape = names.transpose(path, np.broadcast_to(0, array.shape)).shape
    return array.then(lambda value: names.transpose(path, value), shape)


def _from_flax(arrays: Arrays) -> dict[str, StoredArray]:
    """Flax's names end with what PyTorch calls `weight`; its kernels are [fan_in, fan_out]."""
    found = {}
    for name, array in arrays.items():
        owner, _, leaf = name.rpartition(".")
        if leaf == "kernel" and is_of_t5(name):
            array = array.then(np.transpose, array.shape[::-1])
        found[f"{owner}.weight" if is_of_t5(name) else name] = array
    return found
