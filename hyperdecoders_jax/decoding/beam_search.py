"""Beam search by the rules of Hugging Face, then and now, and of T5X.

Every step extends each live hypothesis by every token and keeps the best `2 * num_beams` of these
candidates; at most `num_beams` of them end with EOS, so `num_beams` can always live on. A `Scoring`
says how a text is scored, which candidates may end and when an example is done.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hyperdecoders_jax import errors, types
from hyperdecoders_jax.decoding import decoded
from hyperdecoders_jax.decoding.decoded import Decoded, NextToken
from hyperdecoders_jax.types import PyTree


class Scoring(abc.ABC):
    """The rules of one beam search; lengths count generated tokens, EOS included."""

    @abc.abstractmethod
    def score(
        self, log_probs: Float[Array, "*shape"], length: Float[Array, ""]
    ) -> Float[Array, "*shape"]:
        """Scores texts of `length` tokens that ended with EOS."""

    @abc.abstractmethod
    def num_ending(self, num_beams: int) -> int:
        """How many of the `2 * num_beams` candidates, best first, may end."""

    @abc.abstractmethod
    def is_done(
        self,
        finished: Decoded,
        live: Decoded,
        best_candidate: Float[Array, " batch"],
        length: Float[Array, ""],
        max_len: int,
    ) -> Bool[Array, " batch"]:
        """Whether an example's search stops at candidates of `length` tokens."""

    @abc.abstractmethod
    def at_max_len(self, finished: Decoded, live: Decoded, max_len: int) -> Decoded:
        """The texts of an example that reached `max_len` before it was done."""


@dataclasses.dataclass(frozen=True)
class HuggingFaceScoring(Scoring):
    """Beam search as in Hugging Face transformers 4.14.1, which the original Hyperdecoders used.

    A text's score is its log-probability / length ** length_penalty. Texts cut by `max_len` compete
    with those that ended, as if they had an EOS of probability one. One beam is greedy. An example
    is done when `num_beams` texts ended and, without `early_stopping`, the best candidate, were it
    to end now, is no better than the worst of them.
    Source: transformers v4.14.1, generation_beam_search.py.
    """

    length_penalty: float = 1.0  # > 0 favours long texts, 0 none, < 0 short ones
    early_stopping: bool = False

    def __post_init__(self):
        errors.check_bools(self)
        is_valid = errors.is_number(self.length_penalty)
        advice = "Use 1 for the mean log-probability, 0 for the sum."
        errors.check_field(self, "length_penalty", is_valid, "be a finite number", advice)

    def score(self, log_probs, length):
        # Theirs counts the start token and not EOS, which is the same number.
        return log_probs / length**self.length_penalty

    def num_ending(self, num_beams):
        return num_beams

    def is_done(self, finished, live, best_candidate, length, max_len):
        worst = finished.scores[:, -1]
        if self.early_stopping:
            return worst > -jnp.inf
        # A heuristic of theirs: with a penalty above 0 a longer text might still be better.
        return (worst > -jnp.inf) & (worst >= self.score(best_candidate, length))

    def at_max_len(self, finished, live, max_len):
        return self._join_cut(finished, live, jnp.float32(max_len + 1))

    def _join_cut(self, finished, live, length):
        cut = live._replace(scores=self.score(live.scores, length))
        return decoded.take_best(_join(finished, cut), finished.scores.shape[1])[0]


@dataclasses.dataclass(frozen=True)
class HuggingFace457Scoring(HuggingFaceScoring):
    """Beam search as in the PyTorch classes of Hugging Face transformers 4.57.

    Unlike 4.14.1, an example is done when no live text, were it to end now, is better than the
    worst that ended, and a text cut by `max_len` counts without an EOS: 4 % of texts differ. Texts
    that end at `max_len` do not keep those that are cut there from competing with them.
    Source: transformers v4.57, generation/utils.py, _beam_search.
    """

    def is_done(self, finished, live, best_candidate, length, max_len):
        is_done = super().is_done(finished, live, live.scores[:, 0], length, max_len)
        return is_done & (length < max_len)

    def at_max_len(self, finished, live, max_len):
        return self._join_cut(finished, live, jnp.float32(max_len))


