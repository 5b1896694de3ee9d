"""Adapter sources: who makes the adapters of all layers of a stack.

A source is a module from a `Condition` to `Adapters` for each of the stack's sites, with leading
axis `layers`, or `[layers, batch]` where each example has its own. Its parameters are the top-level
keys `encoder_adapters` and `decoder_adapters`. A new source is one class under `register`.
Source: Ivison & Peters 2022 (arXiv:2203.08304), section 2; allenai/hyperdecoders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

import flax.struct
import jax
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from hyperdecoders_jax.modeling import (
    adapters,
    hyperformer,
    hypernetwork,
    initializers,
    layers,
    sites,
    source_registry,
    task_rows,
)
from hyperdecoders_jax.modeling import config as config_lib
from hyperdecoders_jax.modeling.config import AdapterConfig, TransformerConfig
from hyperdecoders_jax.modeling.sites import ArraySpec, Site
from hyperdecoders_jax.types import Adapters


@flax.struct.dataclass
class Condition:
    """What a source may know of each example."""

    pooled: Float[Array, "batch emb"] | None
    task_ids: Int[Array, "*batch"] | None


class AdapterSource(nn.Module):
    """Base of all sources: makes the adapters of one stack."""

    config: TransformerConfig
    side: str  # "encoder" or "decoder"

    reads_pooled: ClassVar[bool] = False  # in the encoder, takes a first pass with learned adapters
    reads_tasks: ClassVar[bool] = False  # learns something for each task; see `task_rows`
    options_class: ClassVar[type | None] = None  # frozen dataclass of its own hyperparameters

    @property
    def adapter_config(self) -> AdapterConfig:
        """Of this stack; its `options` are of `options_class`."""
        return getattr(self.config, f"{self.side}_adapter")

    @property
    def num_layers(self) -> int:
        """Of this stack."""
        return getattr(self.config, f"num_{self.side}_layers")

    @property
    def sites(self) -> dict[str, Site]:
        """Where adapters go, and which arrays they have."""
        return sites.of_side(self.config, self.side)

    def __call__(self, condition: Condition) -> Adapters:
        """Adapters of all layers."""
        raise NotImplementedError

    def learn(self, num_tasks: int | None = None) -> Adapters:
        """Learned adapters `[layers, ...]` or `[layers, tasks, ...]`; for compact methods."""
        dtype = self.config.compute_dtype
        return {
            name: adapters.pack(
                site, _Learned(site.specs, self.num_layers, num_tasks, dtype, name=name)()
            )
            for name, site in self.sites.items()
        }

    def write(self, condition: Float[Array, "batch cond"]) -> Adapters:
        """Adapters that the hypernetwork writes for each row; for compact methods."""
        config, dtype = self.adapter_config.hypernetwork, self.config.compute_dtype
        sizes = (self.num_layers, dtype)
        network = NETWORKS[type(config)](config, self.sites, *sizes, name="hypernetwork")
        written = network(condition)
        return {name: adapters.pack(site, written[name]) for name, site in self.sites.items()}


class _Learned(nn.Module):
    """The arrays of one site as parameters."""

    specs: Mapping[str, ArraySpec]
    num_layers: int
    num_tasks: int | None
    dtype: DTypeLike

    @nn.compact
    def __call__(self) -> dict[str, Array]:
        lead, axes = (self.num_layers,), ("layers",)
        if self.num_tasks is not None:
            lead, axes = (*lead, self.num_tasks), (*axes, "tasks")
        learned = {}
        for name, spec in self.specs.items():
            of_array = ((*lead, *spec.shape), (*axes, *spec.axes), self.dtype)
            init = initializers.LEARNED[spec.start](spec.shape, self.num_tasks)
            learned[name] = layers.param(name, init, *of_array)
        return learned


class Manual(AdapterSource):
    """One learned set of adapters a layer, shared by all examples."""

    @nn.compact
    def __call__(self, condition: Condition) -> Adapters:
        """Has the leading axis `[layers]`; does not read `condition`."""
        return self.learn()


class ManualSpecific(AdapterSource):
    """One learned set of adapters a layer for every task."""

    reads_tasks = True

    @nn.compact
    def __call__(self, condition: Condition) -> Adapters:
        config = self.config
        rows = task_rows.find(condition.task_ids, config, self.adapter_config)

        def take(of_tasks):
            of_all = task_rows.with_mean(of_tasks, config, self.adapter_config, axis=1)
            return task_rows.take(of_all, rows, axis=1)

        return jax.tree.map(take, self.learn(task_rows.num_tasks(config)))


class Task(AdapterSource):
    """A hypernetwork writes the adapters of each task from the task's learned embedding."""

    reads_tasks = True

    @nn.compact
    def __call__(self, condition: Condition) -> Adapters:
        config = self.adapter_config
        init, axes = initializers.LEARNED_EMBEDDING, ("tasks", "hyper_in")
        dim = config.task_embedding_dim or self.config.emb_dim
        shape, dtype = (task_rows.num_tasks(self.config), dim), self.config.compute_dtype
        table = layers.param("task_embedding", init, shape, axes, dtype)
        # As in the original, an unseen task gets the mean of embeddings, not of written adapters.
        table = task_rows.with_mean(table, self.config, config, axis=0)
        rows = task_rows.find(condition.task_ids, self.config, config)
        # Shapes are static, so the cheaper order is chosen while tracing: examples or tasks first.
        if rows.shape[0] < table.shape[0]:
            return self.write(task_rows.take(table, rows, axis=0))
        return jax.tree.map(lambda x: task_rows.take(x, rows, axis=1), self.write(table))


