"""Our model under T5X's interface against T5X's own model, and against our own runner."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from flax.core import unfreeze

pytest.importorskip("t5x", reason="T5X is not installed")

from t5x import models, train_state, trainer
from t5x.decoding import DecodingState
from t5x.examples.t5 import network

from hyperdecoders_jax import losses, model
from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, T5XScoring
from hyperdecoders_jax.decoding.sampling import GreedyConfig, SamplingConfig
from hyperdecoders_jax.modeling.compute import ComputeConfig
from hyperdecoders_jax.t5x.model import HyperdecoderModel
from tests import tiny

pytestmark = pytest.mark.t5x

# float32 rounding: T5X looks embeddings up by a product, and sums attention in another order.
ATOL = 1e-6
# Sums of up to 9 log-probabilities.
SCORE_ATOL = 1e-5
# Gradients add rounding over the examples.
GRADIENT_ATOL = 1e-5

VOCABULARY = seqio.ByteVocabulary()
SIZES = (
    "vocab_size", "emb_dim", "num_heads", "head_dim", "mlp_dim", "num_encoder_layers",
    "num_decoder_layers", "mlp_activations", "logits_via_embedding",
)  # fmt: skip
MODEL_FILES = sorted((pathlib.Path(gin_files.package_config_folder()) / "models").glob("*.gin"))
BEAM_4 = BeamSearchConfig(num_beams=4, num_return=4, scoring=T5XScoring())


def t5x_module(config):
    sizes = {name: getattr(config, name) for name in SIZES}
    return network.Transformer(network.T5Config(dropout_rate=0.0, **sizes))


def t5x_model(config, **kw):
    return models.EncoderDecoderModel(t5x_module(config), VOCABULARY, VOCABULARY, None, **kw)


def shallow():
    """One layer a stack: dropout compiles slowly."""
    return tiny.make_config(num_encoder_layers=1, num_decoder_layers=1)


def plain(**kw):
    return tiny.make_config("none", "none", dropout_rate=0.0, **kw)


def hyperdecoder(config=None, task_names=None, **kw):
    """The model under T5X's interface, and parameters far from their initial values."""
    ours = model.Model(config or tiny.make_config(), **kw)
    wrapped = HyperdecoderModel(ours, VOCABULARY, VOCABULARY, None, task_names)
    return wrapped, tiny.make_params(wrapped.model)


def features(**kw):
    """A batch as T5X passes it."""
    return tiny.make_batch(**kw).features()


def inputs_of(batch):
    return tuple(
        batch[name]
        for name in ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    )


@pytest.mark.parametrize("tied", [False, True])
def test_a_plain_model_computes_what_t5xs_does(tied):
    config = plain(logits_via_embedding=tied)
    ours, theirs = model.Model(config), t5x_module(config)
    inputs, params = inputs_of(features()), ours.init(jax.random.key(1))

    @jax.jit
    def expected(params):
        apply = functools.partial(theirs.apply, {"params": params}, enable_dropout=False)
        return apply(inputs[0], method="encode"), apply(*inputs)

    @jax.jit
    def found(params):
        encoded = ours.module.apply({"params": params}, inputs[0], method="encode")
        return encoded, ours.logits(params, tiny.make_batch())

    is_real = inputs[0] > 0, inputs[2] > 0
    for ours_, theirs_, real in zip(found(params), expected(params), is_real, strict=True):
        np.testing.assert_allclose(ours_[real], theirs_[real], atol=ATOL)


def test_a_plain_models_steps_are_t5xs():
    config = plain()
    ours, theirs = model.Model(config), t5x_model(config)
    batch, params = features(), ours.init(jax.random.key(1))
    tokens, targets = batch["encoder_input_tokens"], batch["decoder_input_tokens"]
    length = targets.shape[1]

    @jax.jit
    def start(params):
        encode = functools.partial(theirs.module.apply, enable_dropout=False, method="encode")
        encoded = encode({"params": params}, tokens)
        their_cache, _ = theirs._compute_kv_cache(params, encoded, tokens, targets)
        apply = functools.partial(ours.module.apply, {"params": params})
        cache = apply(len(tokens), 1, length, method="make_cache")
        return encoded, their_cache, ours.context(params, tiny.make_batch()), cache

    @jax.jit
    def step(params, encoded, their_cache, context, cache, token, index):
        state = DecodingState(cur_index=index, sequences=None, cur_token=token, cache=their_cache)
        expected, their_cache = theirs._compute_logits_from_slice(
            state, params, encoded, tokens, length
        )
        variables = {"params": params}
        found, cache = ours.module.apply(
            variables, context, token, cache, index, method="decode_step"
        )
        return found[:, 0], expected, their_cache, cache

    encoded, their_cache, context, cache = start(params)
    for index in range(length):
        token = targets[:, index : index + 1]
        found, expected, their_cache, cache = step(
            params, encoded, their_cache, context, cache, token, jnp.int32(index)
        )
        np.testing.assert_allclose(found, expected, atol=ATOL)