_T5X_NO_TEXT = -1e7


@dataclasses.dataclass(frozen=True)
class T5XScoring(Scoring):
    """Beam search as in T5X.

    A text's score is its log-probability / ((5 + length) / 6) ** alpha. An example is done when no
    live hypothesis can become better than the worst of `num_beams` ended texts. Texts cut by
    `max_len` are returned, by their plain log-probability, only where no text ended. One beam is
    not greedy: a text may end on the second best token. A score of -1e7 or less is no text, for T5X
    fills empty slots with -1e7: what it forbids by such logits does not end a text.
    Source: t5x/decoding.py, beam_search; Wu et al. 2016 (arXiv:1609.08144), equation 14.
    """

    alpha: float = 0.6  # >= 0; 0 scores by log-probability, more favours long texts

    def __post_init__(self):
        # Below 0 longer texts get lower scores, and the bound of is_done does not hold.
        advice = "To favour short texts use HuggingFaceScoring with a length_penalty below 0."
        is_valid = errors.is_number(self.alpha) and self.alpha >= 0
        errors.check_field(self, "alpha", is_valid, "be at least 0", advice)

    def score(self, log_probs, length):
        scores = log_probs / ((5.0 + length) / 6.0) ** self.alpha
        return jnp.where(scores > _T5X_NO_TEXT, scores, -jnp.inf)

    def num_ending(self, num_beams):
        return 2 * num_beams

    def is_done(self, finished, live, best_candidate, length, max_len):
        # T5X counts the start token into max_len here, so its bound is a little loose.
        return finished.scores[:, -1] > self.score(live.scores[:, 0], jnp.float32(max_len + 1))

    def at_max_len(self, finished, live, max_len):
        has_ended = finished.scores[:, 0] > -jnp.inf
        return _where(has_ended, finished, live)


@dataclasses.dataclass(frozen=True)
class BeamSearchConfig:
    """Beam search."""

    num_beams: int = 4  # live hypotheses of each example
    num_return: int = 1  # texts returned for each example, at most `num_beams`
    scoring: Scoring = HuggingFaceScoring()
    min_len: int = 0  # fewest tokens of a text, EOS included

    def __post_init__(self):
        advice = "The original Hyperdecoders used 4."
        errors.check_whole(self, "num_beams", 1, decoded.MAX_BEAMS, advice)
        errors.check_whole(self, "num_return", 1)
        must = f"be from 1 to num_beams={self.num_beams}"
        advice = "Raise num_beams to return more texts."
        errors.check_field(self, "num_return", self.num_return <= self.num_beams, must, advice)
        if not isinstance(self.scoring, Scoring):
            raise TypeError(
                f"BeamSearchConfig.scoring must be a Scoring; got {self.scoring!r}. "
                "Use HuggingFaceScoring() or T5XScoring()."
            )
        decoded.check_min_len(self)


class _State(NamedTuple):
    index: Int[Array, ""]
    cache: PyTree
    last_tokens: Int[Array, "batch beams"]
    live: Decoded  # best first; scores are sums of log-probabilities
    finished: Decoded  # best first; an empty row has score -inf
    is_done: Bool[Array, " batch"]


