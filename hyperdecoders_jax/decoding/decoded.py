"""What all ways of decoding share; an example's texts never depend on the rest of its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from hyperdecoders_jax import errors, types
from hyperdecoders_jax.types import PyTree

# (tokens [batch, beams], cache, index) -> (logits [batch, beams, vocab], cache)
# `index` counts the tokens generated so far; at index 0 `tokens` is the decoder's start id. Every
# leaf of the cache is [batch, beams, ...]: the part of the state that follows a hypothesis. What
# those of an example share stays in the function's closure, where no search gathers or copies it.
NextToken = Callable[
    [Int[Array, "batch beams"], PyTree, Int[Array, ""]],
    tuple[Float[Array, "batch beams vocab"], PyTree],
]

# Of an example; more are a mistyped number.
MAX_BEAMS = 1_000
MAX_SAMPLES = 65_536


class Decoded(NamedTuple):
    """The best `n` texts of each example, best first.

    `log_likelihoods` are the model's, EOS included: temperature, top-k and top-p do not count.
    Where `min_len` forbids EOS, its distribution is the one without EOS.
    """

    tokens: Int[Array, "batch n max_len"]  # up to and including EOS; PAD after it
    scores: Float[Array, "batch n"]  # the sort key; -inf marks a row without a text
    log_likelihoods: Float[Array, "batch n"]


def forbid_early_eos(
    logits: Float[Array, "*lead vocab"], index: Int[Array, ""] | int, min_len: int
) -> Float[Array, "*lead vocab"]:
    """Forbids EOS as token number `index` (from 0) of a text shorter than `min_len` tokens.

    EOS counts: a `min_len` of 0 or 1 forbids nothing, 2 forbids the empty text.
    >>> forbid_early_eos(jnp.array([1.0, 2.0, 3.0]), 0, min_len=2)
    Array([  1., -inf,   3.], dtype=float32)
    """
    # Compared with an iota, which XLA fuses; an indexed update would copy the logits.
    is_eos = jnp.arange(logits.shape[-1]) == types.EOS_ID
    return jnp.where(is_eos & (index + 1 < min_len), -jnp.inf, logits)


def take_rows(tree: PyTree, rows: Int[Array, "batch n"]) -> PyTree:
    """Picks rows of axis 1, anew for each example, from every leaf `[batch, beams, ...]`.

    >>> take_rows({"cache": jnp.array([[5, 6, 7], [8, 9, 10]])}, jnp.array([[2, 2], [0, 1]]))
    {'cache': Array([[7, 7],
           [8, 9]], dtype=int32)}
    """

    def take(leaf: Shaped[Array, "batch beams ..."]) -> Shaped[Array, "batch n ..."]:
        return jnp.take_along_axis(leaf, jnp.expand_dims(rows, range(2, leaf.ndim)), axis=1)

    return jax.tree.map(take, tree)


def take_best(texts: Decoded, n: int) -> tuple[Decoded, Int[Array, "batch n"]]:
    """The best `n` by score, sorted, and the rows they came from."""
    _, rows = jax.lax.top_k(texts.scores, n)
    return take_rows(texts, rows), rows


def check_min_len(config: object) -> None:
    """Raises ValueError unless `config.min_len` is a number of tokens, EOS included."""
    advice = "Use 0 to allow the empty text, 2 to forbid it."
    errors.check_whole(config, "min_len", 0, types.MAX_LEN, advice)


def check_call(cache: PyTree, rows: tuple[int, int], *, min_len: int, max_len: int) -> None:
    """Checks, when traced, lengths and that leaves of the cache begin with `rows`: batch, beams."""
    if max_len < max(min_len, 1):
        raise ValueError(
            f"max_len must be at least 1 and at least min_len; got max_len={max_len}, "
            f"min_len={min_len}. Raise the length of the targets or lower min_len."
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(cache):
        if jnp.shape(leaf)[:2] != rows:
            raise ValueError(
                "Every leaf of the cache must begin with the axes [batch, beams] = "
                f"{list(rows)}; got shape {jnp.shape(leaf)} at "
                f"cache{jax.tree_util.keystr(path)}. Make the cache for {rows[1]} rows an "
                "example, and leave what these share to the closure of next_token."
            )
