"""What a checkpoint belongs to (model, tasks, vocabulary, frozen part), and what of it must match.

A checkpoint holds trainable parameters alone, so it means something only with the same frozen part,
order of tasks and vocabulary. Both runners store an `Identity` in their checkpoints as JSON, and
compare it before they restore one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import logging

from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import HyperGridConfig, TransformerConfig

# Fields of a model's configuration that may change between two starts of one run.
FREE_FIELDS = ("dropout_rate", "dtype")
_GRIDS = ("encoder_hypergrid", "decoder_hypergrid")


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to. None means unknown, and is not compared."""

    task_names: tuple[str, ...] | None = None  # In the order of `task_ids`.
    model: Mapping[str, Any] | None = None  # Sizes and adapters; see `describe_model`.
    frozen_source: str | None = None  # For messages, not compared.
    frozen_fingerprint: str | None = None  # Before any cast to bfloat16.
    vocabulary_fingerprint: str | None = None
    # What checkpoints of earlier versions have in its place; compared, never stored.
    former_vocabulary_fingerprints: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        del fields["former_vocabulary_fingerprints"]
        return _to_json(fields)


UNKNOWN = Identity()


def identity_of(run: Mapping[str, Any]) -> Identity:
    """The identity in a checkpoint's JSON; fields that this version does not know are ignored."""
    names = {field.name for field in dataclasses.fields(Identity)}
    known = {name: value for name, value in run["identity"].items() if name in names}
    if unknown := sorted(run["identity"].keys() - known):
        logging.warning("Ignoring what a checkpoint says of its %s.", ", ".join(unknown))
    return Identity(**known)


def describe_model(config: TransformerConfig) -> dict[str, Any]:
    """The fields of a model's configuration that are not at their defaults, as JSON.

    So a field that a later version adds leaves older checkpoints valid. Without `FREE_FIELDS`.
    """
    fields = modeling_config.to_dict(config)
    for name in ("encoder_adapter", "decoder_adapter", *_GRIDS):
        if fields[name] is not None:
            del fields[name]["unseen_tasks"]  # Affects evaluation only.
    del fields["num_trained_tasks"]  # The list of their names is compared.
    if not config.reads_tasks:
        del fields["num_tasks"]
    return _not_default({name: x for name, x in fields.items() if name not in FREE_FIELDS})


def check_same(saved: Identity, here: Identity, where: str) -> None:
    """Raises ValueError, naming `where` and what differs, unless a checkpoint is of this run."""
    if saved.vocabulary_fingerprint in here.former_vocabulary_fingerprints:
        saved = dataclasses.replace(saved, vocabulary_fingerprint=here.vocabulary_fingerprint)
    saved_fields, fields = _comparable(saved), _comparable(here)
    unknown = {name for side in (saved, here) for name, x in vars(side).items() if x is None}
    # A field that is missing on one side is at its default there.
    differences = [
        f"{name} is {_shown(saved_fields, name)} there and {_shown(fields, name)} here"
        for name in sorted({*saved_fields, *fields})
        if name.split(".")[0] not in {*unknown, "frozen_source"}
        and saved_fields.get(name) != fields.get(name)
    ]
    if any(line.startswith("frozen_fingerprint") for line in differences):
        sources = f"{saved.frozen_source!r} there and from {here.frozen_source!r} here"
        differences.append(f"the frozen part came from {sources}")
    if differences:
        raise ValueError(
            "A checkpoint must be of this model, tasks, vocabulary and frozen part; got a "
            f"checkpoint of another model, {where}: {'; '.join(differences)}. Give another "
            "--model_dir, or the configuration that the checkpoint was trained with."
        )


