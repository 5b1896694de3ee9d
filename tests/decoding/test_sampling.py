import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdecoders_jax.decoding import sampling
from hyperdecoders_jax.decoding.sampling import GreedyConfig, SamplingConfig
from tests.decoding import table_model

# Sums of up to ten float32 log-probabilities against float64.
ATOL = 2e-5


@functools.partial(jax.jit, static_argnames=("config", "max_len"))
def jitted(table, sample_rng, *, config, max_len):
    step, sizes = table_model.next_token(table), {"batch_size": len(table), "max_len": max_len}
    if isinstance(config, GreedyConfig):
        return sampling.greedy(step, table_model.init_cache(len(table), 1), config, **sizes)
    cache = table_model.init_cache(len(table), config.num_samples)
    return sampling.sample(step, cache, config, **sizes, sample_rng=sample_rng)


def run(table, config, max_len, seed=0):
    found = jitted(table, jax.random.key(seed), config=config, max_len=max_len)
    return jax.tree.map(np.asarray, found)


@pytest.mark.parametrize(("min_len", "eos_bias"), [(0, 0.0), (2, 4.0), (5, 2.0)])
def test_greedy_takes_the_likeliest_token_each_time(min_len, eos_bias):
    max_len = 8
    table = table_model.random_table(21, vocab=7, seed=min_len, eos_bias=eos_bias)
    found = run(table, GreedyConfig(min_len), max_len)
    for row in range(21):
        text = []
        while len(text) < max_len and 1 not in text:
            logits = table_model.logits_after(table[row], text)
            if len(text) + 1 < min_len:
                logits[1] = -np.inf
            text.append(int(np.argmax(logits)))
        assert list(found.tokens[row, 0]) == text + [0] * (max_len - len(text))
        likelihood = table_model.log_likelihood(table[row], text, min_len)
        assert found.log_likelihoods[row, 0] == pytest.approx(likelihood, abs=ATOL)
    np.testing.assert_array_equal(found.scores, found.log_likelihoods)


@pytest.mark.parametrize(
    "config",
    [SamplingConfig(temperature=1e-4), SamplingConfig(top_k=1), SamplingConfig(top_p=1e-6)],
)
def test_sampling_without_chance_is_greedy(config):
    table = table_model.random_table(13, vocab=9, seed=2)
    found, greedy = run(table, config, max_len=6), run(table, GreedyConfig(), max_len=6)
    np.testing.assert_array_equal(found.tokens, greedy.tokens)
    # The log-likelihood is the model's own, not that of the sharpened distribution.
    np.testing.assert_allclose(found.log_likelihoods, greedy.log_likelihoods, atol=ATOL)


def test_samples_are_sorted_padded_and_scored_by_their_log_likelihood():
    table = table_model.random_table(4, vocab=8, seed=3, eos_bias=1.0)
    config = SamplingConfig(temperature=1.3, top_k=6, num_samples=5, min_len=2)
    found = run(table, config, max_len=7)
    assert found.tokens.shape == (4, 5, 7)
    assert np.all(found.scores[:, :-1] >= found.scores[:, 1:])
    for row in range(4):
        for text, likelihood in zip(found.tokens[row], found.log_likelihoods[row], strict=True):
            expected = table_model.log_likelihood(table[row], text, min_len=2)
            assert likelihood == pytest.approx(expected, abs=ATOL)
            assert text[0] != 1
            ends = np.flatnonzero(text == 1)
            assert len(ends) == 0 or not text[ends[0] + 1 :].any()


def test_an_example_depends_on_its_row_and_itself_alone():
    table = table_model.random_table(5, vocab=8, seed=4, eos_bias=1.0)
    other = table_model.random_table(5, vocab=8, seed=5, eos_bias=-3.0)
    config = SamplingConfig(num_samples=3)
    together = run(table, config, max_len=8)
    for row in range(5):
        among_others = other.copy()
        among_others[row] = table[row]
        found = run(among_others, config, max_len=8)
        for name, values in together._asdict().items():
            np.testing.assert_array_equal(values[row], getattr(found, name)[row], err_msg=name)
    fewer = run(table[:2], config, max_len=8)
    for name, values in together._asdict().items():
        np.testing.assert_array_equal(values[:2], getattr(fewer, name), err_msg=name)
    # Equal examples in other rows are drawn anew, and so are an example's samples.
    same = run(np.repeat(other[:1], 5, axis=0), config, max_len=8)
    assert len({text.tobytes() for texts in same.tokens for text in texts}) > 10