@pytest.mark.parametrize("file", MODEL_FILES, ids=lambda file: file.stem)
def test_every_size_has_t5xs_parameters_and_axes(file):
    text = gin_files.read([f"models/{file.name}"])
    assert_same_variables(plain(**{name: text.macro_values[name.upper()][0] for name in SIZES}))


@functools.cache
def assert_same_variables(config):
    key, shapes = (
        jax.random.PRNGKey(0),
        dict.fromkeys(("encoder_input_tokens", "decoder_input_tokens"), (1, 1)),
    )
    wrapped = HyperdecoderModel(model.Model(config), VOCABULARY, VOCABULARY, None)
    found, expected = (
        unfreeze(jax.eval_shape(lambda: each.get_initial_variables(key, shapes)))  # noqa: B023
        for each in (wrapped, t5x_model(config))
    )
    assert found == expected


def test_new_parameters_have_axes_too():
    wrapped, params = hyperdecoder()
    variables = jax.eval_shape(lambda: wrapped.get_initial_variables(jax.random.PRNGKey(3), {}))
    assert set(variables) == {"params", "params_axes"}
    assert unfreeze(variables["params"]) == wrapped.model.param_shapes()
    assert set(variables["params_axes"]) == set(params)


def test_methods_that_tell_tasks_apart_have_as_many_as_are_named():
    config = tiny.make_config("none", "task", num_tasks=None)
    wrapped, _ = hyperdecoder(config, task_names=["cola", "rte", "mrpc"])
    assert wrapped.model.config.num_tasks == 3


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_loss_and_metrics_are_t5xs(label_smoothing):
    loss_config = losses.LossConfig(label_smoothing, smoothing="t5x", z_loss=1e-2)
    wrapped, params = hyperdecoder(plain(), loss_config=loss_config)
    theirs = t5x_model(plain(), label_smoothing=label_smoothing, z_loss=1e-2)
    loss, metrics = jax.jit(wrapped.eval_fn)(params, features())
    expected, their_metrics = jax.jit(theirs.eval_fn)(params, features())
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert set(metrics) == set(their_metrics)
    for name in metrics:
        if not name.startswith("timing/"):  # these are known only to T5X's trainer
            values = metrics[name].compute(), their_metrics[name].compute()
            np.testing.assert_allclose(*values, rtol=1e-6, err_msg=name)


def test_loss_is_that_of_our_runner():
    loss_config = losses.LossConfig(0.1, reduction="mean")
    wrapped, params = hyperdecoder(shallow(), loss_config=loss_config)
    key, batch = jax.random.key(5), tiny.make_batch()

    @jax.jit
    def run(key):
        trained = wrapped.loss_fn(params, features(), key)
        return trained, wrapped.model.loss(params, batch, key), wrapped.eval_fn(params, features())

    (loss, metrics), (expected, sums), (without_dropout, _) = run(key)
    assert loss == metrics["loss"].compute()
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    per_token = metrics["loss_per_nonpadding_target_token"].compute()
    np.testing.assert_allclose(per_token, sums["loss_sum"] / sums["num_tokens"], rtol=1e-6)
    assert abs(without_dropout - loss) > 1e-3