def check_settings(
    saved: Mapping[str, Any] | None, here: Mapping[str, Any] | None, where: str
) -> None:
    """Raises ValueError, naming `where`, unless the settings that both sides know are equal."""
    differences = [
        f"{name} is {there!r} there and {ours!r} here"
        for name, (there, ours) in changes(saved, here).items()
    ]
    if differences:
        raise ValueError(
            "A run must be continued with the settings that it was started with, since a position "
            f"in the data means nothing under others; got a checkpoint of other settings, {where}: "
            f"{'; '.join(differences)}. Set them as they were, or give another --model_dir."
        )


def check_agree(of_processes: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError unless the settings of all processes of a run are equal."""
    for index, settings in enumerate(of_processes):
        differences = [
            f"{name} is {first!r} in process 0 and {other!r} in process {index}"
            for name, (first, other) in changes(of_processes[0], settings).items()
        ]
        if differences:
            raise ValueError(
                "All processes of a run must have the same settings and read the same data; got "
                f"{'; '.join(differences)}. Start all with the same command and the same files."
            )


def describe_changes(begun: Mapping[str, Any] | None, here: Mapping[str, Any] | None) -> str | None:
    """A line on what differs from a run's beginning, of values that may; None if nothing does.

    >>> describe_changes({"dropout_rate": 0.1, "steps": 3}, {"dropout_rate": 0.0, "steps": 3})
    'changed since the run began: dropout_rate 0.1 -> 0.0'
    """
    found = [f"{name} {old} -> {new}" for name, (old, new) in changes(begun, here).items()]
    return f"changed since the run began: {', '.join(found)}" if found else None


def changes(
    saved: Mapping[str, Any] | None, here: Mapping[str, Any] | None
) -> dict[str, tuple[Any, Any]]:
    """What both sides know and say otherwise, by its path.

    >>> changes({"optimizer": None, "steps": 3}, {"optimizer": {"b1": 0.8}, "steps": 3, "new": 1})
    {'optimizer': (None, {'b1': 0.8})}
    """
    saved, here = _to_json(saved or {}), _to_json(here or {})
    found = {}
    for name in sorted(saved.keys() & here):
        old, new = saved[name], here[name]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found |= {f"{name}.{part}": pair for part, pair in changes(old, new).items()}
        elif old != new:
            found[name] = (old, new)
    return found


def flatten(tree: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings as one dict; keys are joined by dots.

    >>> flatten({"model": {"emb_dim": 8}, "seed": 1})
    {'model.emb_dim': 8, 'seed': 1}
    """
    if not isinstance(tree, Mapping):
        return {path: tree}
    flat = {}
    for name, child in tree.items():
        flat |= flatten(child, f"{path}.{name}" if path else name)
    return flat


def _comparable(identity: Identity) -> dict[str, Any]:
    fields = identity.to_json()
    if fields["model"] is not None:
        # An older version may have stored a field that is at its default today.
        fields["model"] = _not_default(fields["model"])
    return flatten(fields)


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return repr(fields[name]) if name in fields else "the default"


def _not_default(model: Mapping[str, Any]) -> dict[str, Any]:
    defaults = _defaults(TransformerConfig, modeling_config.to_dict)
    for name in _GRIDS:
        # The default of a grid is None, so its fields' defaults are not part of the model's.
        if model.get(name) is not None:
            defaults[name] = _defaults(HyperGridConfig, dataclasses.asdict)
    return _differing(_to_json(model), _to_json(defaults))


def _defaults(config_class: type, to_dict: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    # Required fields are sizes. They get 1, to make an instance at all, and are always compared.
    fields = dataclasses.fields(config_class)
    sizes = {field.name: 1 for field in fields if field.default is dataclasses.MISSING}
    smallest = to_dict(config_class(**sizes))
    return {name: value for name, value in smallest.items() if name not in sizes}


def _differing(tree: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    differing = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and isinstance(defaults.get(name), Mapping):
            if value := _differing(value, defaults[name]):
                differing[name] = value
        elif name not in defaults or value != defaults[name]:
            differing[name] = value
    return differing


def _to_json(tree: Any) -> Any:
    # Through JSON and back: a tuple here must equal the list that a file gives.
    return json.loads(json.dumps(tree))
