"""Conditions of a running model: read from it, or replaced in it.

A *condition* is the vector that an example is adapted by: a hypernetwork reads the pooled states
(`generated`) or the task's embedding (`task`), a grid's factors what `HyperGridConfig.condition`
names. `read` records conditions and all that is computed from them; `given` replaces them. Both use
Flax's interceptors, which see every call of a module: the model needs no code for analyses.
Source: Ivison & Peters 2022 (arXiv:2203.08304), section 5, asks what the conditions hold.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling import (
    adapter_sources,
    decoder,
    encoder,
    hyperformer,
    hypergrid,
    hypernetwork,
    pooling,
    task_rows,
    transformer,
)
from hyperdecoders_jax.modeling.config import SOURCES, TransformerConfig
from hyperdecoders_jax.types import PAD_ID, Adapters, Batch, GridGates, Params

# By the reader's top-level key in the parameters. Conditions of an encoder's grid have a layer
# axis, because each layer reads its own states.
Conditions = Mapping[str, Float[Array, "batch *layers cond"]]

_TINY = 1e-30  # Smaller than the norm of any residual stream; avoids 0 / 0.


@flax.struct.dataclass
class Reading:
    """Conditions of a batch and what the model computed from them, by the readers' keys."""

    pooled: Float[Array, "batch emb"]  # Mean of the encoder's states.
    conditions: Conditions
    inputs: Conditions  # The same as they are read, after the MLP for pooled states.
    hidden: Mapping[str, Float[Array, "batch layers hidden"]]  # Input of a hypernetwork's heads.
    written: Mapping[str, Float[Array, "batch layers dim"]]  # Output of a hypernetwork or grid.
    # By stack, norm of the change that adapters and gates make to a layer's output, relative to the
    # norm of the residual stream that enters the layer; mean over positions.
    delta_norms: Mapping[str, Float[Array, "batch layers"]]


def readers(config: TransformerConfig) -> tuple[str, ...]:
    """Keys of all that reads a condition, the main one first; none if all examples are alike.

    >>> from hyperdecoders_jax.modeling.config import AdapterConfig
    >>> by_task = AdapterConfig("task")
    >>> sizes = (32, 8, 2, 4, 16, 1, 1)
    >>> readers(TransformerConfig(*sizes, encoder_adapter=by_task, decoder_adapter=by_task))
    ('decoder_adapters', 'encoder_adapters')

    Raises ValueError if a source is none of the package's own.
    """
    found = []
    for side in ("decoder", "encoder"):
        source = getattr(config, f"{side}_adapter").source
        if source not in SOURCES:
            raise ValueError(
                f"Analyses know what the adapter sources {SOURCES} read; got {side}_adapter.source "
                f"= {source!r}. Compare models that are adapted by one of these."
            )
        if source in ("task", "generated"):
            found.append(f"{side}_adapters")
        grid = getattr(config, f"{side}_hypergrid")
        if grid is not None and grid.condition_read is not None:
            found.append(f"{side}_hypergrid")
    return tuple(found)


@contextlib.contextmanager
def given(conditions: Conditions) -> Iterator[None]:
    """Adapts `Model`'s verbs, also under `jit`, by these conditions; absent keys keep their own."""

    def intercept(next_call, args, kwargs, context):
        module = context.module
        # Modules that read conditions have the names of their parameters' keys.
        if context.method_name != "__call__" or module.name not in conditions:
            return next_call(*args, **kwargs)
        # float32 on disk: uncast it would promote bfloat16 activations.
        condition = conditions[module.name].astype(module.config.compute_dtype)
        if isinstance(module, adapter_sources.Generated):
            return next_call(args[0].replace(pooled=condition))
        if isinstance(module, adapter_sources.Task):
            return module.write(condition)
        grids = next_call(*args, **kwargs)
        is_of_layers = condition.ndim == 3
        of_layers = condition.swapaxes(0, 1) if is_of_layers else [condition] * len(grids)
        replaced = []
        for grid, x in zip(grids, of_layers, strict=True):
            groups = grid.groups
            if groups is not None:
                # Gates of tasks stay shared by group: computed per example they round differently.
                groups = jnp.argmax(jnp.all(x[:, None] == x, axis=-1), axis=1)  # First equal row.
            replaced.append(grid.replace(task_embedding=x, groups=groups))
        return tuple(replaced)

    with nn.intercept_methods(intercept):
        yield


