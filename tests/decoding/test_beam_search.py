import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from hyperdecoders_jax.decoding import beam_search, sampling
from hyperdecoders_jax.decoding.beam_search import (
    BeamSearchConfig,
    HuggingFace457Scoring,
    HuggingFaceScoring,
    T5XScoring,
)
from tests.decoding import table_model

# Sums of up to ten float32 log-probabilities against float64.
ATOL = 2e-5
SCORINGS = [
    HuggingFaceScoring(),
    HuggingFaceScoring(length_penalty=0.3, early_stopping=True),
    T5XScoring(),
]


@functools.partial(jax.jit, static_argnames=("config", "max_len"))
def jitted_search(table, *, config, max_len):
    batch = table.shape[0]
    step, cache = table_model.next_token(table), table_model.init_cache(batch, config.num_beams)
    return beam_search.beam_search(step, cache, config, batch_size=batch, max_len=max_len)


def search(table, config, max_len):
    return jax.tree.map(np.asarray, jitted_search(table, config=config, max_len=max_len))


# Two slow searches of one example, written from the originals; each gives [(score, tokens), ...],
# best first. A text holds its EOS, if it ended.


def best_candidates(table, beams, num_candidates, min_len):
    """[(sum of log-probabilities, prefix, token), ...] of the best extensions by one token."""
    candidates = []
    for total, prefix in beams:
        log_probs = table_model.log_softmax(table_model.logits_after(table, prefix))
        if len(prefix) + 1 < min_len:
            log_probs[1] = -np.inf
        candidates += [(total + p, prefix, token) for token, p in enumerate(log_probs)]
    return sorted(candidates, key=lambda candidate: -candidate[0])[:num_candidates]


def search_as_hugging_face(table, config, max_len):
    num_beams, scoring = config.num_beams, config.scoring
    hypotheses = []
    beams = [(0.0, ())]

    def add(total, tokens, hyp_len):
        hypotheses.append((total / hyp_len**scoring.length_penalty, tokens))
        hypotheses.sort(key=lambda hypothesis: -hypothesis[0])
        del hypotheses[num_beams:]

    for _ in range(max_len):
        candidates = best_candidates(table, beams, 2 * num_beams, config.min_len)
        input_len = 1 + len(beams[0][1])  # with the start token, without the new one
        beams = []
        for rank, (total, prefix, token) in enumerate(candidates):
            if token != 1:
                beams.append((total, (*prefix, token)))
            elif rank < num_beams:
                add(total, (*prefix, token), input_len)
            if len(beams) == num_beams:
                break
        if len(hypotheses) == num_beams:
            best_now = candidates[0][0] / input_len**scoring.length_penalty
            if scoring.early_stopping or hypotheses[-1][0] >= best_now:
                return hypotheses
    for total, tokens in beams:
        add(total, tokens, 1 + len(tokens))
    return hypotheses


def search_as_hugging_face_457(table, config, max_len):
    num_beams, scoring = config.num_beams, config.scoring
    finished, beams = [], [(0.0, ())]
    for length in range(1, max_len + 1):
        candidates = best_candidates(table, beams, 2 * num_beams, config.min_len)
        # At the greatest length every text ends, with EOS or without.
        finished += [
            (total / length**scoring.length_penalty, (*prefix, token))
            for total, prefix, token in candidates[:num_beams]
            if token == 1 or length == max_len
        ]
        finished = sorted(finished, key=lambda text: -text[0])[:num_beams]
        beams = [(total, (*prefix, token)) for total, prefix, token in candidates if token != 1]
        beams = beams[:num_beams]
        if len(finished) == num_beams:
            best_now = beams[0][0] / length**scoring.length_penalty
            if scoring.early_stopping or finished[-1][0] >= best_now:
                break
    return finished


