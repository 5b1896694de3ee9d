"""Folders of the original Hyperdecoders (`config.json`, `pytorch_model.bin`), read and written.

Source: allenai/hyperdecoders, training_args.py and modeling/adapter_t5.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import AdapterConfig, HypernetworkConfig, TransformerConfig
from hyperdecoders_jax.weights import (
    check_params,
    fingerprints,
    folding,
    hugging_face,
    original,
    torch_files,
    trained_model,
)
from hyperdecoders_jax.weights.arrays import Accounted, Arrays, StoredArray

_SIDES = ("encoder", "decoder")
_NEVER_READ = "the original makes it beside a hypernetwork and never reads it"


def is_at(path: epath.Path) -> bool:
    """Whether a folder is one of the original, by its `config.json`."""
    has_config = (path / hugging_face.CONFIG_FILE).exists()
    return has_config and "encoder_adapter" in hugging_face.read_config(path)


def config_from_json(fields: Mapping[str, Any]) -> TransformerConfig:
    """The configuration of a `config.json` with the original's defaults; ValueError if not ours."""
    missing = [name for name in ("encoder_adapter", "decoder_adapter") if name not in fields]
    if missing:
        raise ValueError(
            f"The config.json of a trained Hyperdecoder must have {' and '.join(missing)}. Copy "
            "the one that training saved; a plain T5's folder is of the format hugging_face."
        )
    advice = "Copy the one that training saved."
    with trained_model.fields_of("config.json", "what a trained Hyperdecoder is", advice):
        adapters = {f"{side}_adapter": _adapter_from_json(side, fields) for side in _SIDES}
        config = dataclasses.replace(hugging_face.config_from_json(fields), **adapters)
        # Only now: whether tasks are read depends on the adapters.
        if config.reads_tasks:
            config = dataclasses.replace(config, num_tasks=len(task_names(fields)))
    return config


