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
import re
from collections.abc import Callable, Mapping

from etils import epath

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import (
    adapter_folder,
    exported_folder,
    foreign_formats,
    hugging_face,
    own_safetensors,
    run_folder,
    safetensors_files,
    t5x_checkpoint,
    text_files,
    trained_model,
)
from hyperdecoders_jax.weights.arrays import told_if_not_finite
from hyperdecoders_jax.weights.source import Source
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel

RUN, ADAPTERS, HUGGING_FACE = "run", "adapters", "hugging_face"


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
    "t5x": Format(
        t5x_checkpoint.is_checkpoint, foreign_formats.read_t5x, foreign_formats.write_t5x
    ),
    "t5x_orbax": Format(
        lambda path: False,
        foreign_formats.read_t5x,
        functools.partial(foreign_formats.write_t5x, layout="orbax"),
    ),
    "original": Format(
        foreign_formats.is_original,
        foreign_formats.read_original,
        foreign_formats.write_original,
        True,
    ),
    HUGGING_FACE: Format(
        foreign_formats.is_hugging_face,
        foreign_formats.read_hugging_face,
        foreign_formats.write_hugging_face,
        True,
    ),
    "safetensors": Format(own_safetensors.is_at, own_safetensors.read, own_safetensors.write),
}