def search_as_t5x(table, config, max_len):
    num_beams, alpha = config.num_beams, config.scoring.alpha
    finished = []
    beams = [(0.0, ())]

    def penalty(length):
        return ((5 + length) / 6) ** alpha

    for _ in range(max_len):
        candidates = best_candidates(table, beams, 2 * num_beams, config.min_len)
        beams = []
        for total, prefix, token in candidates:
            tokens = (*prefix, token)
            if token == 1:
                finished.append((total / penalty(len(tokens)), tokens))
            else:
                beams.append((total, tokens))
        beams = beams[:num_beams]
        finished = sorted(finished, key=lambda text: -text[0])[:num_beams]
        if len(finished) == num_beams and finished[-1][0] > beams[0][0] / penalty(max_len + 1):
            break
    return finished or beams


def slow_search(table, config, max_len):
    if isinstance(config.scoring, HuggingFace457Scoring):
        return search_as_hugging_face_457(table, config, max_len)
    if isinstance(config.scoring, HuggingFaceScoring):
        return search_as_hugging_face(table, config, max_len)
    return search_as_t5x(table, config, max_len)


def hugging_face(length_penalty, early_stopping):
    return HuggingFaceScoring(length_penalty, early_stopping)


# Vocabularies hold more than 2 * num_beams tokens: below that the originals count beams that they
# started as hopeless (score -1e9 or -1e7) as texts, which nothing here should copy.
@pytest.mark.parametrize(
    ("vocab", "num_beams", "max_len", "min_len", "eos_bias", "scoring"),
    [
        (9, 4, 6, 2, 2.0, hugging_face(1.0, False)),
        (11, 5, 10, 0, 1.0, hugging_face(1.0, True)),
        (6, 2, 7, 3, 1.0, hugging_face(0.0, False)),
        (7, 3, 9, 0, 1.5, hugging_face(2.0, False)),
        (12, 3, 5, 4, 3.0, hugging_face(-1.0, False)),
        (5, 1, 6, 2, 1.0, hugging_face(1.0, False)),
        (13, 2, 1, 0, 1.0, hugging_face(0.6, True)),
        (9, 4, 6, 2, 0.0, HuggingFace457Scoring(1.0, False)),
        # Texts end at the greatest length in the same step in which others are cut there.
        (9, 4, 3, 0, 0.5, HuggingFace457Scoring(1.0, True)),
        (11, 5, 4, 0, 1.0, HuggingFace457Scoring(0.3, True)),
        (11, 5, 10, 0, 1.0, T5XScoring(alpha=0.0)),
        (6, 2, 7, 3, 1.0, T5XScoring(alpha=1.3)),
        (7, 3, 9, 0, 3.0, T5XScoring(alpha=0.6)),
        (5, 1, 6, 0, -1.0, T5XScoring()),
        (13, 3, 2, 0, -5.0, T5XScoring()),
    ],
)
def test_a_search_finds_what_the_slow_search_of_its_kind_finds(
    vocab, num_beams, max_len, min_len, eos_bias, scoring
):
    batch = 24
    table = table_model.random_table(batch, vocab, seed=vocab * max_len, eos_bias=eos_bias)
    config = BeamSearchConfig(num_beams, num_beams, scoring, min_len)
    found = search(table, config, max_len)

    for row in range(batch):
        expected = slow_search(table[row], config, max_len)
        for n, (score, tokens) in enumerate(expected):
            padding = (0,) * (max_len - len(tokens))
            assert tuple(found.tokens[row, n]) == tokens + padding
            assert found.scores[row, n] == pytest.approx(score, abs=ATOL)
            likelihood = table_model.log_likelihood(table[row], tokens, min_len)
            assert found.log_likelihoods[row, n] == pytest.approx(likelihood, abs=ATOL)
        # Rows that hold no text say so.
        assert np.all(found.scores[row, len(expected) :] == -np.inf)
        assert np.all(found.tokens[row, len(expected) :] == 0)


