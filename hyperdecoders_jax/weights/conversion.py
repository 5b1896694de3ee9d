"""Changes of weights between formats (vocabulary size, type, folded gates), and their checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

from hyperdecoders_jax import errors
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import AdapterConfig, HyperGridConfig, TransformerConfig
from hyperdecoders_jax.weights import check_params, folding
from hyperdecoders_jax.weights.trained_model import DTYPES, TrainedModel

# Parameters with one row for each token, and the axis of these rows.
_VOCABULARY_AXES = {"token_embedder/embedding": 0, "decoder/logits_dense/kernel": 1}
_MOST_TOKENS = 10_000_000
# What a configuration may say otherwise than the weights, which stay the same.
_FREE_FIELDS = ("dropout_rate", "dtype", "num_tasks", "num_trained_tasks")


def check_config(weights: TrainedModel, config: TransformerConfig, where: str) -> None:
    """ValueError if weights compute otherwise; adapters and gates of sides that have some count."""
    keys = {path.split("/")[0] for path in weights.arrays}
    theirs, ours = (_what_counts(x, keys) for x in (weights.config, config))
    differences = [
        f"{name} is {theirs.get(name)} there and {ours.get(name)} in the configuration"
        for name in sorted(theirs | ours)
        if theirs.get(name) != ours.get(name)
    ]
    if differences:
        raise ValueError(
            f"{where} must hold weights of the model; {'; '.join(differences)}. "
            f"{check_params.CHOOSE}"
        )


def _what_counts(config: TransformerConfig, keys: Collection[str]) -> dict[str, Any]:
    """The fields that change what a model computes; of adapters, those that no shape shows."""
    counting = {
        name: value
        for name, value in modeling_config.to_dict(config).items()
        if name not in _FREE_FIELDS and not name.endswith(("_adapter", "_hypergrid"))
    }
    for side in ("encoder", "decoder"):
        adapter, grid = {}, {}
        if f"{side}_adapters" in keys:
            adapter = _adapter_that_counts(getattr(config, f"{side}_adapter"))
        if f"{side}_hypergrid" in keys:
            grid = _grid_that_counts(getattr(config, f"{side}_hypergrid"))
        counting |= {f"{side}_adapter.{name}": value for name, value in adapter.items()}
        counting |= {f"{side}_hypergrid.{name}": value for name, value in grid.items()}
    return counting


def _adapter_that_counts(adapter: AdapterConfig) -> dict[str, Any]:
    found = {"source": adapter.source, "sites": sorted(adapter.sites)}
    if "feed_forward" in adapter.sites:
        found["norm_input"] = adapter.norm_input
    if any(site in modeling_config.LORA_SITES for site in adapter.sites):
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


def resize_vocabulary(weights: TrainedModel, vocab_size: int) -> TrainedModel:
    """The weights with `vocab_size` rows for tokens; surplus rows are dropped from the end.

    A new row is the mean of all others: the logit of an unseen token is then the mean of all, so
    that it is never the likeliest, as with a row of zeros. ValueError beyond 1 to 10,000,000 rows.
    """
    if not 1 <= vocab_size <= _MOST_TOKENS:
        raise ValueError(
            f"--vocab_size must be from 1 to {_MOST_TOKENS:,}; got {vocab_size}. T5's is 32128."
        )
    had = weights.config.vocab_size
    if vocab_size == had:
        return weights
    arrays, new, skipped = dict(weights.arrays), dict(weights.new), dict(weights.skipped)
    for path, axis in _VOCABULARY_AXES.items():
        if path not in arrays:
            continue
        shape = tuple(vocab_size if i == axis else n for i, n in enumerate(arrays[path].shape))
        arrays[path] = arrays[path].then(lambda x, axis=axis: _resize(x, axis, vocab_size), shape)
        if vocab_size > had:
            new[f"rows {had} to {vocab_size - 1} of {path}"] = "the mean of the other rows"
        else:
            skipped[f"rows {vocab_size} to {had - 1} of {path}"] = f"vocab_size is {vocab_size}"
    config = dataclasses.replace(weights.config, vocab_size=vocab_size)
    return weights.replace(model=config, arrays=arrays, new=new, skipped=skipped)


def _resize(value: np.ndarray, axis: int, size: int) -> np.ndarray:
    missing = size - value.shape[axis]
    if missing < 0:
        return value[:size] if axis == 0 else value[:, :size]
    mean = np.mean(value, axis=axis, keepdims=True, dtype=np.float32).astype(value.dtype)
    return np.concatenate([value, np.repeat(mean, missing, axis)], axis)


def cast(weights: TrainedModel, dtype: str) -> TrainedModel:
    """The same weights as "float32" or "bfloat16"; ValueError for other types."""
    if dtype not in DTYPES:
        raise ValueError(
            f"The type of weights must be one of {tuple(DTYPES)}; got {dtype!r}."
            f"{errors.suggestion(dtype, DTYPES)} Leave --dtype out to keep them as they are."
        )
    arrays = {path: array.cast(DTYPES[dtype]) for path, array in weights.arrays.items()}
    return weights.replace(arrays=arrays)


def fold_gates(weights: TrainedModel, task: str | None = None) -> TrainedModel:
    """The same weights with gates (those of `task`) folded into kernels; see `folding.fold`."""
    names = weights.description.task_names or None
    arrays, config = folding.fold(weights.arrays, weights.config, names, task)
    why = "folded into the kernels that they scale" + (f", for {task}" if task else "")
    folded = {path: why for path in weights.arrays if path not in arrays}
    return weights.replace(model=config, arrays=arrays, skipped={**weights.skipped, **folded})