def test_a_key_decides_what_is_drawn():
    table = table_model.random_table(3, vocab=8, seed=6, eos_bias=-3.0)
    first = run(table, SamplingConfig(), max_len=6, seed=1)
    np.testing.assert_array_equal(
        first.tokens, run(table, SamplingConfig(), max_len=6, seed=1).tokens
    )
    assert np.any(first.tokens != run(table, SamplingConfig(), max_len=6, seed=2).tokens)


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        (SamplingConfig(), [0.1, 0.2, 0.4, 0.05, 0.25]),
        (SamplingConfig(temperature=0.5), [0.01, 0.04, 0.16, 0.0025, 0.0625]),
        (SamplingConfig(top_k=2), [0, 0, 0.4, 0, 0.25]),
        (SamplingConfig(top_p=0.7), [0, 0.2, 0.4, 0, 0.25]),
        # Temperature before top-p: 0.16 of 0.275 is less than 0.6, with 0.0625 it is more.
        (SamplingConfig(temperature=0.5, top_p=0.6), [0, 0, 0.16, 0, 0.0625]),
        # Top-k before top-p: of three tokens, two hold 0.65 of 0.85.
        (SamplingConfig(top_k=3, top_p=0.7), [0, 0, 0.4, 0, 0.25]),
    ],
)
def test_tokens_are_drawn_as_often_as_they_are_likely(config, kept):
    num_samples = 20_000
    logits = jnp.log(jnp.array([0.1, 0.2, 0.4, 0.05, 0.25]))
    config = dataclasses.replace(config, num_samples=num_samples)

    def next_token(tokens, cache, index):
        return jnp.broadcast_to(logits, (*tokens.shape, 5)), cache

    @jax.jit
    def draw(rng):
        return sampling.sample(next_token, (), config, batch_size=1, max_len=1, sample_rng=rng)

    found = draw(jax.random.key(0))
    shares = np.bincount(found.tokens.ravel(), minlength=5) / num_samples
    # Five standard deviations of the share of 20,000 draws are at most 0.018.
    np.testing.assert_allclose(shares, np.array(kept) / np.sum(kept), atol=0.018)
    assert np.all(shares[np.array(kept) == 0] == 0)


jitted_top_p = jax.jit(sampling.keep_top_p, static_argnums=1)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), p=st.sampled_from([0.01, 0.3, 0.5, 0.9, 0.99]))
def test_top_p_keeps_the_smallest_set_that_holds_p(seed, p):
    logits = np.random.default_rng(seed).normal(size=(3, 11), scale=2.0).astype(np.float32)
    kept = np.isfinite(jitted_top_p(logits, p))
    for row in range(3):
        probs = np.exp(table_model.log_softmax(logits[row].astype(np.float64)))
        inside, outside = probs[kept[row]], probs[~kept[row]]
        rounding = 1e-6
        assert inside.sum() >= p - rounding
        assert inside.sum() - inside.min() < p + rounding
        assert outside.max(initial=0.0) <= inside.min()


@pytest.mark.parametrize("k", [0, 1, 3, 10, 11, 50])
def test_top_k_keeps_k_tokens(k):
    logits = jnp.asarray(np.random.default_rng(k).normal(size=(4, 2, 11)))
    kept = sampling.keep_top_k(logits, k)
    num_kept = np.isfinite(kept).sum(-1)
    np.testing.assert_array_equal(num_kept, 11 if k in (0, 50) else k)
    np.testing.assert_array_equal(kept.argmax(-1), logits.argmax(-1))


def test_tokens_as_likely_as_the_last_one_kept_are_kept_too():
    logits = jnp.array([[2.0, 1.0, 1.0, 0.0, 1.0, -3.0]])
    expected = [[True, True, True, False, True, False]]
    np.testing.assert_array_equal(np.isfinite(sampling.keep_top_k(logits, 2)), expected)
    np.testing.assert_array_equal(np.isfinite(jitted_top_p(logits, 0.6)), expected)


@pytest.mark.parametrize("p", [0.5, 0.999999])
def test_top_p_can_keep_one_token_and_all(p):
    sure = jnp.array([0.0, 200.0, -jnp.inf])
    np.testing.assert_array_equal(np.isfinite(jitted_top_p(sure, p)), [False, True, False])
    even = jnp.zeros((1, 8))
    assert np.isfinite(jitted_top_p(even, p)).all()


def test_greedy_stops_when_every_text_has_ended():
    steps = []

    def next_token(tokens, cache, index):
        jax.debug.callback(lambda index: steps.append(int(index)), index)
        # Row r ends with token number r.
        is_end = index == jnp.arange(3)[:, None]
        return jnp.stack([0 * is_end, is_end, 0.5 + 0 * is_end], axis=-1), cache

    run = functools.partial(sampling.greedy, next_token, batch_size=3, max_len=30)
    found = jax.jit(lambda: run((), GreedyConfig()))()
    jax.effects_barrier()
    assert sorted(steps) == [0, 1, 2]
    np.testing.assert_array_equal(
        found.tokens[:, 0, :4], [[1, 0, 0, 0], [2, 1, 0, 0], [2, 2, 1, 0]]
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: GreedyConfig(min_len=-2),
            "GreedyConfig.min_len must be an integer of at least 0.*got -2. Use 0",
        ),
        (
            lambda: SamplingConfig(min_len=-1),
            "SamplingConfig.min_len must be an integer of at least 0",
        ),
        (
            lambda: SamplingConfig(temperature=0.0),
            "temperature must be a number of at least 1.2e-38; got 0.0. For .* GreedyConfig",
        ),
        (lambda: SamplingConfig(temperature=1e-46), "of at least 1.2e-38; got 1e-46"),
        (lambda: SamplingConfig(temperature=float("nan")), "temperature must be .* got nan"),
        (
            lambda: SamplingConfig(top_k=-1),
            "top_k must be an integer of at least 0; got -1. Use 0 to",
        ),
        (lambda: SamplingConfig(top_p=0.0), r"top_p must be in \(0, 1\]; got 0.0. Use 1 to"),
        (lambda: SamplingConfig(top_p=1.5), r"top_p must be in \(0, 1\]; got 1.5"),
        (
            lambda: SamplingConfig(num_samples=0),
            "num_samples must be an integer of at least 1 and .*; got 0. It is",
        ),
    ],
)
def test_a_config_says_what_is_wrong_with_it(make, message):
    with pytest.raises(ValueError, match=message):
        make()
