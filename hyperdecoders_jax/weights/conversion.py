"""Weights of any format in, the same weights in any other out; every array is accounted for.

    hugging_face   a folder with config.json, safetensors, pytorch_model.bin or flax_model.msgpack,
                   or a hub id; with what adapts the T5 where hyperdecoders export wrote it
    original       a folder of the original Hyperdecoders: config.json and pytorch_model.bin
    t5x, t5x_orbax a folder with checkpoint_<step> in it, in T5X's own layout or in Orbax's
    safetensors    in our paths: FILE.safetensors, or a folder of shards

`read` opens a file, says to which model its arrays belong, and renames; arrays are read when they
are written, one at a time, or one file of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from hyperdecoders_jax import errors, model
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import AdapterConfig, HyperGridConfig, TransformerConfig
from hyperdecoders_jax.weights import (
    exported_folder,
    folding,
    geometry,
    hugging_face,
    names,
    original_folder,
    safetensors_files,
    t5x_checkpoint,
)
from hyperdecoders_jax.weights.arrays import StoredArray

# In the metadata of a safetensors file of ours: `modeling.config.to_dict`, as JSON.
MODEL_KEY = "model"
# In the same: `tokenizer.fingerprint` of what the weights were trained with.
VOCABULARY_KEY = "vocabulary_fingerprint"
# In the same: the ordered list that numbers tasks, as JSON.
TASKS_KEY = "task_names"
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}

_SAFETENSORS = ".safetensors"
_VOCABULARY_FILE = "spiece.model"
# Files beside Hugging Face's weights that turn text into tokens.
_TOKENIZER_FILES = (
    _VOCABULARY_FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
# Parameters with one row for each token, and the axis of these rows.
_VOCABULARY_AXES = {"token_embedder/embedding": 0, "decoder/logits_dense/kernel": 1}
# Hugging Face's names of the embedding; a file may hold any of them.
_THEIR_TABLES = ("shared.weight", *hugging_face.COPIES)
_PROJECTIONS = (*modeling_config.SELF_ATTENTION, *modeling_config.CROSS_ATTENTION)
_MOST_TOKENS = 10_000_000
# Begins the names of `Weights.unread` in our own files.
_UNREAD = "unread/"
# What a configuration may say otherwise than the weights, which stay the same.
_FREE_FIELDS = ("dropout_rate", "dtype", "num_tasks", "num_trained_tasks")


@dataclasses.dataclass(frozen=True)
class Weights:
    """Parameters of a model, and what came with them.

    Attributes:
      config: the model they belong to.
      arrays: under our paths, in our layouts.
      left: what of the files was left, and why.
      new: what was made that no file held, and how.
      files: name → content of files that belong to the weights: the tokenizer's.
      metadata: what a safetensors file says of itself.
      task_names: the ordered list that numbers tasks, if known.
      step: of training, if known.
      unread: what the original makes and never reads, by its own names: kept, so that its state
        can be written again bit for bit.
    """

    config: TransformerConfig
    arrays: Mapping[str, StoredArray]
    left: Mapping[str, str] = dataclasses.field(default_factory=dict)
    new: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    task_names: tuple[str, ...] | None = None
    step: int = 0
    unread: Mapping[str, StoredArray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Format:
    """A way to store weights.

    Attributes:
      is_at: whether there is one at a path.
      read: opens it; a configuration is used where the files have none, and its vocab_size is
        taken from the rows of the embedding if the third argument says so.
      write: makes one, at a path that does not exist yet; returns what it made that `Weights` does
        not hold, and how.
      has_files: whether it has a place for `Weights.files`.
    """

    is_at: Callable[[epath.Path], bool]
    read: Callable[[str, TransformerConfig | None, bool], Weights]
    write: Callable[[epath.Path, Weights], Mapping[str, str]]
    has_files: bool = False


def to_place(path: str) -> epath.Path:
    """The path of a file or folder, on this machine or in a bucket.

    Raises:
      ValueError: it is an address of another kind.
    """
    try:
        return epath.Path(path)
    except KeyError as error:  # What etils says of such addresses.
        raise ValueError(
            f"Weights must be at a path of this machine, or in a bucket (gs://…); got {path}. Name "
            "a model of Hugging Face by its id alone, such as google/t5-v1_1-base, and download "
            "others first."
        ) from error


def detect(path: str) -> str:
    """The name of the format that is at `path`.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: none of the formats.
    """
    place = to_place(path)
    for name, known in FORMATS.items():
        if known.is_at(place):
            return name
    if not place.exists() and hugging_face.HUB_ID.fullmatch(path):
        return "hugging_face"
    if not place.exists():
        raise FileNotFoundError(
            f"Weights must be at a path that exists, or at a hub id such as google/t5-v1_1-base; "
            f"there is nothing at {path}. Correct the path."
        )
    held = (
        "a file" if not place.is_dir() else ", ".join(sorted(x.name for x in place.iterdir())[:8])
    )
    raise ValueError(
        f"Weights must be of one of the formats {', '.join(FORMATS)}; {path} is none of them: "
        f"{held or 'an empty folder'}. A Hugging Face folder needs its config.json, a safetensors "
        "file its ending; copy what is missing, or name another place."
    )


def read(
    path: str,
    name: str | None = None,
    config: TransformerConfig | None = None,
    vocab_size: int | None = None,
) -> Weights:
    """Opens weights; no array is read yet, but copies that must be equal.

    Args:
      path: of a file or folder, local or remote, or a hub id.
      name: of its format; None finds out.
      config: the model, where the files do not tell: T5X's checkpoints with adapters.
      vocab_size: rows for tokens; None: those that there are, if the files agree on them.

    Raises:
      FileNotFoundError: nothing is there, or a part of it is missing.
      ValueError: it is no such format, damaged, or something in it is not accounted for.
    """
    name = name or detect(path)
    if name not in FORMATS:
        raise ValueError(
            f"The format of weights must be one of {tuple(FORMATS)}; got {name!r}."
            f"{errors.suggestion(name, FORMATS)}"
        )
    weights = FORMATS[name].read(path, config, vocab_size is not None)
    return weights if vocab_size is None else resize_vocabulary(weights, vocab_size)


def check(weights: Weights, where: str) -> None:
    """Checks that the arrays are all parameters of the model, and no others, in their shapes.

    Raises:
      ValueError: one is missing, unexpected or of another shape; says which.
    """
    check_arrays(weights, weights.config, where)
    keys = {path.split("/")[0] for path in weights.arrays}
    missing = sorted(set(model.Model(weights.config).param_shapes()) - keys)
    if missing:
        raise ValueError(
            f"{where} must hold every parameter of its model; it has none under "
            f"{', '.join(missing)}. Name the configuration that the weights were trained with."
        )


def check_arrays(weights: Weights, config: TransformerConfig, where: str) -> None:
    """Checks that the arrays are parameters of `config`; see `check_shapes`."""
    check_shapes(weights.arrays, names.flatten(model.Model(config).param_shapes()), where)


def check_shapes(arrays: Mapping[str, StoredArray], shapes: Mapping[str, Any], where: str) -> None:
    """Checks that arrays are parameters of a model, with whole parts of it missing.

    A part is a key on top of the tree; T5's own three must be there.

    Args:
      arrays: under our paths.
      shapes: arrays or shapes of the model, under the same paths.
      where: the arrays are.

    Raises:
      ValueError: one is missing, unexpected or of another shape; says which.
    """
    parts = {path.split("/")[0] for path in arrays} | set(model.BACKBONE_KEYS)
    wanted = {path for path in shapes if path.split("/")[0] in parts}
    missing, unexpected = sorted(wanted - set(arrays)), sorted(set(arrays) - wanted)
    if missing or unexpected:
        raise ValueError(
            f"{where} must hold exactly the parameters of the model; missing: "
            f"{names.abridge(missing)}; unexpected: {names.abridge(unexpected)}. Choose the "
            "files of gin_configs/models and gin_configs/adapters that fit these weights "
            "(v1.0: relu and tied; v1.1: gated and untied; the numbers of layers)."
        )
    for path in sorted(wanted):
        if tuple(arrays[path].shape) != tuple(shapes[path].shape):
            raise ValueError(
                f"{where} must fit the model; {path} has shape {arrays[path].shape} there "
                f"and {shapes[path].shape} in the configuration. Choose the file of "
                "gin_configs/models that fits these weights; if it is the rows of the vocabulary "
                "that differ, hyperdecoders convert --vocab_size=N changes them."
            )


def check_config(weights: Weights, config: TransformerConfig, where: str) -> None:
    """Checks that the weights were made for a model that computes what `config` says.

    Adapters and gates are compared on the sides of which the weights hold some.

    Raises:
      ValueError: a field differs; says which.
    """
    keys = {path.split("/")[0] for path in weights.arrays}
    theirs, ours = (_what_counts(x, keys) for x in (weights.config, config))
    differences = [
        f"{name} is {theirs.get(name)} there and {ours.get(name)} in the configuration"
        for name in sorted(theirs | ours)
        if theirs.get(name) != ours.get(name)
    ]
    if differences:
        raise ValueError(
            f"{where} must hold weights of the model; {'; '.join(differences)}. Choose the files "
            "of gin_configs/models and gin_configs/adapters that fit these weights; rows of the "
            "vocabulary can be changed with hyperdecoders convert --vocab_size=N."
        )


def _what_counts(config: TransformerConfig, keys: Collection[str]) -> dict[str, Any]:
    """What decides on what a model computes; of what adapts it, what shapes do not show."""
    counting = {
        name: value
        for name, value in modeling_config.to_dict(config).items()
        if name not in _FREE_FIELDS and not name.endswith(("_adapter", "_hypergrid"))
    }
    for side in ("encoder", "decoder"):
        found = {}
        if f"{side}_adapters" in keys:
            found["adapter"] = _adapter_that_counts(getattr(config, f"{side}_adapter"))
        if f"{side}_hypergrid" in keys:
            found["hypergrid"] = _grid_that_counts(getattr(config, f"{side}_hypergrid"))
        for what, fields in found.items():
            counting |= {f"{side}_{what}.{name}": value for name, value in fields.items()}
    return counting


def _adapter_that_counts(adapter: AdapterConfig) -> dict[str, Any]:
    found = {"source": adapter.source, "sites": sorted(adapter.sites)}
    if "feed_forward" in adapter.sites:
        found["norm_input"] = adapter.norm_input
    if any(site in _PROJECTIONS for site in adapter.sites):
        found["lora.alpha"] = adapter.lora.alpha
    if adapter.source not in ("manual", "manual_specific"):
        found["hypernetwork"] = type(adapter.hypernetwork).__name__
    if adapter.options is not None:
        found["options"] = dataclasses.asdict(adapter.options)
    return found


def _grid_that_counts(grid: HyperGridConfig | None) -> dict[str, Any]:
    if grid is None:
        return {}
    found = {"gate": grid.gate, "condition": grid.condition_read}
    if grid.condition_read == "prefix_mean":
        found["prefix_len"] = grid.prefix_len
    return found


def resize_vocabulary(weights: Weights, vocab_size: int) -> Weights:
    """The same weights with so many rows for tokens.

    A new row is the mean of all others: then the logit of a token that nobody has seen is the mean
    of all logits, so that it is never the likeliest, as a row of zeros could be. Rows that are too
    many are dropped from the end.

    Raises:
      ValueError: there would be none, or more than any vocabulary has.
    """
    if not 1 <= vocab_size <= _MOST_TOKENS:
        raise ValueError(
            f"--vocab_size must be from 1 to {_MOST_TOKENS:,}; got {vocab_size}. T5's published "
            "tables have 32128."
        )
    had = weights.config.vocab_size
    if vocab_size == had:
        return weights
    arrays, new, left = dict(weights.arrays), dict(weights.new), dict(weights.left)
    for path, axis in _VOCABULARY_AXES.items():
        if path not in arrays:
            continue
        shape = tuple(vocab_size if i == axis else n for i, n in enumerate(arrays[path].shape))
        arrays[path] = arrays[path].then(lambda x, axis=axis: _resize(x, axis, vocab_size), shape)
        if vocab_size > had:
            new[f"rows {had} to {vocab_size - 1} of {path}"] = "the mean of the other rows"
        else:
            left[f"rows {vocab_size} to {had - 1} of {path}"] = f"vocab_size is {vocab_size}"
    config = dataclasses.replace(weights.config, vocab_size=vocab_size)
    return dataclasses.replace(weights, config=config, arrays=arrays, new=new, left=left)


def _resize(value: np.ndarray, axis: int, size: int) -> np.ndarray:
    missing = size - value.shape[axis]
    if missing < 0:
        return value[:size] if axis == 0 else value[:, :size]
    mean = np.mean(value, axis=axis, keepdims=True, dtype=np.float32).astype(value.dtype)
    return np.concatenate([value, np.repeat(mean, missing, axis)], axis)


def cast(weights: Weights, dtype: str) -> Weights:
    """The same weights as "float32" or "bfloat16".

    Raises:
      ValueError: it is neither.
    """
    if dtype not in DTYPES:
        raise ValueError(
            f"The type of weights must be one of {tuple(DTYPES)}; got {dtype!r}."
            f"{errors.suggestion(dtype, DTYPES)} Leave --dtype out to keep them as they are."
        )
    arrays = {path: array.cast(DTYPES[dtype]) for path, array in weights.arrays.items()}
    return dataclasses.replace(weights, arrays=arrays)


def fold_gates(weights: Weights, task: str | None = None) -> Weights:
    """The same weights without gates, which kernels hold instead; see `folding.fold`.

    Args:
      weights: of a model with gates.
      task: whose gates are meant, where they depend on the task.

    Raises:
      ValueError: there are no gates, or some that cannot be folded, or the task is not known.
    """
    arrays, config = folding.fold(weights.arrays, weights.config, weights.task_names, task)
    why = "folded into the kernels that they scale" + (f", for {task}" if task else "")
    left = {path: why for path in weights.arrays if path not in arrays}
    return dataclasses.replace(weights, config=config, arrays=arrays, left={**weights.left, **left})


# ---------------------------------------------------------------- formats


def _read_hugging_face(
    path: str, config: TransformerConfig | None, are_rows_right: bool
) -> Weights:
    del config  # Theirs has one of its own.
    folder = hugging_face.find(path)
    if exported_folder.is_hyperdecoder(folder):
        return _read_exported(folder)
    config, arrays = hugging_face.open(folder)
    if are_rows_right:
        config = _with_rows(config, arrays, _THEIR_TABLES)
    accounted = hugging_face.to_ours(arrays, config)
    files = _read_tokenizer(folder, config)
    return Weights(config, accounted.arrays, accounted.left, files=files)


def _read_exported(folder: epath.Path) -> Weights:
    description, accounted = exported_folder.account(folder)
    return Weights(
        description.model,
        accounted.arrays,
        accounted.left,
        files=_read_tokenizer(folder, description.model),
        metadata={VOCABULARY_KEY: description.vocabulary.fingerprint},
        task_names=description.task_names or None,
        step=description.step,
    )


def _write_hugging_face(path: epath.Path, weights: Weights) -> Mapping[str, str]:
    hugging_face.write(path, weights.config, hugging_face.from_ours(weights.arrays, weights.config))
    _write_tokenizer(path, weights)
    return {}


def _read_original(path: str, config: TransformerConfig | None, are_rows_right: bool) -> Weights:
    del config  # Theirs has one of its own.
    config, task_names, arrays = original_folder.open(path)
    if are_rows_right:
        config = _with_rows(config, arrays, _THEIR_TABLES)
    accounted = original_folder.to_ours(arrays, config)
    files = _read_tokenizer(epath.Path(path), config)
    unread = set(original_folder.unused_names(config)) & set(arrays)
    return Weights(
        config,
        accounted.arrays,
        accounted.left,
        files=files,
        task_names=task_names,
        unread={name: arrays[name] for name in sorted(unread)},
    )


def _write_original(path: epath.Path, weights: Weights) -> Mapping[str, str]:
    state = original_folder.to_state(weights.arrays, weights.config, weights.unread)
    original_folder.write(path, weights.config, state, weights.task_names or ())
    _write_tokenizer(path, weights)
    made = set(original_folder.unused_names(weights.config)) - set(weights.unread)
    return dict.fromkeys(
        made, "zeros, for the original makes them beside a hypernetwork and never reads them"
    )


def _read_t5x(path: str, config: TransformerConfig | None, are_rows_right: bool) -> Weights:
    accounted = t5x_checkpoint.account(path)
    new = sorted({name.split("/")[0] for name in accounted.arrays} - set(model.BACKBONE_KEYS))
    if config is None and new:
        raise ValueError(
            f"A T5X checkpoint with parameters beside T5's own needs the configuration they belong "
            f"to; {path} has some under {', '.join(new)}. Name it with "
            "--gin_file=experiments/NAME.gin."
        )
    if config is None:
        config = geometry.infer(accounted.arrays)
    elif are_rows_right:
        config = _with_rows(config, accounted.arrays, _VOCABULARY_AXES)
    return Weights(_with_tasks(config, accounted.arrays), accounted.arrays, accounted.left)


def _write_t5x(layout: str) -> Callable[[epath.Path, Weights], Mapping[str, str]]:
    def write(path: epath.Path, weights: Weights) -> Mapping[str, str]:
        t5x_checkpoint.write(path, weights.arrays, weights.step, layout)
        return {"state/step": f"the count of steps, {weights.step}"}

    return write


def _read_safetensors(path: str, config: TransformerConfig | None, are_rows_right: bool) -> Weights:
    arrays = dict(safetensors_files.open(path))
    unread = {
        name.removeprefix(_UNREAD): arrays.pop(name)
        for name in list(arrays)
        if name.startswith(_UNREAD)
    }
    if any(name in arrays for name in _THEIR_TABLES):
        raise ValueError(
            "Hugging Face's weights must come with their config.json; got the names of "
            f"Hugging Face in {path}, and no config.json. Name the folder that holds both."
        )
    metadata = safetensors_files.metadata(path)
    try:
        tasks = tuple(json.loads(metadata.get(TASKS_KEY, "[]"))) or None
        described = json.loads(metadata.get(MODEL_KEY, "null"))
        if described is not None:
            config = modeling_config.from_dict(described)
    except (AttributeError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"What a file of weights says of its model must be JSON, as it was written; in {path} "
            f"it is not: {error}. Convert the weights again."
        ) from error
    if config is None:
        config = geometry.infer(arrays)
    if are_rows_right:
        config = _with_rows(config, arrays, _VOCABULARY_AXES)
    left = {f"{_UNREAD}{name}": "of the original, which never reads it" for name in unread}
    return Weights(config, arrays, left, metadata=metadata, task_names=tasks, unread=unread)


def _write_safetensors(path: epath.Path, weights: Weights) -> Mapping[str, str]:
    fields = modeling_config.to_dict(weights.config)
    metadata = {**weights.metadata, MODEL_KEY: json.dumps(fields)}
    if weights.task_names:
        metadata[TASKS_KEY] = json.dumps(weights.task_names)
    unread = {f"{_UNREAD}{name}": array for name, array in weights.unread.items()}
    arrays = {**weights.arrays, **unread}
    if path.suffix == _SAFETENSORS:
        safetensors_files.write_file(path, arrays, metadata)
    else:
        path.mkdir()
        safetensors_files.write_sharded(path, arrays, metadata=metadata)
    return {}


def _is_safetensors(path: epath.Path) -> bool:
    if not path.is_dir():
        return path.suffix == _SAFETENSORS and path.exists()
    is_theirs = (path / hugging_face.CONFIG_FILE).exists()
    return bool(safetensors_files.visible(path)) and not is_theirs


def _is_original(path: epath.Path) -> bool:
    return original_folder.is_at(path) and not exported_folder.is_hyperdecoder(path)


def _is_hugging_face(path: epath.Path) -> bool:
    return path.is_dir() and (path / hugging_face.CONFIG_FILE).exists()


def _with_rows(
    config: TransformerConfig, arrays: Mapping[str, StoredArray], tables: Iterable[str]
) -> TransformerConfig:
    """`config` with as many tokens as the first of `tables` has rows."""
    table = next(arrays[name] for name in tables if name in arrays)
    return dataclasses.replace(config, vocab_size=table.shape[0])


def _with_tasks(config: TransformerConfig, arrays: Mapping[str, StoredArray]) -> TransformerConfig:
    """`config` with as many tasks as the arrays show, where it leaves their number open."""
    if not config.reads_tasks or config.num_tasks is not None:
        return config
    for side in ("encoder", "decoder"):
        is_bank = getattr(config, f"{side}_adapter").source == "manual_specific"
        for path, array in arrays.items():
            if path in (f"{side}_adapters/task_embedding", f"{side}_hypergrid/task_embedding"):
                return dataclasses.replace(config, num_tasks=array.shape[0])
            if is_bank and path.startswith(f"{side}_adapters/"):
                return dataclasses.replace(config, num_tasks=array.shape[1])
    return config


def _read_tokenizer(folder: epath.Path, config: TransformerConfig) -> dict[str, bytes]:
    """The files of a folder that turn text into tokens.

    Raises:
      ValueError: its SentencePiece model is none, or has tokens that the weights do not have.
    """
    names = [name for name in _TOKENIZER_FILES if (folder / name).exists()]
    files = {name: (folder / name).read_bytes() for name in names}
    if _VOCABULARY_FILE in files:
        num_pieces = tokenizer.make(files[_VOCABULARY_FILE], 0).num_text_ids
        if num_pieces > config.vocab_size:
            raise ValueError(
                f"Every token must have a row in the embedding; {folder / _VOCABULARY_FILE} has "
                f"{num_pieces:,} pieces, and the embedding {config.vocab_size:,} rows. The "
                "vocabulary belongs to other weights: copy theirs."
            )
    return files


def vocabulary_files(model: bytes) -> dict[str, bytes]:
    """The files of a vocabulary in a Hugging Face folder, none for one of bytes."""
    return {} if model == tokenizer.BYTES_MODEL else {_VOCABULARY_FILE: model}


def _write_tokenizer(folder: epath.Path, weights: Weights) -> None:
    for name, content in weights.files.items():
        (folder / name).write_bytes(content)


FORMATS = {
    "t5x": Format(t5x_checkpoint.is_checkpoint, _read_t5x, _write_t5x("t5x")),
    "t5x_orbax": Format(lambda path: False, _read_t5x, _write_t5x("orbax")),
    "original": Format(_is_original, _read_original, _write_original, has_files=True),
    "hugging_face": Format(
        _is_hugging_face, _read_hugging_face, _write_hugging_face, has_files=True
    ),
    "safetensors": Format(_is_safetensors, _read_safetensors, _write_safetensors),
}
