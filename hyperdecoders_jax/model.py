"""`Model` and its three verbs: the loss of a batch, predicted texts, and scores of targets.

Both runners, all benchmarks and every export call these and nothing below them. A `Model` holds
choices, no arrays: parameters are arguments, so `jax.jit`, `jax.grad` and sharding apply directly.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.core
import jax
import jax.numpy as jnp
from flax.linen import partitioning
from jaxtyping import Array, Float, PRNGKeyArray

from hyperdecoders_jax import errors, losses
from hyperdecoders_jax.decoding import decode
from hyperdecoders_jax.decoding.decode import DecodingConfig, GreedyConfig
from hyperdecoders_jax.decoding.decoded import Decoded
from hyperdecoders_jax.losses import LossConfig
from hyperdecoders_jax.modeling import adapter_sources, transformer
from hyperdecoders_jax.modeling.config import AdapterConfig, TransformerConfig
from hyperdecoders_jax.types import Batch, DecoderContext, Params

# T5's own parameters; every other top-level key is new and belongs to an adaptation method.
BACKBONE_KEYS = ("token_embedder", "encoder", "decoder")
# Of a kind: programs of a large model take up device memory.
_NUM_PROGRAMS = 4

_NOTHING_ADAPTS = {"adapter": AdapterConfig(), "hypergrid": None}


@dataclasses.dataclass(frozen=True)
class Model:
    """An adapted T5 with its loss and its way of decoding."""

    config: TransformerConfig
    loss_config: LossConfig = LossConfig()  # what `loss` computes
    decoding: DecodingConfig = GreedyConfig()  # how `predict` chooses tokens

    def __post_init__(self):
        # Not by the configuration itself: of a folder the names of its tasks say more.
        num_tasks, num_trained = self.config.num_tasks, self.config.num_trained_tasks
        if None not in (num_tasks, num_trained):
            must, is_part = f"be at most num_tasks={num_tasks}", num_trained <= num_tasks
            errors.check_field(self.config, "num_trained_tasks", is_part, must, "Lower it.")

    def for_tasks(self, task_names: Sequence[str] | None) -> Model:
        """This model for a list of tasks, whose number it needs if its adapters depend on them.

        A configured number may be larger, so that tasks can be appended; a smaller is a ValueError.
        """
        config = self.config
        if not config.reads_tasks or task_names is None:
            return self
        num_tasks = config.num_tasks or len(task_names)
        if num_tasks < len(task_names):
            raise ValueError(
                f"TransformerConfig.num_tasks must be at least the number of tasks; got "
                f"{num_tasks} and the {len(task_names)} tasks {tuple(task_names)}. Set NUM_TASKS "
                "to that, or to None to have them counted."
            )
        tasks = {"num_tasks": num_tasks, "num_trained_tasks": len(task_names)}
        return dataclasses.replace(self, config=dataclasses.replace(config, **tasks))

    @functools.cached_property
    def module(self) -> transformer.Transformer:
        """The Flax module; its methods take `{"params": params}`."""
        return transformer.Transformer(self.config)

    def init_variables(self, params_rng: PRNGKeyArray) -> dict:
        """Random `params`, and their logical axes as Flax keeps them: `params_axes`."""
        # No parameter's shape depends on batch or length, so one token is enough.
        token = jnp.zeros((1, 1), jnp.int32)
        return self.module.init(params_rng, Batch(token, token, token, token, token[0]))

    def init(self, params_rng: PRNGKeyArray) -> Params:
        """Random parameters, float32."""
        return _init_program(Model(self.config))(params_rng)

    def param_shapes(self) -> Params:
        """Shapes and types of the parameters, without making them."""
        return _abstract_variables(Model(self.config))["params"]

    def param_axes(self) -> Params:
        """The logical axes of each parameter, as a tuple of names."""
        axes = partitioning.get_axis_names(_abstract_variables(Model(self.config))["params_axes"])
        is_leaf = lambda leaf: isinstance(leaf, jax.sharding.PartitionSpec)  # noqa: E731
        return jax.tree.map(tuple, flax.core.unfreeze(axes), is_leaf=is_leaf)

    def context(
        self, params: Params, batch: Batch, dropout_rng: PRNGKeyArray | None = None
    ) -> DecoderContext:
        """Encodes the inputs and makes what adapts the decoder; with dropout if given a key."""

        def encode(module):
            inputs = (batch.encoder_input_tokens, batch.task_ids, batch.encoder_segments)
            encoded = module.encode(*inputs, deterministic=dropout_rng is None)
            return module.make_context(encoded, *inputs)

        return self._apply(encode, params, dropout_rng)

    def logits(
        self, params: Params, batch: Batch, dropout_rng: PRNGKeyArray | None = None
    ) -> Float[Array, "batch dec_len vocab"]:
        """Teacher-forced logits of the targets."""

        def forward(module):
            return module(batch, deterministic=dropout_rng is None)

        return self._apply(forward, params, dropout_rng)

    def loss(
        self, params: Params, batch: Batch, dropout_rng: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The loss of a batch and its sums; see `losses.cross_entropy`."""
        targets, weights = batch.decoder_target_tokens, batch.decoder_loss_weights
        chunk = self.config.compute.logits_chunk
        if chunk is None or chunk >= targets.shape[1]:
            logits = self.logits(params, batch, dropout_rng)
            return losses.cross_entropy(logits, targets, weights, self.loss_config)

        def forward(module):
            return module.states(batch, deterministic=dropout_rng is None)

        def make_logits(states):
            return self._apply(lambda module: module.logits(states), params)

        states = self._apply(forward, params, dropout_rng)
        return losses.chunked_cross_entropy(
            make_logits, states, targets, weights, self.loss_config, chunk
        )

    def score(self, params: Params, batch: Batch) -> Float[Array, "batch dec_len"]:
        """Log-probability of each target token given those before it; 0 where its weight is 0."""
        # One pass, as all targets are known.
        logits = self.logits(params, batch)
        scores = losses.token_log_likelihoods(logits, batch.decoder_target_tokens)
        return jnp.where(batch.decoder_loss_weights > 0, scores, 0.0)

    def predict(
        self, params: Params, batch: Batch, sample_rng: PRNGKeyArray | None = None, *, max_len: int
    ) -> Decoded:
        """Decodes at most `max_len` tokens, EOS included; `sample_rng` is for sampling alone.

        Raises ValueError for packed rows: each example must have a row of its own.
        """
        if batch.is_packed:
            raise ValueError(
                "Prediction needs one example in each row, as hypotheses have lengths of their "
                "own; got a packed batch. Read the data with pack=False."
            )
        # Computed before the loop and closed over: a constant of it, never gathered with the beams.
        context = self.context(params, batch)

        def next_token(tokens, cache, index):
            return self._apply(
                lambda module: module.decode_step(context, tokens, cache, index), params
            )

        sizes = {"batch_size": batch.encoder_input_tokens.shape[0], "max_len": max_len}
        shape = (sizes["batch_size"], decode.num_hypotheses(self.decoding), max_len)
        cache = self._apply(lambda module: module.make_cache(*shape), params)
        return decode.decode(self.decoding, next_token, cache, sample_rng=sample_rng, **sizes)

    def _apply(self, method, params, dropout_rng=None):
        if dropout_rng is not None and self.config.compute.dropout == "hardware":
            dropout_rng = _hardware_key(dropout_rng)
        rngs = {} if dropout_rng is None else {"dropout": dropout_rng}
        return self.module.apply({"params": params}, rngs=rngs, method=method)