def beam_search(
    next_token: NextToken, cache: PyTree, config: BeamSearchConfig, *, batch_size: int, max_len: int
) -> Decoded:
    """Finds the best texts; leaves of the cache are `[batch_size, num_beams, ...]`."""
    num_beams, min_len, scoring = config.num_beams, config.min_len, config.scoring
    decoded.check_call(cache, (batch_size, num_beams), min_len=min_len, max_len=max_len)

    def step(state: _State) -> _State:
        logits, cache = next_token(state.last_tokens, state.cache, state.index)
        log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
        # After the softmax, as in Hugging Face: scores keep the share of a forbidden EOS, which
        # `_extend` takes out of the log-likelihoods.
        log_probs = decoded.forbid_early_eos(log_probs, state.index, min_len)
        candidates, parents = _extend(state.live, log_probs, state.index)
        length = (state.index + 1).astype(jnp.float32)
        is_end = candidates.tokens[:, :, state.index] == types.EOS_ID  # [batch, 2 * beams]

        may_end = is_end & (jnp.arange(2 * num_beams) < scoring.num_ending(num_beams))
        scores = scoring.score(candidates.scores, length)
        ended = candidates._replace(scores=jnp.where(may_end, scores, -jnp.inf))
        finished, _ = decoded.take_best(_join(state.finished, ended), num_beams)
        # A done example stays as it is, or its texts would depend on the rest of its batch.
        finished = _where(state.is_done, state.finished, finished)

        # A text that ended beyond `num_ending` is dropped: it neither lives on nor counts.
        lasting = candidates._replace(scores=jnp.where(is_end, -jnp.inf, candidates.scores))
        live, rows = decoded.take_best(lasting, num_beams)
        is_done = scoring.is_done(finished, live, candidates.scores[:, 0], length, max_len)
        return _State(
            index=state.index + 1,
            cache=decoded.take_rows(cache, decoded.take_rows(parents, rows)),
            last_tokens=live.tokens[:, :, state.index],
            live=live,
            finished=finished,
            is_done=state.is_done | is_done,
        )

    def goes_on(state: _State) -> Bool[Array, ""]:
        return (state.index < max_len) & ~jnp.all(state.is_done)

    # Full length from the start: shapes in a while loop are fixed.
    no_tokens = jnp.full((batch_size, num_beams, max_len), types.PAD_ID, jnp.int32)
    no_score = jnp.full((batch_size, num_beams), -jnp.inf)
    # All beams start equal: were all alive, they would stay copies of one text.
    first_only = no_score.at[:, 0].set(0.0)
    start = _State(
        index=jnp.int32(0),
        cache=cache,
        last_tokens=jnp.full((batch_size, num_beams), types.DECODER_START_ID, jnp.int32),
        live=Decoded(no_tokens, first_only, first_only),
        finished=Decoded(no_tokens, no_score, no_score),
        is_done=jnp.zeros(batch_size, bool),
    )
    end = jax.lax.while_loop(goes_on, step, start)

    cut = scoring.at_max_len(end.finished, end.live, max_len)
    best = _where(end.is_done, end.finished, cut)
    best = jax.tree.map(lambda leaf: leaf[:, : config.num_return], best)
    is_text = best.scores[..., None] > -jnp.inf
    return best._replace(tokens=jnp.where(is_text, best.tokens, types.PAD_ID))


def _extend(
    live: Decoded, log_probs: Float[Array, "batch beams vocab"], index: Int[Array, ""]
) -> tuple[Decoded, Int[Array, "batch candidates"]]:
    """The best `2 * beams` extensions by one token, best first, and the beams they extend."""
    batch_size, num_beams, vocab_size = log_probs.shape
    # First within each beam, so that scores are added and sorted for few tokens, not for all.
    num_tokens = min(2 * num_beams, vocab_size)
    token_log_probs, tokens = jax.lax.top_k(log_probs, num_tokens)  # [batch, beams, num_tokens]
    # Log of the probability that remains when EOS is forbidden; otherwise log 1.
    mass = jax.nn.logsumexp(log_probs, axis=-1, keepdims=True)
    scores = live.scores[..., None] + token_log_probs
    likelihoods = live.log_likelihoods[..., None] + (token_log_probs - mass)

    scores, tokens, likelihoods = (
        leaf.reshape(batch_size, -1) for leaf in (scores, tokens, likelihoods)
    )
    scores, rows = jax.lax.top_k(scores, 2 * num_beams)
    tokens, likelihoods = decoded.take_rows((tokens, likelihoods), rows)
    parents = rows // num_tokens
    prefixes = decoded.take_rows(live.tokens, parents)
    return Decoded(prefixes.at[:, :, index].set(tokens), scores, likelihoods), parents


def _join(first: Decoded, second: Decoded) -> Decoded:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), first, second)


def _where(condition: Bool[Array, " batch"], true: Decoded, false: Decoded) -> Decoded:
    def select(x, y):
        return jnp.where(jnp.expand_dims(condition, range(1, x.ndim)), x, y)

    return jax.tree.map(select, true, false)