class Generated(AdapterSource):
    """A hypernetwork writes the adapters of each example from its pooled encoder output."""

    reads_pooled = True

    @nn.compact
    def __call__(self, condition: Condition) -> Adapters:
        pooled = condition.pooled
        if self.adapter_config.hypernetwork.pooled_mlp:
            pooled = hypernetwork.PooledMLP(self.config.compute_dtype, name="pooled_mlp")(pooled)
        return self.write(pooled)


_Source = TypeVar("_Source", bound=AdapterSource)

# By name; `register` adds to them.
SOURCES: dict[str, type[AdapterSource] | None] = {
    "none": None,
    "manual": Manual,
    "manual_specific": ManualSpecific,
    "task": Task,
    "generated": Generated,
}

NETWORKS: dict[type, type[nn.Module]] = {
    config_lib.HypernetworkConfig: hypernetwork.Hypernetwork,
    config_lib.PerLayerHypernetworkConfig: hypernetwork.PerLayerHypernetwork,
    config_lib.HyperFormerConfig: hyperformer.HyperFormer,
}


def register(name: str) -> Callable[[type[_Source]], type[_Source]]:
    """Decorator that makes a class of yours the source `AdapterConfig.source = name`.

    Importing its module is all that commands need: by `--module=my_adapters`, in a gin file, or in
    Python before a folder is loaded. A class of the same module and name, reloaded, replaces it.
    Raises ValueError for a name that is taken or no lower-case identifier, TypeError for a class or
    options of the wrong kind.
    """

    def add(source: type) -> type:
        if not issubclass(source, AdapterSource):
            raise TypeError(
                f"An adapter source must be a class derived from AdapterSource; got {source!r} for "
                f"{name!r}. Derive it from adapter_sources.AdapterSource."
            )
        before = SOURCES.get(name)
        if before is not None and _full_name(before) != _full_name(source):
            raise ValueError(
                f"The name of an adapter source must be free; {name!r} is {_full_name(before)}, "
                f"and {_full_name(source)} asks for it. Choose another."
            )
        source_registry.add(name, source_registry.Traits(source.reads_tasks, source.options_class))
        SOURCES[name] = source
        return source

    return add


def _full_name(source: type) -> str:
    return f"{source.__module__}.{source.__qualname__}"


def make(config: TransformerConfig, side: str) -> AdapterSource | None:
    """The source of one stack's adapters, or None for a plain stack."""
    source = SOURCES[getattr(config, f"{side}_adapter").source]
    return None if source is None else source(config, side, name=f"{side}_adapters")


def make_first_pass(config: TransformerConfig) -> AdapterSource | None:
    """Adapters of the encoder's first pass, which makes the pooled states that its source reads."""
    # Always learned ones, as in the original: generated ones would need a pass before this one.
    source = SOURCES[config.encoder_adapter.source]
    if source is None or not source.reads_pooled:
        return None
    return Manual(config, "encoder", name="encoder_first_pass_adapters")
