"""Greedy decoding and sampling: temperature, top-k, then top-p, as in Hugging Face and T5X."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from hyperdecoders_jax import errors, types
from hyperdecoders_jax.decoding import decoded
from hyperdecoders_jax.decoding.decoded import Decoded, NextToken
from hyperdecoders_jax.types import PyTree


@dataclasses.dataclass(frozen=True)
class GreedyConfig:
    """Greedy decoding: the likeliest token each time, one text an example."""

    min_len: int = 0  # fewest tokens of a text, EOS included

    def __post_init__(self):
        decoded.check_min_len(self)


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """Sampling from the model's distribution, sharpened and truncated."""

    temperature: float = 1.0  # divides logits; > 0, and 1 leaves them as they are
    top_k: int = 0  # draw among the `top_k` likeliest tokens only; 0 for all of them
    top_p: float = 1.0  # draw among the fewest likeliest that hold this probability; in (0, 1]
    num_samples: int = 1  # texts an example
    min_len: int = 0  # fewest tokens of a text, EOS included

    def __post_init__(self):
        check = functools.partial(errors.check_field, self)
        advice = "For the likeliest token each time use GreedyConfig."
        # A smaller one would be 0 to the device, and logits NaN.
        least = float(jnp.finfo(jnp.float32).tiny)
        is_valid = errors.is_number(self.temperature) and self.temperature >= least
        check("temperature", is_valid, f"be a number of at least {least:.1e}", advice)
        errors.check_whole(self, "top_k", 0, None, "Use 0 to draw among all tokens.")
        is_valid = errors.is_number(self.top_p) and 0 < self.top_p <= 1
        check("top_p", is_valid, "be in (0, 1]", "Use 1 to draw among all tokens.")
        advice = "It is the number of texts drawn for each example."
        errors.check_whole(self, "num_samples", 1, decoded.MAX_SAMPLES, advice)
        decoded.check_min_len(self)


def greedy(
    next_token: NextToken, cache: PyTree, config: GreedyConfig, *, batch_size: int, max_len: int
) -> Decoded:
    """Takes the likeliest token each time; the cache's leaves are `[batch_size, 1, ...]`."""

    def choose(logits: Float[Array, "batch n vocab"], _) -> Int[Array, "batch n"]:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    return _generate(next_token, cache, choose, config.min_len, (batch_size, 1, max_len))


def sample(
    next_token: NextToken,
    cache: PyTree,
    config: SamplingConfig,
    *,
    batch_size: int,
    max_len: int,
    sample_rng: PRNGKeyArray | UInt32[Array, " 2"],
) -> Decoded:
    """Draws `config.num_samples` texts an example and sorts them by their log-likelihood.

    The cache's leaves are `[batch_size, num_samples, ...]`; texts longer than `max_len` are cut
    without EOS. What is drawn for an example depends on `sample_rng`, on the example and on its row
    in the batch, never on the other rows.
    """
    num_samples = config.num_samples
    example_keys = jax.vmap(jax.random.fold_in, (None, 0))(sample_rng, jnp.arange(batch_size))
    keys = jax.vmap(lambda key: jax.random.split(key, num_samples))(example_keys)

    def draw(key, logits: Float[Array, " vocab"], index: Int[Array, ""]) -> Int[Array, ""]:
        return jax.random.categorical(jax.random.fold_in(key, index), logits).astype(jnp.int32)

    def choose(
        logits: Float[Array, "batch n vocab"], index: Int[Array, ""]
    ) -> Int[Array, "batch n"]:
        logits = keep_top_k(logits / config.temperature, config.top_k)
        logits = keep_top_p(logits, config.top_p)
        return jax.vmap(jax.vmap(draw, (0, 0, None)), (0, 0, None))(keys, logits, index)

    sizes = (batch_size, num_samples, max_len)
    samples = _generate(next_token, cache, choose, config.min_len, sizes)
    return decoded.take_best(samples, num_samples)[0]


