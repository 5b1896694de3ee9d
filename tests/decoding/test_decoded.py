import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax.decoding import beam_search, decoded, sampling
from tests.decoding import table_model


@pytest.mark.parametrize("min_len", [0, 1, 2, 5])
def test_eos_is_forbidden_until_it_makes_a_text_of_min_len(min_len):
    logits = jnp.zeros((2, 3, 7))
    for index in range(6):
        allowed = np.isfinite(decoded.forbid_early_eos(logits, index, min_len))
        assert np.all(allowed[..., 1] == (index + 1 >= min_len))
        assert np.all(np.delete(allowed, 1, axis=-1))


def test_rows_are_taken_per_example_from_leaves_of_any_rank():
    rng = np.random.default_rng(0)
    flat, deep = rng.integers(0, 99, (3, 4)), rng.integers(0, 99, (3, 4, 2, 5))
    rows = rng.integers(0, 4, (3, 6))
    cache = {"flat": jnp.asarray(flat), "more": [jnp.asarray(deep)]}
    taken = decoded.take_rows(cache, jnp.asarray(rows))
    for example in range(3):
        np.testing.assert_array_equal(taken["flat"][example], flat[example, rows[example]])
        np.testing.assert_array_equal(taken["more"][0][example], deep[example, rows[example]])


def decode_with(name, cache, *, min_len=0, max_len=4):
    step = table_model.next_token(table_model.random_table(2, vocab=5, seed=0))
    sizes = {"batch_size": 2, "max_len": max_len}
    if name == "greedy":
        return sampling.greedy(step, cache, sampling.GreedyConfig(min_len), **sizes)
    config = beam_search.BeamSearchConfig(num_beams=3, min_len=min_len)
    return beam_search.beam_search(step, cache, config, **sizes)


@pytest.mark.parametrize(("name", "beams"), [("greedy", 1), ("beam_search", 3)])
def test_a_cache_of_another_size_is_refused(name, beams):
    cache = {"layers": [jnp.zeros((2, beams, 7)), jnp.zeros((2 * beams, 7))]}
    message = (
        rf"must begin with the axes \[batch, beams\] = \[2, {beams}\]; "
        rf"got shape \({2 * beams}, 7\) at cache\['layers'\]\[1\]. Make the cache"
    )
    with pytest.raises(ValueError, match=message):
        decode_with(name, cache)


@pytest.mark.parametrize(("name", "beams"), [("greedy", 1), ("beam_search", 3)])
@pytest.mark.parametrize(("min_len", "max_len"), [(5, 4), (0, 0)])
def test_a_text_must_fit_into_max_len(name, beams, min_len, max_len):
    message = f"got max_len={max_len}, min_len={min_len}. Raise the length of the targets"
    with pytest.raises(ValueError, match=message):
        decode_with(name, table_model.init_cache(2, beams), min_len=min_len, max_len=max_len)