def _hardware_key(rng: PRNGKeyArray) -> PRNGKeyArray:
    """A key of the chip's own random bits, from any key."""
    is_typed = jax.dtypes.issubdtype(rng.dtype, jax.dtypes.prng_key)
    data = jax.random.key_data(rng) if is_typed else rng  # T5X's keys are arrays.
    return jax.random.wrap_key_data(jnp.resize(data, 4), impl="unsafe_rbg")


def share_programs(
    make: Callable[..., Callable[..., Any]],
) -> Callable[..., Callable[..., Any]]:
    """Decorates a function that jits something of a model: equal arguments get the same program.

    JAX knows a program by its function. So a process that opens or trains an equal model again,
    from another seed or checkpoint, traces and compiles nothing. The last few programs are kept;
    arguments that do not hash get a new one.
    """
    return _share(make, num_kept=_NUM_PROGRAMS)


def _share(make: Callable[..., Any], num_kept: int | None) -> Callable[..., Any]:
    @functools.lru_cache(maxsize=num_kept)
    def shared(sources, model, *args):
        del sources
        return make(model, *args)

    @functools.wraps(make)
    def program(model: Model, *args: Any) -> Any:
        adapted = (model.config.encoder_adapter, model.config.decoder_adapter)
        # Their classes, as a source that is reloaded keeps its name.
        sources = tuple(adapter_sources.SOURCES.get(adapter.source) for adapter in adapted)
        try:
            hash((model, args))
        except TypeError:
            return make(model, *args)
        return shared(sources, model, *args)

    return program


@share_programs
def _init_program(model: Model) -> Callable[[PRNGKeyArray], Params]:
    # Under jit, or every layer would be run op by op, and its outputs be kept.
    return jax.jit(lambda rng: model.init_variables(rng)["params"])


# Checks of arrays ask for it first, whatever sizes a file claims. T5's layers are alike, so one of
# each stack is traced: all 256 that a model may have take 12 s, and 24 take 1 s.
@functools.partial(_share, num_kept=None)
def _abstract_variables(model: Model) -> dict[str, Params]:
    """What `init_variables` returns, as shapes: `params`, and their axes."""
    config = model.config
    depths = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
    none = {f"{side}_{what}": x for side in depths for what, x in _NOTHING_ADAPTS.items()}
    shallow = dataclasses.replace(config, num_encoder_layers=1, num_decoder_layers=1, **none)
    plain = _traced_variables(Model(shallow))
    adapt = functools.partial(model.module.init, method="adapt")
    pooled, task_ids = jnp.zeros((1, config.emb_dim)), jnp.zeros(1, jnp.int32)
    adapters = jax.eval_shape(adapt, jax.random.key(0), pooled, task_ids)
    variables = {kind: plain[kind] | adapters.get(kind, {}) for kind in plain}
    for tree in variables.values():
        for stack, depth in depths.items():
            layers = {f"layers_{i}": tree[stack]["layers_0"] for i in range(depth)}
            tree[stack] = {key: x for key, x in tree[stack].items() if key != "layers_0"} | layers
    return jax.tree.map(lambda x: x, variables)  # In jax's order of keys, as a traced tree.


@functools.partial(_share, num_kept=None)
def _traced_variables(model: Model) -> dict[str, Params]:
    return jax.eval_shape(model.init_variables, jax.random.key(0))