def keep_top_k(logits: Float[Array, "*lead vocab"], k: int) -> Float[Array, "*lead vocab"]:
    """Forbids all but the `k` largest logits and their equals, as in Hugging Face; 0 keeps all.

    >>> keep_top_k(jnp.array([1.0, 3.0, 2.0]), 2)
    Array([-inf,   3.,   2.], dtype=float32)
    """
    if k == 0 or k >= logits.shape[-1]:
        return logits
    # Not the last entry: XLA on CPU would make a slice of top_k a sort, 80 times as slow.
    last_kept = jnp.min(jax.lax.top_k(logits, k)[0], axis=-1, keepdims=True)
    return jnp.where(logits < last_kept, -jnp.inf, logits)


def keep_top_p(logits: Float[Array, "*lead vocab"], p: float) -> Float[Array, "*lead vocab"]:
    """Forbids all but the fewest largest logits, and equals, whose probabilities add up to `p`.

    Cost: 30 sums over the vocabulary. A sort takes 9 times as long (CPU, 32,128 tokens).
    Source: Holtzman et al. 2020 (arXiv:1904.09751), nucleus sampling.
    >>> keep_top_p(jnp.log(jnp.array([0.25, 0.125, 0.5, 0.125])), 0.7)
    Array([-1.3862944,       -inf, -0.6931472,       -inf], dtype=float32)
    """
    if p == 1:
        return logits
    probs = jax.nn.softmax(logits.astype(jnp.float32))
    # Not a sort, which is slow: the bits of floats >= 0, as integers, have their order. Bisecting
    # them finds the largest threshold that leaves p or more, exactly, as 0 to 1 is 2**30 wide.
    bits = jax.lax.bitcast_convert_type(probs, jnp.int32)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        mass = jnp.sum(jnp.where(bits >= middle, probs, 0.0), axis=-1, keepdims=True)
        return jnp.where(mass >= p, middle, low), jnp.where(mass >= p, high, middle)

    low = jnp.zeros((*logits.shape[:-1], 1), jnp.int32)
    high = low + jax.lax.bitcast_convert_type(jnp.float32(1.0), jnp.int32) + 1
    threshold, _ = jax.lax.fori_loop(0, 30, halve, (low, high))
    return jnp.where(bits < threshold, -jnp.inf, logits)


class _State(NamedTuple):
    index: Int[Array, ""]
    cache: PyTree
    last_tokens: Int[Array, "batch n"]
    is_done: Bool[Array, "batch n"]
    tokens: Int[Array, "batch n max_len"]
    log_likelihoods: Float[Array, "batch n"]


def _generate(
    next_token: NextToken,
    cache: PyTree,
    choose: Callable[..., Int[Array, "batch n"]],
    min_len: int,
    sizes: tuple[int, int, int],
) -> Decoded:
    batch_size, num_rows, max_len = sizes
    # Traced shapes are static: this runs once a compilation, not once a step.
    decoded.check_call(cache, (batch_size, num_rows), min_len=min_len, max_len=max_len)

    def step(state: _State) -> _State:
        logits, cache = next_token(state.last_tokens, state.cache, state.index)
        logits = decoded.forbid_early_eos(logits.astype(jnp.float32), state.index, min_len)
        # Rows that are done draw, too, and the result is dropped: a batch has one shape.
        tokens = jnp.where(state.is_done, types.PAD_ID, choose(logits, state.index))
        log_probs = jax.nn.log_softmax(logits)  # [batch, n, vocab]
        log_probs = jnp.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
        return _State(
            index=state.index + 1,
            cache=cache,
            last_tokens=tokens,
            is_done=state.is_done | (tokens == types.EOS_ID),
            tokens=state.tokens.at[:, :, state.index].set(tokens),
            log_likelihoods=state.log_likelihoods + jnp.where(state.is_done, 0.0, log_probs),
        )

    # Ends with the longest text of the batch; a scan would always take max_len steps.
    def goes_on(state: _State) -> Bool[Array, ""]:
        return (state.index < max_len) & ~jnp.all(state.is_done)

    start = _State(
        index=jnp.int32(0),
        cache=cache,
        last_tokens=jnp.full((batch_size, num_rows), types.DECODER_START_ID, jnp.int32),
        is_done=jnp.zeros((batch_size, num_rows), bool),
        tokens=jnp.full(sizes, types.PAD_ID, jnp.int32),
        log_likelihoods=jnp.zeros((batch_size, num_rows)),
    )
    end = jax.lax.while_loop(goes_on, step, start)
    return Decoded(end.tokens, end.log_likelihoods, end.log_likelihoods)