@pytest.mark.parametrize("max_len", [1, 3])
def test_with_a_beam_for_every_text_the_best_of_all_texts_is_found(max_len):
    vocab, alpha = 3, 0.9
    table = table_model.random_table(5, vocab, seed=max_len)
    config = BeamSearchConfig(vocab**max_len, 1, T5XScoring(alpha))
    found = search(table, config, max_len)

    texts = [
        (*prefix, 1)
        for length in range(max_len)
        for prefix in itertools.product((0, 2), repeat=length)
    ]
    for row in range(5):
        scores = {
            text: table_model.log_likelihood(table[row], text) / ((5 + len(text)) / 6) ** alpha
            for text in texts
        }
        best = max(scores, key=scores.get)
        assert tuple(found.tokens[row, 0, : len(best)]) == best
        assert found.scores[row, 0] == pytest.approx(scores[best], abs=ATOL)


def test_more_beams_than_texts_leave_rows_without_a_text():
    table = table_model.random_table(2, vocab=3, seed=0)
    found = search(table, BeamSearchConfig(4, 4), max_len=1)
    # Three texts of one token: each token, as the only one.
    assert np.isfinite(found.scores).sum() == 2 * 3
    assert {tuple(tokens) for tokens in found.tokens[0, :3]} == {(0,), (1,), (2,)}
    assert not np.isnan(found.scores).any()
    np.testing.assert_array_equal(found.log_likelihoods[:, 3], -np.inf)
    np.testing.assert_array_equal(found.tokens[:, 3], 0)


@pytest.mark.parametrize("min_len", [0, 3])
def test_a_beam_of_one_is_greedy(min_len):
    batch, max_len = 17, 7
    table = table_model.random_table(batch, vocab=6, seed=3, eos_bias=1.0)
    found = search(table, BeamSearchConfig(1, 1, HuggingFaceScoring(), min_len), max_len)

    @jax.jit
    def search_greedily(table):
        step, cache = table_model.next_token(table), table_model.init_cache(batch, 1)
        config = sampling.GreedyConfig(min_len)
        return sampling.greedy(step, cache, config, batch_size=batch, max_len=max_len)

    greedy = search_greedily(table)
    np.testing.assert_array_equal(found.tokens, greedy.tokens)
    np.testing.assert_allclose(found.log_likelihoods, greedy.log_likelihoods, atol=ATOL)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_an_example_depends_on_itself_alone(scoring):
    table = table_model.random_table(6, vocab=8, seed=5, eos_bias=1.0)
    config = BeamSearchConfig(3, 3, scoring, min_len=2)  # As in the next tests: one program.
    together = search(table, config, max_len=9)
    # They end at different times, so that those done have to wait.
    assert len({np.count_nonzero(tokens) for tokens in together.tokens[:, 0]}) > 1
    for row in range(6):
        # Among copies of itself, which end as it does.
        alone = search(np.repeat(table[row : row + 1], 6, axis=0), config, max_len=9)
        for name, values in together._asdict().items():
            np.testing.assert_array_equal(values[row], getattr(alone, name)[0], err_msg=name)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_texts_are_distinct_sorted_and_padded(scoring):
    table = table_model.random_table(6, vocab=8, seed=6, eos_bias=1.0)
    all_texts = search(table, BeamSearchConfig(3, 3, scoring, min_len=2), max_len=9)
    assert np.all(all_texts.scores[:, :-1] >= all_texts.scores[:, 1:])
    for texts, scores in zip(all_texts.tokens, all_texts.scores, strict=True):
        texts = [tuple(text) for text in texts[scores > -np.inf]]
        assert len(set(texts)) == len(texts)
        for text in texts:
            assert 1 not in text or not any(text[text.index(1) + 1 :])


def test_as_many_texts_as_asked_come_out():
    table = table_model.random_table(6, vocab=8, seed=6, eos_bias=1.0)
    all_texts = search(table, BeamSearchConfig(3, 3, min_len=2), max_len=9)
    some_texts = search(table, BeamSearchConfig(3, 2, min_len=2), max_len=9)
    for values, some_values in zip(all_texts, some_texts, strict=True):
        np.testing.assert_array_equal(values[:, :2], some_values)