def test_t5x_adds_up_the_gradients_of_microbatches():
    config = tiny.make_config(num_encoder_layers=1, num_decoder_layers=1, dropout_rate=0.0)
    loss_config = losses.LossConfig(reduction="mean")
    wrapped, params = hyperdecoder(config, loss_config=loss_config)
    # Two equal halves, so that the mean of each is that of both.
    batch = jax.tree.map(lambda x: jnp.concatenate([x, x]), features())
    state = train_state.InferenceState(step=jnp.int32(0), params=params)

    @functools.partial(jax.jit, static_argnums=0)
    def gradients(num_microbatches):
        return trainer.accumulate_grads_microbatched(
            wrapped, state, batch, jax.random.key(0), num_microbatches
        )[:2]

    (whole, metrics), (halves, half_metrics) = gradients(1), gradients(2)
    for found, once in zip(jax.tree.leaves(halves), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(found, 2 * once, atol=GRADIENT_ATOL)
    for name in ("accuracy", "loss_per_nonpadding_target_token"):
        values = half_metrics[name].compute(), metrics[name].compute()
        np.testing.assert_allclose(*values, rtol=1e-6, err_msg=name)


def test_t5x_gives_each_microbatch_the_same_key():
    class Noise:  # Its gradient is what is drawn.
        def loss_fn(self, params, batch, key):
            return params * jax.random.normal(key), {}

    state = train_state.InferenceState(step=jnp.int32(0), params=jnp.float32(0))
    halves, _, _ = trainer.accumulate_grads_microbatched(
        Noise(), state, {"x": jnp.zeros(4)}, jax.random.key(0), 2
    )
    drawn = jax.random.normal(jax.random.split(jax.random.key(0))[1])
    np.testing.assert_allclose(halves, 2 * drawn, rtol=1e-6)


def test_a_plain_models_beams_are_t5xs():
    wrapped, _ = hyperdecoder(plain(), decoding=BEAM_4)
    theirs, batch = t5x_model(plain()), features(dec_len=9)
    params = wrapped.model.init(jax.random.key(1))
    tokens, aux = wrapped.predict_batch_with_aux(params, batch, return_all_decodes=True)
    expected, their_aux = theirs.predict_batch_with_aux(
        params, batch, num_decodes=4, return_all_decodes=True
    )
    np.testing.assert_array_equal(tokens, expected)
    assert tokens.shape == (3, 4, 9)
    # Of texts that were cut, as these all are, T5X's score is the log-likelihood.
    np.testing.assert_allclose(aux["scores"], their_aux["scores"], atol=SCORE_ATOL)


@pytest.mark.parametrize("decoding", [GreedyConfig(), BeamSearchConfig(num_beams=4)])
def test_texts_are_those_of_our_runner(decoding):
    wrapped, params = hyperdecoder(decoding=decoding)
    batch = features(dec_len=6)
    expected = wrapped.model.predict(params, tiny.make_batch(dec_len=6), max_len=6)
    tokens, aux = wrapped.predict_batch_with_aux(params, batch)
    np.testing.assert_array_equal(tokens, expected.tokens[:, 0])
    np.testing.assert_array_equal(aux["scores"], expected.log_likelihoods[:, 0])
    np.testing.assert_array_equal(aux["num_tokens"], (tokens > 0).sum(axis=1))
    np.testing.assert_array_equal(aux["batch_num_tokens"], [max(aux["num_tokens"])] * 3)
    np.testing.assert_array_equal(wrapped.predict_batch(params, batch), tokens)


def test_samples_follow_the_key():
    wrapped, params = hyperdecoder(decoding=SamplingConfig())
    draws = [
        np.asarray(wrapped.predict_batch(params, features(), jax.random.PRNGKey(seed)))
        for seed in (0, 0, 1)
    ]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()


@pytest.mark.parametrize("changed", [{"num_decodes": 4}, {"decoder_params": {"alpha": 0.6}}])
def test_decoding_is_not_configured_twice(changed):
    wrapped, params = hyperdecoder()
    (name,) = changed
    with pytest.raises(
        ValueError, match=rf"Model.decoding says; got .'{name}.*decoding, such as beam4"
    ):
        wrapped.predict_batch_with_aux(params, features(), **changed)


def test_scores_are_minus_the_loss_of_each_example():
    wrapped, params = hyperdecoder()
    scores, loss_of = jax.jit(wrapped.score_batch)(params, features()), jax.jit(wrapped.eval_fn)
    assert scores.shape == (3,)
    for row in range(3):
        alone = {name: value[row : row + 1] for name, value in features().items()}
        loss, _ = loss_of(params, alone)
        np.testing.assert_allclose(-scores[row], loss, rtol=1e-6)


def test_decoding_costs_no_more_than_t5xs():
    # XLA counts a loop's body once: what is done once for an example, and one step for its beams.
    wrapped, params = hyperdecoder(plain(), decoding=BEAM_4)
    theirs = t5x_model(plain())
    ours = flops(lambda batch: wrapped.predict_batch(params, batch))
    assert ours < flops(lambda batch: theirs.predict_batch_with_aux(params, batch, num_decodes=4))


def flops(predict):
    return jax.jit(predict).lower(features(dec_len=9)).compile().cost_analysis()["flops"]


def test_logits_in_chunks_are_told_to_be_our_own_runners(caplog):
    hyperdecoder(plain(compute=ComputeConfig(logits_chunk=2)))
    assert "LOGITS_CHUNK is read by our own runner alone" in caplog.text
    assert "got 2" in caplog.text
