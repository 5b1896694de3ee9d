import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig
from hyperdecoders_jax.decoding.sampling import GreedyConfig, SamplingConfig
from hyperdecoders_jax.modeling import adapter_sources
from tests import tiny
from tests.modeling import own_source  # noqa: F401 (it registers a source)

# float32 rounding; sums of up to 6 log-probabilities.
ATOL = 5e-5
METHODS = [
    GreedyConfig(),
    BeamSearchConfig(num_beams=3, num_return=2),
    SamplingConfig(num_samples=2),
]


@functools.cache
def make(method):
    tiny_model = model.Model(tiny.make_config(), decoding=method)
    predict = jax.jit(tiny_model.predict, static_argnames="max_len")
    return tiny_model, tiny.make_params(tiny_model), predict


@pytest.mark.parametrize("method", METHODS)
def test_predicted_likelihoods_are_what_score_gives(method):
    tiny_model, params, predict = make(method)
    batch = tiny.make_batch()
    decoded = predict(params, batch, jax.random.key(0), max_len=6)
    for n in range(decoded.tokens.shape[1]):
        tokens = decoded.tokens[:, n]
        again = batch.replace(
            decoder_input_tokens=jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1],
            decoder_target_tokens=tokens,
            # A generated token 0 before EOS is a real one.
            decoder_loss_weights=_until_eos(tokens),
        )
        scores = jnp.sum(tiny_model.score(params, again), axis=1)
        np.testing.assert_allclose(scores, decoded.log_likelihoods[:, n], atol=ATOL)


def _until_eos(tokens):
    is_eos = np.asarray(tokens) == 1
    return jnp.asarray(np.cumsum(is_eos, axis=1) - is_eos < 1, jnp.float32)


@pytest.mark.parametrize("method", METHODS[:2])
def test_an_examples_prediction_depends_on_it_alone(method):
    _, params, predict = make(method)
    batch = tiny.make_batch()
    together = predict(params, tiny.pad_inputs(batch, 4), max_len=6)
    for row in range(3):
        alone = predict(params, tiny.take_examples(batch, slice(row, row + 1)), max_len=6)
        np.testing.assert_array_equal(together.tokens[row], alone.tokens[0])
        np.testing.assert_allclose(together.scores[row], alone.scores[0], atol=ATOL)


def test_loss_is_minus_the_sum_of_scores():
    tiny_model, params, _ = make(GreedyConfig())
    batch = tiny.make_batch()
    loss, metrics = tiny_model.loss(params, batch)
    np.testing.assert_allclose(loss, -jnp.sum(tiny_model.score(params, batch)), rtol=1e-6)
    assert metrics["num_tokens"] == batch.decoder_loss_weights.sum()


def test_sampling_without_a_key_is_refused():
    tiny_model, params, _ = make(SamplingConfig(num_samples=2))
    with pytest.raises(
        ValueError, match=r"needs a random key; got sample_rng=None.*Pass sample_rng"
    ):
        tiny_model.predict(params, tiny.make_batch(), max_len=6)


def test_initial_parameters_have_the_announced_shapes_and_are_reproducible():
    tiny_model, _, _ = make(GreedyConfig())
    params = tiny_model.init(jax.random.key(3))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), tiny_model.param_shapes()
    )
    again = tiny_model.init(jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, params, again)


def test_equal_models_share_programs_until_a_source_is_reloaded(monkeypatch):
    def make():
        return model.Model(tiny.make_config("none", "mixed"))

    program = model.share_programs(lambda made, *args: lambda: args)
    assert program(make(), 1) is program(make(), 1)
    assert program(make(), 1) is not program(make(), 2)
    assert program(make(), [1]) is not program(make(), [1])  # It does not hash.
    before, shapes = program(make(), 1), make().param_shapes()
    assert make().param_shapes() is shapes
    monkeypatch.setitem(adapter_sources.SOURCES, "mixed", adapter_sources.Manual)
    assert program(make(), 1) is not before
    assert jax.tree.structure(make().param_shapes()) != jax.tree.structure(shapes)


def test_trained_tasks_are_some_of_all_tasks():
    with pytest.raises(ValueError, match="num_trained_tasks must be at most num_tasks=2; got 5"):
        model.Model(tiny.make_config(num_tasks=2, num_trained_tasks=5))