@pytest.mark.parametrize(
    ("scoring", "num_steps"),
    [
        (HuggingFaceScoring(early_stopping=True), 2),
        # Its candidates still hold the best text at step 2; those of step 3 are hopeless.
        (HuggingFaceScoring(), 3),
        (T5XScoring(), 2),
    ],
)
def test_the_search_stops_when_every_example_is_done(scoring, num_steps):
    steps = []

    def next_token(tokens, cache, index):
        jax.debug.callback(lambda index: steps.append(int(index)), index)
        # At first any token, then surely EOS.
        start = jnp.array([0.0, -50.0, 1.0, 0.5, 0.0])
        end = jnp.array([0.0, 50.0, 0.0, 0.0, 0.0])
        return jnp.broadcast_to(jnp.where(index == 0, start, end), (3, 2, 5)), cache

    config = BeamSearchConfig(2, 1, scoring)
    run = functools.partial(beam_search.beam_search, next_token, batch_size=3, max_len=40)
    found = jax.jit(lambda: run((), config))()
    jax.effects_barrier()
    assert len(steps) == num_steps
    np.testing.assert_array_equal(found.tokens[:, 0, :3], [[2, 1, 0]] * 3)


def equations(jaxpr):
    """All equations of a jaxpr and of those it holds."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def test_nothing_but_the_cache_follows_the_beams():
    batch, beams, vocab = 3, 4, 11
    shared = jnp.ones((batch, 7, vocab))  # as an example's encoding or adapters

    def next_token(tokens, cache, index):
        queries = cache["keys"][..., 0]  # [batch, beams, 7]
        return jnp.einsum("bnk,bkv->bnv", queries, shared), cache

    def run(cache):
        config = BeamSearchConfig(beams, 1)
        return beam_search.beam_search(next_token, cache, config, batch_size=batch, max_len=5)

    cache = {"keys": jnp.ones((batch, beams, 7, 2))}
    all_equations = list(equations(jax.make_jaxpr(run)(cache).jaxpr))
    shapes = [value.aval.shape for e in all_equations for value in (*e.invars, *e.outvars)]
    copies = [math.prod(shape[:-2]) for shape in shapes if shape[-2:] == (7, vocab)]
    assert copies
    assert max(copies) == batch

    gathered = [e.invars[0].aval.shape for e in all_equations if e.primitive.name == "gather"]
    assert [shape for shape in gathered if 7 in shape] == [(batch, beams, 7, 2)]


def test_logits_of_half_precision_are_summed_in_full():
    table = table_model.random_table(4, vocab=9, seed=8)
    halves = jnp.asarray(table).astype(jnp.bfloat16)
    config = BeamSearchConfig(3, 1)
    half = search(halves, config, max_len=6)
    full = search(np.asarray(halves.astype(jnp.float32)), config, max_len=6)
    assert half.scores.dtype == np.float32
    np.testing.assert_array_equal(half.tokens, full.tokens)
    np.testing.assert_array_equal(half.scores, full.scores)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BeamSearchConfig(num_beams=0), ValueError, "num_beams must be an integer of"),
        (
            lambda: BeamSearchConfig(num_beams=2, num_return=3),
            ValueError,
            "num_return must be from 1 to num_beams=2; got 3. Raise num_beams",
        ),
        (
            lambda: BeamSearchConfig(num_return=0),
            ValueError,
            "num_return must be an integer of at least 1; got 0",
        ),
        (
            lambda: BeamSearchConfig(scoring=T5XScoring),
            TypeError,
            r"scoring must be a Scoring; got .*T5XScoring.*Use HuggingFaceScoring\(\)",
        ),
        (
            lambda: BeamSearchConfig(min_len=-1),
            ValueError,
            "min_len must be an integer of at least 0.* got -1",
        ),
        (
            lambda: HuggingFaceScoring(length_penalty=math.nan),
            ValueError,
            "length_penalty must be a finite number; got nan. Use 1",
        ),
        (
            lambda: HuggingFaceScoring(early_stopping="never"),
            ValueError,
            "early_stopping must be True or False; got 'never'",
        ),
        (lambda: T5XScoring(alpha=-0.1), ValueError, "alpha must be at least 0; got -0.1. To"),
    ],
)
def test_a_config_says_what_is_wrong_with_it(make, error, message, monkeypatch):
    # The check of types in tests would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(error, match=message):
        make()


def test_a_config_is_a_static_argument_of_jit():
    config = BeamSearchConfig(scoring=T5XScoring(0.5))
    assert hash(config) == hash(dataclasses.replace(config))
    assert config != dataclasses.replace(config, scoring=T5XScoring(0.6))


def search_with_t5x(decoding, table, num_beams, alpha, max_len):
    batch = table.shape[0]
    table = jnp.repeat(table, num_beams, axis=0)  # T5X flattens beams into the batch

    def tokens_to_logits(state):
        cache = jax.tree.map(lambda leaf: leaf[:, None], state.cache)
        logits, cache = table_model.next_token(table)(state.cur_token, cache, state.cur_index)
        return logits[:, 0], jax.tree.map(lambda leaf: leaf[:, 0], cache)

    cache = jax.tree.map(lambda leaf: leaf[:, 0], table_model.init_cache(batch, 1))
    tokens, scores = decoding.beam_search(
        jnp.zeros((batch, max_len), jnp.int32),
        cache,
        tokens_to_logits,
        eos_id=1,
        num_decodes=num_beams,
        alpha=alpha,
    )
    return np.asarray(tokens)[:, ::-1], np.asarray(scores)[:, ::-1]


@pytest.mark.t5x
@pytest.mark.parametrize(
    ("num_beams", "alpha", "max_len", "eos_bias"),
    [
        *[(4, 0.6, 7, 1.0), (3, 0.0, 9, 3.0), (1, 0.6, 6, 1.0), (2, 1.5, 3, -6.0)],
        # EOS is forbidden, or would be but for the penalty.
        *[(2, 0.6, 5, -1e10), (3, 0.0, 6, -1.2e7), (2, 1.0, 5, -1.2e7)],
    ],
)
def test_a_search_finds_what_t5x_finds(num_beams, alpha, max_len, eos_bias):
    decoding = pytest.importorskip("t5x.decoding", reason="T5X is not installed")
    table = table_model.random_table(19, vocab=10, seed=max_len, eos_bias=eos_bias)
    tokens, scores = search_with_t5x(decoding, table, num_beams, alpha, max_len)
    found = search(table, BeamSearchConfig(num_beams, num_beams, T5XScoring(alpha)), max_len)

    is_text = found.scores > -np.inf
    np.testing.assert_array_equal(found.tokens, np.where(is_text[..., None], tokens, 0))
    np.testing.assert_allclose(found.scores[is_text], scores[is_text], atol=ATOL)
    assert np.all(scores[~is_text] < -1e6)


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_a_text_that_t5x_forbids_by_its_logits_does_not_end(alpha):
    # Of t5x/decoding_test.py, test_beam_search_force_decode_(no_)prefix: EOS has -1e10.
    table = np.tile(np.float32([-1e7, -1e10, -0.1, -0.9]), (1, table_model.NUM_STATES, 1))
    found = search(table, BeamSearchConfig(2, 2, T5XScoring(alpha)), max_len=5)
    likely, less = table_model.log_softmax(np.array([-0.1, -0.9]))
    assert found.tokens[0, 0].tolist() == [2] * 5
    assert sorted(found.tokens[0, 1].tolist()) == [2, 2, 2, 2, 3]
    np.testing.assert_allclose(found.scores[0], [5 * likely, 4 * likely + less], atol=1e-5)