def read(model: Model, params: Params, batch: Batch) -> Reading:
    """Reads a teacher-forced pass without dropout. Cost: two, as layers also run unadapted."""
    reader = _Reader(model.config, batch)
    with nn.intercept_methods(reader.intercept):
        model.logits(params, batch)
    return reader.reading()


def pool(model: Model, params: Params, batch: Batch) -> Float[Array, "batch emb"]:
    """Mean of the encoder's states; also of a model without adapters."""
    tokens = batch.encoder_input_tokens

    states = model.module.apply({"params": params}, tokens, batch.task_ids, method="encode")
    return pooling.masked_mean(states, tokens != PAD_ID)


class _Reader:
    """Records what passes between modules during one forward pass."""

    def __init__(self, config: TransformerConfig, batch: Batch):
        self._batch = batch
        self._readers = readers(config)
        self._encoded: Array | None = None  # [batch, enc_len, emb]
        self._pooled = None
        # Fields of `Reading`; a list has an array for each layer.
        fields = ("conditions", "inputs", "hidden", "written", "delta_norms")
        self._found: dict[str, dict[str, Array | list[Array]]] = {name: {} for name in fields}
        self._last_input: Array | None = None  # [batch, cond]
        self._last_hidden: Array | None = None  # [layers, batch, hidden]
        self._is_plain_run = False
        # (module, method) → called in its stead with the module, the bound call and its arguments.
        self._handlers = {
            (transformer.Transformer, "make_context"): self._read_pooled,
            (adapter_sources.Generated, "write"): self._read_input,
            (hypernetwork.Heads, "__call__"): self._read_hidden,
            (hyperformer.HyperFormer, "_joint_embedding"): self._read_joint,
            (adapter_sources.Generated, "__call__"): self._read_generated,
            (adapter_sources.Task, "__call__"): self._read_task,
            (hypergrid.HyperGrid, "__call__"): self._read_grid,
            (encoder.Encoder, "__call__"): self._begin_encoder,
            (encoder.EncoderLayer, "__call__"): self._read_encoder_layer,
            (decoder.DecoderLayer, "__call__"): self._read_decoder_layer,
        }

    def reading(self) -> Reading:
        def join(found):
            return {k: jnp.stack(x, axis=1) if isinstance(x, list) else x for k, x in found.items()}

        found = {name: join(of_readers) for name, of_readers in self._found.items()}
        found["inputs"] = {**found["conditions"], **found["inputs"]}
        return Reading(self._pooled, **found)

    def intercept(self, next_call, args, kwargs, context):
        """Flax calls it for every method; returns what the method does."""
        module, call = context.module, functools.partial(next_call, *args, **kwargs)
        if not self._is_plain_run:
            for (kind, method), read in self._handlers.items():
                if isinstance(module, kind) and context.method_name == method:
                    return read(module, call, *args)
        return call()

    def _read_pooled(self, module, call, encoded, tokens, *args):
        self._encoded = encoded
        self._pooled = pooling.masked_mean(encoded, tokens != PAD_ID)
        return call()

    def _read_input(self, module, call, condition):
        self._last_input = condition
        return call()

    def _read_hidden(self, module, call, hidden):
        self._last_hidden = hidden  # All heads read the same.
        return call()

    def _read_joint(self, module, call, *args):
        joint = call()  # [sites, layers, batch, joint]
        _, layers, batch, _ = joint.shape
        self._last_hidden = jnp.moveaxis(joint, 0, 2).reshape(layers, batch, -1)
        return joint

    def _read_generated(self, module, call, condition):
        adapters = call()
        self._found["inputs"][module.name] = self._last_input
        return self._add_source(module.name, condition.pooled, self._last_hidden, adapters)

    def _read_task(self, module, call, condition):
        adapters, config, adapter_config = call(), module.config, module.adapter_config
        table = module.variables["params"]["task_embedding"]
        # The row of unseen tasks is the mean, as the source itself reads it.
        table = task_rows.with_mean(table, config, adapter_config, axis=0)
        rows = task_rows.find(condition.task_ids, config, adapter_config)
        hidden = self._last_hidden
        if hidden.shape[1] == table.shape[0]:  # Written once per task, not per example.
            hidden = task_rows.take(hidden, rows, axis=1)
        return self._add_source(module.name, task_rows.take(table, rows, axis=0), hidden, adapters)

    def _add_source(self, key, condition, hidden, adapters: Adapters) -> Adapters:
        self._found["conditions"][key] = condition
        self._found["hidden"][key] = hidden.swapaxes(0, 1)
        leaves = [x.reshape(*x.shape[:2], -1) for x in jax.tree.leaves(adapters)]
        self._found["written"][key] = jnp.concatenate(leaves, axis=-1).swapaxes(0, 1)
        return adapters

    def _read_grid(self, module, call, *args):
        grids, key = call(), module.name
        if key not in self._readers:
            return grids
        is_own_of_layers = key == "encoder_hypergrid" and grids[0].task_embedding is None

        def record(condition, gates):
            if is_own_of_layers:
                self._found["conditions"].setdefault(key, []).append(condition)
            else:
                self._found["conditions"][key] = condition
            kernels = [x.reshape(len(x), -1) for x in (gates.wi, gates.wo) if x is not None]
            self._found["written"].setdefault(key, []).append(jnp.concatenate(kernels, axis=-1))

        fields = ("config", "factors", "task_embedding", "groups")
        return tuple(_RecordingGrid(*(getattr(x, name) for name in fields), record) for x in grids)

    def _begin_encoder(self, module, call, *args):
        # An encoder whose own adapters read pooled states runs twice; the second pass counts.
        for found in (self._found["conditions"], self._found["written"]):
            found.pop("encoder_hypergrid", None)
        self._found["delta_norms"].pop("encoder", None)
        return call()

    def _read_encoder_layer(self, module, call, x, mask, bias, *args):
        return self._read_layer("encoder", module, mask[:, 0], call(), (x, mask, bias, {}, None))

    def _read_decoder_layer(self, module, call, x, of_layer, *args):
        # Not the cached keys and values: adapters may have changed them.
        plain = _alone(module, self._encoded, {}, GridGates(), method="make_context")
        is_real = self._batch.decoder_loss_weights > 0
        return self._read_layer("decoder", module, is_real, call(), (x, plain, *args))

    def _read_layer(self, side, module, is_real, adapted, plain_args):
        self._is_plain_run = True  # The handlers must not record it.
        plain = _alone(module, *plain_args, deterministic=True)
        self._is_plain_run = False
        entering = jnp.linalg.norm(plain_args[0].astype(jnp.float32), axis=-1)
        delta = jnp.linalg.norm((adapted - plain).astype(jnp.float32), axis=-1)
        ratio = delta / jnp.maximum(entering, _TINY)  # [batch, length]
        norms = pooling.masked_mean(ratio[..., None], is_real)[:, 0]
        self._found["delta_norms"].setdefault(side, []).append(norms)
        return adapted


def _alone(module: nn.Module, *args, **kwargs) -> Any:
    """Applies a bound module to other arguments, outside of the running model."""
    variables = {"params": module.variables["params"]}
    return module.clone(parent=None).apply(variables, *args, **kwargs)


@flax.struct.dataclass
class _RecordingGrid(hypergrid.LayerGrid):
    """A grid that records its conditions and gates."""

    record: Callable[..., None] | None = flax.struct.field(pytree_node=False, default=None)

    def gates(self, *states_and_mask):
        gates = super().gates(*states_and_mask)
        self.record(self.condition(*states_and_mask), gates)
        return gates
