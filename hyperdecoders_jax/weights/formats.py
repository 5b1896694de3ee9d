"""Formats of weights: each reads a folder or file into a `TrainedModel` and writes one.

    run            the model directory of a training run, of either runner (read only)
    adapters       an adapter folder, and the T5 that it adapts
    hugging_face   a folder of a T5 for transformers, or a hub id; also exported folders
    original       a folder of the original Hyperdecoders: config.json and pytorch_model.bin
    t5x, t5x_orbax a folder with checkpoint_<step> in it, in T5X's layout or Orbax's
    safetensors    in our paths: FILE.safetensors, or a folder of shards

A folder is data: nothing here reads gin files, imports a module that a folder names or runs code.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Mapping

from etils import epath

from hyperdecoders_jax import errors, files, model
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import (
    adapter_folder,
    exported_folder,
    fingerprints,
    hugging_face,
    infer_config,
    original_folder,
    run_folder,
    safetensors_files,
    t5x_checkpoint,
    text_files,
    trained_model,
)
from hyperdecoders_jax.weights.arrays import Arrays, told_if_not_finite
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel

RUN, ADAPTERS, HUGGING_FACE = "run", "adapters", "hugging_face"
# Metadata of our safetensors files, as JSON: `modeling.config.to_dict`, the ordered list of tasks.
_MODEL_KEY = "model"
_TASKS_KEY = "task_names"
_SAFETENSORS = ".safetensors"
# Names of arrays with a row for each token: Hugging Face's, of which a file may hold any, and ours.
_TABLES = (
    *("shared.weight", *hugging_face.COPIES),
    *("token_embedder/embedding", "decoder/logits_dense/kernel"),
)
# Prefix of `TrainedModel.unread` in our own files.
_UNREAD = "unread/"


@dataclasses.dataclass(frozen=True)
class Source:
    """What to read, and what its reader may be told."""

    path: str  # File or folder, local or remote, or a hub id.
    config: TransformerConfig | None = None  # For files without one: T5X's with adapters.
    are_rows_right: bool = False  # Whether the embedding's rows give the vocabulary's size.
    step: str | int | None = None  # Of a run: "best", "last" or a number; None: best.
    backbone: str | None = None  # Of an adapter folder: the T5's path; None: where the run had it.


@dataclasses.dataclass(frozen=True)
class Format:
    """A way to store weights."""

    is_at: Callable[[epath.Path], bool]
    read: Callable[[Source], TrainedModel]
    # Makes a new path; returns what it made that the model lacks, and how. None: only read.
    write: Callable[[epath.Path, TrainedModel], Mapping[str, str]] | None
    has_files: bool = False  # Whether it stores `TrainedModel.files`.


def to_path(path: str) -> epath.Path:
    """A path of this machine, or one in a bucket that answers; ValueError for other URLs.

    OSError if a bucket cannot be reached.
    """
    scheme, is_url, rest = path.partition("://")
    if is_url and scheme != "gs":
        # A hub id is what follows in hf://google/t5-v1_1-base and in its page's address.
        host = "" if scheme == "hf" else r"(?:huggingface\.co|hf\.co)/"
        found = re.match(rf"{host}({hugging_face.HUB_ID.pattern})", rest)
        hint = f" Did you mean {found[1]!r}?" if found and scheme in ("hf", "https") else ""
        raise ValueError(
            f"Weights must be at a path of this machine, or in a bucket (gs://…); got {path}."
            f"{hint} Name a model of Hugging Face by its id, as google/t5-v1_1-base; download "
            "others first."
        )
    found = epath.Path(path)
    if is_url:
        try:
            found.exists()
        # The errors of TensorFlow and of Google's libraries have no class in common.
        except Exception as error:
            raise OSError(
                f"A bucket must be reachable with your rights; {path} gave "
                f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.200} Log in (gcloud "
                "auth application-default login), or copy it here first."
            ) from error
    return found


def detect(path: str) -> str:
    """The name of the format at `path`; FileNotFoundError or ValueError if there is none."""
    found = to_path(path)
    if found.is_dir():
        hugging_face.refuse_peft(found)
    elif found.exists():
        files.check_regular(found)
    for name, known in FORMATS.items():
        if known.is_at(found):
            return name
    if not found.exists() and hugging_face.HUB_ID.fullmatch(path):
        return HUGGING_FACE
    if not found.exists():
        raise FileNotFoundError(
            f"Weights must be at a path that exists, or at a hub id such as google/t5-v1_1-base; "
            f"there is nothing at {path}. Correct the path."
        )
    if run_folder.is_undescribed(found):
        run_folder.read_file(found)  # Says what to do.
    held = safetensors_files.listing(found, "an empty folder") if found.is_dir() else "a file"
    raise ValueError(
        f"Weights must be of one of the formats {', '.join(FORMATS)}; {path} is none of them: "
        f"{held}. A Hugging Face folder needs its config.json, a safetensors file its ending; "
        "copy what is missing, or name another path."
    )


def read(
    path: str,
    name: str | None = None,
    config: TransformerConfig | None = None,
    *,
    are_rows_right: bool = False,
    step: str | int | None = None,
    backbone: str | None = None,
) -> TrainedModel:
    """Opens a trained model or weights; arrays are not read yet, but copies that must be equal.

    `path` is a file or folder, local or remote, of the package (`package://…`), or a hub id; `name`
    its format, None detects it. For the others see `Source`. FileNotFoundError if a file is
    missing; ValueError if it is of another format, damaged or holds something not accounted for.
    """
    path = files.resolve(path)
    name = name or detect(path)
    if name not in FORMATS:
        raise ValueError(
            f"The format of weights must be one of {tuple(FORMATS)}; got {name!r}."
            f"{errors.suggestion(name, FORMATS)}"
        )
    owners = {RUN: "a training run", ADAPTERS: "an adapter folder"}
    for what, value, kind in (("step", step, RUN), ("backbone", backbone, ADAPTERS)):
        if value is not None and name != kind:
            raise ValueError(
                f"Only {owners[kind]} has a {what} to choose; {path} is of the format {name}, and "
                f"got {what} {value!r}. Leave it out."
            )
    found = FORMATS[name].read(Source(path, config, are_rows_right, step, backbone))
    # A backbone is told when it is read itself.
    own = {path: x for path, x in found.arrays.items() if path in found.own or not found.own}
    return found.replace(arrays={**found.arrays, **told_if_not_finite(own, path)})


def read_text(
    path: str, *, step: str | int | None = None, backbone: str | None = None
) -> TrainedModel:
    """Opens a trained model with vocabulary, lengths and decoding; raises like `read`."""
    path, found = _detect_text(path)
    trained = read(path, found, step=step, backbone=backbone)
    if trained.description.vocabulary is not None:
        return trained
    described = text_files.describe(hugging_face.find(path), trained.config)
    return trained_model.of_text(described, trained.arrays, skipped=trained.skipped)


def describe_text(path: str) -> Description:
    """The description of what `read_text` reads; opens no weights. Raises like `read_text`."""
    path, found = _detect_text(path)
    if found == RUN:
        return run_folder.read_file(path).description
    if found == ADAPTERS:
        return adapter_folder.read(path)[0]
    folder = hugging_face.find(path)
    if exported_folder.is_hyperdecoder(folder):
        return exported_folder.read_description(folder)
    return text_files.describe(folder, hugging_face.open_config(folder))


def _detect_text(path: str) -> tuple[str, str]:
    path = files.resolve(path)
    found = detect(path)
    if found not in (RUN, ADAPTERS, HUGGING_FACE):
        lacks = f"has no {trained_model.VOCABULARY_FILE} that it knows of"
        if not (epath.Path(path) / run_folder.CONFIG_FILE).exists():
            lacks = f"has no {run_folder.CONFIG_FILE} that says what they are"
        raise ValueError(
            "A model that reads and writes text must be a training run, an adapter folder or an "
            f"exported folder; {path} holds weights of the format {found}, and {lacks}. Name the "
            f"model directory of its run, which has a {run_folder.CONFIG_FILE}, or another folder; "
            "for earlier runs hyperdecoders upgrade --model_dir=FOLDER writes that file."
        )
    return path, found


def _read_hugging_face(source: Source) -> TrainedModel:
    folder = hugging_face.find(source.path)
    if exported_folder.is_hyperdecoder(folder):
        read = exported_folder.read(folder)
        return read.replace(files=text_files.read_tokenizer(folder, read.config))
    config, stored = hugging_face.open(folder)
    config = _with_rows(source, config, stored)
    accounted = hugging_face.to_ours(stored, config)
    wanted = fingerprints.of_config(hugging_face.read_config(folder))
    fingerprints.check(accounted.arrays, wanted, os.fspath(folder))
    files = text_files.read_tokenizer(folder, config)
    description = Description(config)
    return TrainedModel(description, accounted.arrays, skipped=accounted.left, files=files)


def _write_hugging_face(path: epath.Path, trained: TrainedModel) -> Mapping[str, str]:
    config = trained.config
    arrays, fingerprint = fingerprints.recorded(trained.arrays)
    theirs = hugging_face.from_ours(arrays, config)
    hugging_face.write(path, config, theirs, fingerprint=fingerprint)
    text_files.write_tokenizer(path, trained)
    return {}


def _read_original(source: Source) -> TrainedModel:
    config, task_names, arrays = original_folder.open(source.path)
    config = _with_rows(source, config, arrays)
    accounted = original_folder.to_ours(arrays, config)
    folder = epath.Path(source.path)
    wanted = fingerprints.of_config(hugging_face.read_config(folder))
    fingerprints.check(accounted.arrays, wanted, source.path)
    unread = set(original_folder.unused_names(config)) & set(arrays)
    return TrainedModel(
        Description(config, task_names=task_names),
        accounted.arrays,
        skipped=accounted.left,
        files=text_files.read_tokenizer(folder, config),
        unread={name: arrays[name] for name in sorted(unread)},
    )


def _write_original(path: epath.Path, trained: TrainedModel) -> Mapping[str, str]:
    arrays, fingerprint = fingerprints.recorded(trained.arrays)
    state = original_folder.to_state(arrays, trained.config, trained.unread)
    names = trained.description.task_names
    original_folder.write(path, trained.config, state, names, fingerprint)
    text_files.write_tokenizer(path, trained)
    made = set(original_folder.unused_names(trained.config)) - set(trained.unread)
    why = "zeros, for the original makes them beside a hypernetwork and never reads them"
    return dict.fromkeys(made, why)


def _is_original(path: epath.Path) -> bool:
    return original_folder.is_at(path) and not exported_folder.is_hyperdecoder(path)


def _is_hugging_face(path: epath.Path) -> bool:
    return path.is_dir() and (path / hugging_face.CONFIG_FILE).exists()


def _read_t5x(source: Source) -> TrainedModel:
    accounted = t5x_checkpoint.account(source.path)
    arrays, config = accounted.arrays, source.config
    new = sorted({name.split("/")[0] for name in arrays} - set(model.BACKBONE_KEYS))
    if config is None and new:
        raise ValueError(
            f"A T5X checkpoint with parameters beside T5's own needs their configuration; "
            f"{source.path} has some under {', '.join(new)}. Name it with --gin_file=experiments/…."
        )
    config = _with_rows(source, config or infer_config.infer_config(arrays), arrays)
    description = Description(_with_tasks(config, arrays))
    return TrainedModel(description, arrays, skipped=accounted.left)


def _write_t5x(path: epath.Path, trained: TrainedModel, layout: str = "t5x") -> Mapping[str, str]:
    step = trained.description.step
    t5x_checkpoint.write(path, trained.arrays, step, layout)
    return {"state/step": f"the count of steps, {step}"}


def _with_rows(source: Source, config: TransformerConfig, arrays: Arrays) -> TransformerConfig:
    """`config` with as many tokens as the embedding has rows, if `source` says so."""
    tables = [arrays[name] for name in _TABLES if name in arrays]
    if not source.are_rows_right or not tables:
        return config
    return dataclasses.replace(config, vocab_size=tables[0].shape[0])


def _with_tasks(config: TransformerConfig, arrays: Arrays) -> TransformerConfig:
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


def _read_safetensors(source: Source) -> TrainedModel:
    path, config = source.path, source.config
    arrays = dict(safetensors_files.open(path))
    # Our paths have slashes, theirs have dots.
    if theirs := [name for name in arrays if "/" not in name]:
        is_peft = theirs[0].startswith("base_model.")
        what = "an adapter of PEFT" if is_peft else "a model in the names of Hugging Face"
        how = ", once it is merged into its model" if is_peft else ""
        raise ValueError(
            f"Hugging Face's weights must come with their config.json; {path} holds {what} (as "
            f"{theirs[0]}), and no config.json. Name the folder that holds both{how}."
        )
    safetensors_files.check_fingerprints(path)
    unread_names = [name for name in arrays if name.startswith(_UNREAD)]
    unread = {name.removeprefix(_UNREAD): arrays.pop(name) for name in unread_names}
    tasks = safetensors_files.json_metadata(path, _TASKS_KEY) or []
    described = safetensors_files.json_metadata(path, _MODEL_KEY)
    with trained_model.fields_of(path, "which model it holds", "Convert the weights again."):
        tasks = trained_model.to_texts(_TASKS_KEY, tasks)
        config = config if described is None else modeling_config.from_dict(described)
    config = _with_rows(source, config or infer_config.infer_config(arrays), arrays)
    return TrainedModel(
        Description(config, task_names=tasks),
        arrays,
        skipped={f"{_UNREAD}{name}": "of the original, which never reads it" for name in unread},
        metadata=safetensors_files.metadata(path),
        unread=unread,
    )


def _write_safetensors(path: epath.Path, trained: TrainedModel) -> Mapping[str, str]:
    fields = modeling_config.to_dict(trained.config)
    metadata = {**trained.metadata, _MODEL_KEY: json.dumps(fields)}
    if trained.description.task_names:
        metadata[_TASKS_KEY] = json.dumps(trained.description.task_names)
    unread = {f"{_UNREAD}{name}": array for name, array in trained.unread.items()}
    arrays, own = {**trained.arrays, **unread}, {"metadata": metadata, "has_fingerprint": True}
    if path.suffix == _SAFETENSORS:
        safetensors_files.write_file(path, arrays, **own)
    else:
        path.mkdir()
        safetensors_files.write_sharded(path, arrays, **own)
    return {}


def _is_safetensors(path: epath.Path) -> bool:
    if not path.is_dir():
        return path.suffix == _SAFETENSORS and path.exists()
    is_theirs = (path / hugging_face.CONFIG_FILE).exists()
    return bool(safetensors_files.visible(path)) and not is_theirs


def _write_adapters(path: epath.Path, trained: TrainedModel) -> Mapping[str, str]:
    path.mkdir()
    own = {name: trained.arrays[name] for name in trained.own}
    adapter_folder.write(path, trained.description, own)
    return {}


def _read_run(source: Source) -> TrainedModel:
    return run_folder.read(source.path, source.step or "best", read_start=read)


def _read_adapters(source: Source) -> TrainedModel:
    return adapter_folder.read_whole(source.path, source.backbone, read_start=read)


# In the order in which they are looked for: a folder that describes itself comes first.
FORMATS = {
    ADAPTERS: Format(adapter_folder.is_adapter_folder, _read_adapters, _write_adapters, True),
    RUN: Format(run_folder.is_run, _read_run, None),
    "t5x": Format(t5x_checkpoint.is_checkpoint, _read_t5x, _write_t5x),
    "t5x_orbax": Format(
        lambda path: False, _read_t5x, functools.partial(_write_t5x, layout="orbax")
    ),
    "original": Format(_is_original, _read_original, _write_original, True),
    HUGGING_FACE: Format(_is_hugging_face, _read_hugging_face, _write_hugging_face, True),
    "safetensors": Format(_is_safetensors, _read_safetensors, _write_safetensors),
}