def task_names(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The tasks in order, which numbers them; the original draws it anew for each training."""
    tasks = fields.get("tasks") or ()
    if not isinstance(tasks, list | tuple) or not all(isinstance(x, str) for x in tasks):
        raise ValueError(
            f"Field tasks in config.json must be a list of names; got {tasks!r:.99}. Copy it again."
        )
    return tuple(tasks)


def config_to_json(config: TransformerConfig, task_names: Sequence[str] = ()) -> dict[str, Any]:
    """Inverse of `config_from_json`; ValueError if the original has no such model."""
    original.state_names(config)  # Refuses adapters that the original does not have.
    if config.reads_tasks and len(task_names) != config.num_tasks:
        raise ValueError(
            f"The original's config.json must name all {config.num_tasks} tasks; got "
            f"{len(task_names)}: {tuple(task_names)}. Give the ordered list of the training."
        )
    adapters = [config.encoder_adapter, config.decoder_adapter]
    used = [x for x in adapters if x.source != "none"]
    networks = [x.hypernetwork for x in used if x.source in ("task", "generated")]
    poolers = [x.hypernetwork for x in used if x.source == "generated"]
    return hugging_face.config_to_json(config) | {
        "architectures": ["T5ForConditionalGenerationWithAdapter"],
        "encoder_adapter": config.encoder_adapter.source,
        "decoder_adapter": config.decoder_adapter.source,
        "encoder_adapter_dim": config.encoder_adapter.bottleneck_dim,
        "decoder_adapter_dim": config.decoder_adapter.bottleneck_dim,
        "hypernetwork_bottleneck": _shared("bottleneck_dim", networks, 128),
        "adapter_norm_input": _shared("norm_input", used, False),
        "process_encoder_output": _shared("pooled_mlp", poolers, True),
        "mean_task_embeddings": any(x.unseen_tasks == "mean" for x in adapters),
        "tasks": list(task_names),
    }


def open(
    folder: str | os.PathLike,
) -> tuple[TransformerConfig, tuple[str, ...], dict[str, StoredArray]]:
    """Configuration, ordered tasks, and arrays in the original's names; see `hugging_face.open`."""
    folder = epath.Path(folder)
    fields = hugging_face.read_config(folder)
    return config_from_json(fields), task_names(fields), hugging_face.open_arrays(folder)


def write(
    folder: str | os.PathLike,
    config: TransformerConfig,
    arrays: Arrays,
    task_names: Sequence[str] = (),
    fingerprint: Callable[[], str] | None = None,
) -> None:
    """Writes `config.json` and `pytorch_model.bin` (of `to_state`). Cost: all arrays in memory.

    `fingerprint`, of the parameters in our layouts, is called when they are written.
    """
    folder = epath.Path(folder)
    fields = config_to_json(config, task_names)
    folder.mkdir(parents=True, exist_ok=True)
    torch_files.write(folder / torch_files.SINGLE_FILE, arrays)
    if fingerprint is not None:
        fields[fingerprints.FIELD] = fingerprint()
    (folder / hugging_face.CONFIG_FILE).write_text(json.dumps(fields, indent=2) + "\n")


def to_ours(arrays: Arrays, config: TransformerConfig) -> Accounted:
    """The original's arrays in our names and layouts; ValueError if not exactly `config`'s."""
    # The state repeats tied tables under several names.
    arrays, left = hugging_face.without_copies(arrays, config)
    groups = original.state_names(config)
    used = {name for group in groups.values() for name in group}
    unused = set(arrays) & set(unused_names(config))
    found, called = {}, {}
    for path, group in groups.items():
        if absent := [name for name in group if name not in arrays]:
            called[path] = absent[0]
            continue
        layers = [arrays[name] for name in group]
        if odd := [i for i, array in enumerate(layers) if array.shape != layers[0].shape]:
            raise ValueError(
                f"The layers of an array must have one shape; {group[odd[0]]} has "
                f"{layers[odd[0]].shape} and {group[0]} {layers[0].shape}. Copy the state again."
            )
        found[path] = _stack(path, layers, group)
    # Apart, so that an unexpected name that looks like one of our paths is not taken for it.
    others = {f"unexpected/{name}": name for name in set(arrays) - used - unused}
    check_params.check_params(
        found | {path: arrays[name] for path, name in others.items()},
        config,
        "The state",
        advice="Copy the config.json that was saved with these weights.",
        called=called | others,
    )
    return Accounted(found, left | dict.fromkeys(sorted(unused), _NEVER_READ))


def to_state(
    arrays: Arrays, config: TransformerConfig, unused: Arrays | None = None
) -> dict[str, StoredArray]:
    """Inverse of `to_ours`; ValueError if the arrays are not `config`'s, or it has no such model.

    The original wants what it never reads (`unused_names`), too: from `unused`, else zeros.
    """
    groups = original.state_names(config)
    check_params.check_params(
        arrays,
        # The original has no gates, so theirs are unexpected.
        dataclasses.replace(config, encoder_hypergrid=None, decoder_hypergrid=None),
        "A state of the original",
        advice=f"Give all parameters, the T5's and its adapters'.{folding.advice(config)}",
    )
    state = {}
    for path, group in groups.items():
        state |= {name: _unstack(path, arrays[path], name, i) for i, name in enumerate(group)}
    dtype = arrays["token_embedder/embedding"].dtype  # PyTorch models have one type.
    for name, shape in unused_names(config).items():
        # Bound as a default: a closure would see the shape of the last iteration.
        zeros = StoredArray(shape, dtype, lambda shape=shape: np.zeros(shape, dtype))
        state[name] = (unused or {}).get(name, zeros)
    table = state["shared.weight"]
    state |= dict.fromkeys(hugging_face.COPIES, table)
    return {"lm_head.weight": table} | state if config.logits_via_embedding else state


def unused_names(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Name → shape of the arrays that the original makes for `config` and never reads."""
    found = {}
    for side in _SIDES:
        adapter = getattr(config, f"{side}_adapter")
        # An encoder with generated adapters does read them, in its first pass.
        if adapter.source == "task" or (adapter.source, side) == ("generated", "decoder"):
            manual = dataclasses.replace(
                config, **{f"{side}_adapter": dataclasses.replace(adapter, source="manual")}
            )
            sizes = {"down": (adapter.bottleneck_dim, config.emb_dim)}
            sizes["up"] = sizes["down"][::-1]
            for path, group in original.state_names(manual).items():
                if path.startswith(f"{side}_adapters/"):
                    half, kind = path.rsplit("/", 1)[-1].split("_")
                    shape = sizes[half] if kind == "kernel" else sizes[half][:1]
                    found |= dict.fromkeys(group, shape)
    return found


def _adapter_from_json(side: str, fields: Mapping[str, Any]) -> AdapterConfig:
    source = fields[f"{side}_adapter"]
    if source == "none":
        return AdapterConfig()
    # Fields that the source does not read stay at our defaults, so that equal models are equal.
    network = {}
    if source in ("task", "generated"):
        network["bottleneck_dim"] = fields.get("hypernetwork_bottleneck", 128)
    if source == "generated":
        network["pooled_mlp"] = fields.get("process_encoder_output", True)
    takes_mean = source in modeling_config.TASK_SOURCES and fields.get("mean_task_embeddings")
    return AdapterConfig(
        source,
        fields.get(f"{side}_adapter_dim", 64),
        fields.get("adapter_norm_input", False),
        HypernetworkConfig(**network),
        unseen_tasks="mean" if takes_mean else "error",
    )


def _shared(name: str, configs: Sequence[Any], default: Any) -> Any:
    """The common value of both stacks, for which the original has one field."""
    values = [getattr(config, name) for config in configs]
    if len(set(values)) > 1:
        raise ValueError(
            f"The original has one {name} for both stacks; got {' and '.join(map(repr, values))}. "
            "Keep such a model in this package's own formats."
        )
    return values[0] if values else default


def _stack(path: str, arrays: Sequence[StoredArray], group: Sequence[str]) -> StoredArray:
    def read():
        pairs = zip(group, arrays, strict=True)
        layers = [original.to_ours(path, name, array.read()) for name, array in pairs]
        return np.stack(layers) if original.is_stacked(path) else layers[0]

    # The shape of a view of a single zero, which takes no memory.
    shape = original.to_ours(path, group[0], np.broadcast_to(0, arrays[0].shape)).shape
    if original.is_stacked(path):
        shape = (len(group), *shape)
    return StoredArray(shape, arrays[0].dtype, read)


def _unstack(path: str, array: StoredArray, name: str, layer: int) -> StoredArray:
    def change(value):
        return original.to_theirs(path, name, value[layer] if original.is_stacked(path) else value)

    return array.then(change, change(np.broadcast_to(0, array.shape)).shape)
