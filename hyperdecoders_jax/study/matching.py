"""Widths for which a method trains as many parameters as another one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hyperdecoders_jax.data import mixtures
from hyperdecoders_jax.modeling.config import LORA_SITES, TransformerConfig
from hyperdecoders_jax.training import trainable

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig

TOLERANCE = 0.01
_MAX_WIDTH = 2**14
_SIDES = ("encoder", "decoder")
# Sources without a hypernetwork.
_LEARNED = ("none", "manual", "manual_specific")
Widths = Mapping[str, int]


def num_parameters(run: RunConfig) -> int:
    """Trained parameters of a run."""
    task_names = mixtures.resolve_task_names(run.data.mixture_or_task_name, run.data.task_names)
    shapes = run.model.for_tasks(task_names).param_shapes()
    return trainable.num_parameters(trainable.split(shapes, run.trainable)[0])


def widths(config: TransformerConfig) -> dict[str, int]:
    """The widths of a model's adapters and of what writes them; of LoRA its rank."""
    found = {}
    for side in _SIDES:
        adapter = getattr(config, f"{side}_adapter")
        if adapter.source == "none":
            continue
        if not set(adapter.sites) <= set(LORA_SITES):
            found[side] = adapter.bottleneck_dim
        if set(adapter.sites) & set(LORA_SITES):
            found["rank"] = adapter.lora.rank
        if adapter.source not in _LEARNED and hasattr(adapter.hypernetwork, "bottleneck_dim"):
            found["hypernetwork"] = adapter.hypernetwork.bottleneck_dim
    return found


def parameter(config: TransformerConfig, key: str) -> str:
    """The parameter that sets a width, as --gin.NAME=VALUE takes it."""
    if key in _SIDES:
        return f"{key}/AdapterConfig.bottleneck_dim"
    if key == "rank":
        return "LoraConfig.rank"
    adapters = (getattr(config, f"{side}_adapter") for side in _SIDES)
    networks = (x.hypernetwork for x in adapters if x.source not in _LEARNED)
    kind = next(type(x) for x in networks if hasattr(x, "bottleneck_dim"))
    return f"{kind.__name__}.bottleneck_dim"


def setters(
    config: TransformerConfig, matched: Widths, macro_of: Callable[[str], str | None]
) -> dict[str, str]:
    """What sets each width: the macro of its parameter, unless that sets another, else that."""
    parameters = {key: parameter(config, key) for key in matched}
    macros = {key: macro_of(name) for key, name in parameters.items()}
    values = {
        macro: {matched[key] for key in matched if macros[key] == macro}
        for macro in macros.values()
    }
    return {
        key: macro if macro and len(values[macro]) == 1 else parameters[key]
        for key, macro in macros.items()
    }


def with_widths(run: RunConfig, chosen: Widths) -> RunConfig:
    """The run with other widths."""
    changes = {}
    for side in _SIDES:
        adapter = getattr(run.model.config, f"{side}_adapter")
        if side in chosen:
            adapter = dataclasses.replace(adapter, bottleneck_dim=chosen[side])
        if "rank" in chosen:
            lora = dataclasses.replace(adapter.lora, rank=chosen["rank"])
            adapter = dataclasses.replace(adapter, lora=lora)
        if "hypernetwork" in chosen and hasattr(adapter.hypernetwork, "bottleneck_dim"):
            dim = chosen["hypernetwork"]
            network = dataclasses.replace(adapter.hypernetwork, bottleneck_dim=dim)
            adapter = dataclasses.replace(adapter, hypernetwork=network)
        changes[f"{side}_adapter"] = adapter
    config = dataclasses.replace(run.model.config, **changes)
    return dataclasses.replace(run, model=dataclasses.replace(run.model, config=config))


def match(name: str, run: RunConfig, wanted: int) -> dict[str, int]:
    """Widths for which `run` trains `wanted` parameters within 1 %; nothing if it does already.

    All widths grow or shrink by one factor, so that a method keeps its balance; then one of them is
    moved. ValueError where that does not suffice.
    """
    counts: dict[tuple[int, ...], int] = {}
    start = widths(run.model.config)

    def count(chosen: Widths) -> int:
        key = tuple(chosen.values())
        if key not in counts:
            counts[key] = num_parameters(with_widths(run, chosen))
        return counts[key]

    def is_close(chosen: Widths) -> bool:
        return abs(count(chosen) - wanted) <= TOLERANCE * wanted

    if is_close(start):
        return {}
    best = start
    if start:
        scaled = _scale(start, count, wanted)
        moved = (_move(scaled, key, count, wanted) for key in scaled)
        for chosen in itertools.chain([scaled], moved):
            best = min(best, chosen, key=lambda x: abs(count(x) - wanted))
            if is_close(best):
                return dict(best)
    raise ValueError(
        f"Methods must train as many parameters as the baseline within {TOLERANCE:.0%}; {name} "
        f"trains {count(start):,} with widths {start}, and the closest that these give to "
        f"{wanted:,} is {count(best):,} with {best}. Set its widths by hand, or leave out "
        "--match_parameters."
    )


def _scale(start: Widths, count, wanted: int) -> dict[str, int]:
    """All widths times the factor that comes closest."""
    low, high = 0.0, _MAX_WIDTH / max(start.values())
    best = dict(start)
    for _ in range(16):
        factor = (low * high) ** 0.5 if low else min(1.0, high / 2) if high > 1e-3 else high / 2
        chosen = {key: max(1, round(width * factor)) for key, width in start.items()}
        best = min(best, chosen, key=lambda x: abs(count(x) - wanted))
        low, high = (factor, high) if count(chosen) < wanted else (low, factor)
        if high - low < 0.5 / max(start.values()):
            break
    return best


def _move(start: Widths, key: str, count, wanted: int) -> dict[str, int]:
    """One width moved to where it comes closest; the count is linear in it."""
    here, next_to_it = count(start), count({**start, key: start[key] + 1})
    if next_to_it == here:
        return dict(start)
    width = start[key] + round((wanted - here) / (next_to_it - here))
    return {**start, key: min(max(1, width), _MAX_WIDTH)}
