"""A model without weights: the next token's logits are looked up by a hash of all tokens so far.

Its cache carries the hash, so a search that moves a hypothesis without its cache shows at once.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

NUM_STATES = 97
START_ID = 0


def random_table(batch: int, vocab: int, seed: int, eos_bias: float = 0.0) -> np.ndarray:
    """Logits [batch, states, vocab]; examples differ in how eager they are to end."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(batch, NUM_STATES, vocab), scale=1.5)
    table[..., 1] += eos_bias + rng.normal(size=(batch, 1), scale=2.0)
    return table.astype(np.float32)


def _next_state(state, token):
    return (state * 31 + token * 7 + 5) % NUM_STATES


def init_cache(batch: int, beams: int) -> dict:
    return {
        "state": jnp.zeros((batch, beams), jnp.int32),
        "copies": jnp.zeros((batch, beams, 3, 2), jnp.int32),
    }


def next_token(table):
    """The next-token function; `table` is what the hypotheses share."""
    table = jnp.asarray(table)

    def step(tokens, cache, index):
        # The state is held twice and averaged, so that a leaf that is not moved is noticed.
        state = (cache["state"] + cache["copies"][..., 1, 0]) // 2
        state = _next_state(state, tokens)
        logits = jnp.take_along_axis(table, state[..., None], axis=1)
        copies = jnp.broadcast_to(state[..., None, None], cache["copies"].shape)
        return logits, {"state": state, "copies": copies}

    return step


def logits_after(table: np.ndarray, prefix: Sequence[int]) -> np.ndarray:
    """The same logits for one example, `table` [states, vocab], in float64."""
    state = 0
    for token in (START_ID, *prefix):
        state = _next_state(state, token)
    return table[state].astype(np.float64)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def log_likelihood(table: np.ndarray, tokens: Sequence[int], min_len: int = 0) -> float:
    """Sum of the log-probabilities of `tokens`, PAD after EOS left out, without forbidden EOS."""
    total, prefix = 0.0, []
    for token in tokens:
        logits = logits_after(table, prefix)
        if len(prefix) + 1 < min_len:
            logits[1] = -np.inf
        total += log_softmax(logits)[token]
        prefix.append(int(token))
        if token == 1:
            break
    return total
