"""Formats of other programs, Hugging Face's, the original's and T5X's, as trained models.

A `read_…` takes a `Source`; a `write_…` makes a new path, and returns what it made that the model
lacks, and how. What is read has the fingerprint that this package wrote beside it, if there is one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from etils import epath

from hyperdecoders_jax import model
from hyperdecoders_jax.weights import (
    exported_folder,
    fingerprints,
    hugging_face,
    infer_config,
    original_folder,
    t5x_checkpoint,
    text_files,
)
from hyperdecoders_jax.weights.source import Source
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel


def read_hugging_face(source: Source) -> TrainedModel:
    """A T5 for transformers, or an exported folder."""
    folder = hugging_face.find(source.path)
    if exported_folder.is_hyperdecoder(folder):
        read = exported_folder.read(folder)
        return read.replace(files=text_files.read_tokenizer(folder, read.config))
    config, stored = hugging_face.open(folder)
    config = source.with_rows(config, stored)
    accounted = hugging_face.to_ours(stored, config)
    wanted = fingerprints.of_config(hugging_face.read_config(folder))
    fingerprints.check(accounted.arrays, wanted, os.fspath(folder))
    files = text_files.read_tokenizer(folder, config)
    description = Description(config)
    return TrainedModel(description, accounted.arrays, skipped=accounted.left, files=files)


def write_hugging_face(path: epath.Path, trained: TrainedModel) -> Mapping[str, str]:
    """Writes a plain T5 for transformers; ValueError if adapters are left."""
    config = trained.config
    arrays, fingerprint = fingerprints.recorded(trained.arrays)
    theirs = hugging_face.from_ours(arrays, config)
    hugging_face.write(path, config, theirs, fingerprint=fingerprint)
    text_files.write_tokenizer(path, trained)
    return {}


def read_original(source: Source) -> TrainedModel:
    """A trained model of the original."""
    config, task_names, arrays = original_folder.open(source.path)
    config = source.with_rows(config, arrays)
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


def write_original(path: epath.Path, trained: TrainedModel) -> Mapping[str, str]:
    """Writes a folder of the original; ValueError if it has no such model."""
    arrays, fingerprint = fingerprints.recorded(trained.arrays)
    state = original_folder.to_state(arrays, trained.config, trained.unread)
    names = trained.description.task_names
    original_folder.write(path, trained.config, state, names, fingerprint)
    text_files.write_tokenizer(path, trained)
    made = set(original_folder.unused_names(trained.config)) - set(trained.unread)
    why = "zeros, for the original makes them beside a hypernetwork and never reads them"
    return dict.fromkeys(made, why)


def is_original(path: epath.Path) -> bool:
    """Whether a folder is the original's; an exported folder may have its fields, too."""
    return original_folder.is_at(path) and not exported_folder.is_hyperdecoder(path)


def is_hugging_face(path: epath.Path) -> bool:
    """Whether a folder has a `config.json`; ask `is_original` first, which has one, too."""
    return path.is_dir() and (path / hugging_face.CONFIG_FILE).exists()


def read_t5x(source: Source) -> TrainedModel:
    """A checkpoint of T5X, in either layout."""
    accounted = t5x_checkpoint.account(source.path)
    arrays, config = accounted.arrays, source.config
    new = sorted({name.split("/")[0] for name in arrays} - set(model.BACKBONE_KEYS))
    if config is None and new:
        raise ValueError(
            f"A T5X checkpoint with parameters beside T5's own needs their configuration; "
            f"{source.path} has some under {', '.join(new)}. Name it with --gin_file=experiments/…."
        )
    config = source.with_rows(config or infer_config.infer_config(arrays), arrays)
    description = Description(infer_config.with_tasks(config, arrays))
    return TrainedModel(description, arrays, skipped=accounted.left)


def write_t5x(path: epath.Path, trained: TrainedModel, layout: str = "t5x") -> Mapping[str, str]:
    """Writes a checkpoint that T5X restores; `layout` as of `t5x_checkpoint.write`."""
    step = trained.description.step
    t5x_checkpoint.write(path, trained.arrays, step, layout)
    return {"state/step": f"the count of steps, {step}"}
