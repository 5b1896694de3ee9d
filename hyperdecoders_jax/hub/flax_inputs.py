"""Checked arguments of the Flax class: texts, masks, tasks, and the options of every call."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int, PRNGKeyArray, Shaped

from hyperdecoders_jax import types
from hyperdecoders_jax.hub.hyperdecoder_config import HyperdecoderConfig
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Batch, Params

_Method = TypeVar("_Method", bound=Callable)


@dataclasses.dataclass(frozen=True)
class CallOptions:
    """Options that all of transformers' Flax models take in every call."""

    output_attentions: bool | None = None  # Only False, as the next one.
    output_hidden_states: bool | None = None
    return_dict: bool | None = None  # Whether outputs have names; None: as the configuration says.
    train: bool = False  # Whether dropout is applied, which needs `dropout_rng`.
    params: Params | None = None  # Instead of the model's own.
    dropout_rng: PRNGKeyArray | None = None

    def check(self, config: HyperdecoderConfig) -> CallOptions:
        """These options; raises ValueError for one that the model does not have."""
        for name in ("output_attentions", "output_hidden_states"):
            value = getattr(self, name)
            if getattr(config, name) if value is None else value:
                raise ValueError(
                    f"The argument {name} must be False; got True. This model does not keep what "
                    "its layers compute: leave it out, or set it to False in the configuration."
                )
        if self.train and self.dropout_rng is None:
            raise ValueError(
                "Argument dropout_rng must be given where train=True; got None. Pass a random key."
            )
        return self

    @property
    def key(self) -> PRNGKeyArray | None:
        """Key of dropout, None where there is none."""
        return self.dropout_rng if self.train else None


def takes_call_options(method: _Method) -> _Method:
    """Shows the fields of `CallOptions` to `help` and `inspect` in place of `**options`."""
    signature = inspect.signature(method)
    *named, _ = signature.parameters.values()
    options = [
        inspect.Parameter(x.name, inspect.Parameter.KEYWORD_ONLY, default=x.default)
        for x in dataclasses.fields(CallOptions)
    ]
    method.__signature__ = signature.replace(parameters=[*named, *options])
    return method


class Inputs(NamedTuple):
    """Inputs of a batch, padded on either side."""

    tokens: Int[Array, "batch enc_len"]
    mask: Bool[Array, "batch enc_len"]
    task_ids: Int[Array, "*batch"]

    def pack(self) -> tuple[Batch, Int[Array, " batch"]]:
        """The batch for the model, padded on the right, and how far each row was moved left."""
        tokens = jnp.where(self.mask, self.tokens, types.PAD_ID)
        # Relative positions are the same whichever side is padded. But gates that read the state
        # at position 0 would read padding.
        num_before = jnp.argmax(tokens != types.PAD_ID, axis=1)
        tokens = move_left(tokens, num_before)
        nothing = jnp.zeros((tokens.shape[0], 1), jnp.int32)  # Encoding reads no targets.
        task_ids = jnp.broadcast_to(self.task_ids, tokens.shape[0])
        return Batch(tokens, nothing, nothing, nothing, task_ids), num_before


def read(
    config: TransformerConfig,
    task_names: Sequence[str],
    input_ids: ArrayLike,
    attention_mask: ArrayLike | None,
    task_ids: ArrayLike | None,
) -> Inputs:
    """Checks and converts what the encoder reads."""
    tokens = _tokens("input_ids", input_ids)
    # numpy's ones: jnp's would compile a program for each shape.
    mask = jnp.asarray(np.ones(tokens.shape, bool))
    if attention_mask is not None:
        mask = _mask("attention_mask", attention_mask, tokens)
        if num_shown := _count(lambda x, mask: (x == types.PAD_ID) & mask, tokens, mask):
            raise ValueError(
                f"The argument attention_mask must be 0 at padding, token {types.PAD_ID}; it is 1 "
                f"at {num_shown} of them. Give the mask that the tokenizer makes, or none."
            )
    return Inputs(tokens, mask, _read_tasks(config, task_names, task_ids, tokens.shape[0]))


def _read_tasks(
    config: TransformerConfig, task_names: Sequence[str], task_ids: ArrayLike | None, batch: int
) -> Int[Array, "*batch"]:
    if not config.reads_tasks:
        return jnp.asarray(0)  # Whatever is given: one compiled program for all of it.
    advice = f"Give one for each example, or for all: config.task_id(name), of {tuple(task_names)}."
    if task_ids is None:
        must = "This model has parameters for each task, so task_ids must be given"
        raise ValueError(f"{must}; got None. {advice}")
    ids = jnp.asarray(task_ids, jnp.int32)
    if ids.shape not in ((), (batch,)):
        raise ValueError(f"The task_ids must be of shape ({batch},); got {ids.shape}. {advice}")
    first, last = types.UNSEEN_TASK_ID * config.accepts_unseen_tasks, config.num_tasks - 1
    if _count(lambda ids: (ids < first) | (ids > last), ids):
        must = f"The argument task_ids must be from {first} to {last}"
        raise ValueError(f"{must}; got {task_ids}. {advice}")
    return ids


def read_decoder_tokens(
    ids: ArrayLike | None, mask: ArrayLike | None
) -> Int[Array, "batch dec_len"]:
    """Checks and converts what the decoder reads."""
    if ids is None:
        raise ValueError(
            "The argument decoder_input_ids must be given; got None. Give the targets behind the "
            f"start token {types.DECODER_START_ID}; for texts of the model's own call generate."
        )
    tokens = _tokens("decoder_input_ids", ids)
    if mask is not None:
        mask = _mask("decoder_attention_mask", mask, tokens)
        # Attention is causal: what is hidden at the end of a row changes nothing before it, so
        # that the mask need not reach the model.
        if _count(lambda mask: mask[:, 1:] & ~mask[:, :-1], mask):
            raise ValueError(
                "The argument decoder_attention_mask must be 0 at the end of a row alone; in some "
                "row a 1 comes after a 0. Pad the decoder's tokens on the right."
            )
    return tokens


def move_left(x: Shaped[Array, "batch length ..."], steps: Int[Array, " batch"]) -> Array:
    """Rotates each example's positions to the left.

    >>> print(move_left(jnp.array([[0, 0, 5, 6], [7, 8, 9, 0]]), jnp.array([2, 0])))
    [[5 6 0 0]
     [7 8 9 0]]
    """
    return jax.vmap(lambda row, n: jnp.roll(row, -n, axis=0))(x, steps)


def _count(is_wrong: Callable[..., np.ndarray], *given: Array) -> int:
    """Number of wrong values; 0 under `jax.jit`, where values are not known."""
    if any(isinstance(x, jax.core.Tracer) for x in given):
        return 0
    # On the host: the same in jnp would compile a program for each new shape.
    return int(np.sum(is_wrong(*map(np.asarray, given))))


def _tokens(name: str, ids: ArrayLike) -> Int[Array, "batch length"]:
    ids = jnp.asarray(ids)
    if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(
            f"The argument {name} must be integers of shape [batch, length]; got {ids.dtype} of "
            f'shape {ids.shape}. Call the tokenizer with a list of texts and return_tensors="np".'
        )
    return ids.astype(jnp.int32)


def _mask(name: str, mask: ArrayLike, tokens: Array) -> Bool[Array, "batch length"]:
    mask = jnp.asarray(mask, bool)
    if mask.shape != tokens.shape:
        raise ValueError(
            f"The argument {name} must have the shape of its tokens, {tokens.shape}; got "
            f"{mask.shape}. Give the mask that the tokenizer makes, or none."
        )
    return mask
