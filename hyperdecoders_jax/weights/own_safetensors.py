"""safetensors files in this package's own paths: a file, or a folder of shards.

Metadata describe the model and its tasks, so that no `config.json` is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from etils import epath

from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.weights import (
    hugging_face,
    infer_config,
    safetensors_files,
    trained_model,
)
from hyperdecoders_jax.weights.source import Source
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel

# Metadata, as JSON: `modeling.config.to_dict`, the ordered list of tasks.
_MODEL_KEY = "model"
_TASKS_KEY = "task_names"
_SAFETENSORS = ".safetensors"
# Prefix of `TrainedModel.unread`.
_UNREAD = "unread/"


def read(source: Source) -> TrainedModel:
    """A file or folder of shards; without a description, a plain T5 or `source.config`."""
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
    config = source.with_rows(config or infer_config.infer_config(arrays), arrays)
    return TrainedModel(
        Description(config, task_names=tasks),
        arrays,
        skipped={f"{_UNREAD}{name}": "of the original, which never reads it" for name in unread},
        metadata=safetensors_files.metadata(path),
        unread=unread,
    )


def write(path: epath.Path, trained: TrainedModel) -> Mapping[str, str]:
    """Writes one file if the path ends in `.safetensors`, else a folder of shards."""
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


def is_at(path: epath.Path) -> bool:
    """Whether there is such a file, or a folder of them without Hugging Face's `config.json`."""
    if not path.is_dir():
        return path.suffix == _SAFETENSORS and path.exists()
    is_theirs = (path / hugging_face.CONFIG_FILE).exists()
    return bool(safetensors_files.visible(path)) and not is_theirs
