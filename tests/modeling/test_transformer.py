"""Laws of the whole model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig
from hyperdecoders_jax.decoding.sampling import GreedyConfig
from hyperdecoders_jax.modeling.config import (
    CROSS_ATTENTION,
    SELF_ATTENTION,
    SITES,
    SITES_OF_SIDE,
    SOURCES,
)
from tests import tiny

# float32 rounding: batches of other shapes are summed in another order.
ATOL = 2e-5
# Every site at once: three times as many products, of weights far from their initial values.
ALL_SITES_ATOL = 5e-5

# Every source on every side.
PAIRS = [*zip(SOURCES, (*SOURCES[1:], SOURCES[0]), strict=True), ("manual", "generated")]
ALL_SITES = dict(encoder_sites=SITES_OF_SIDE["encoder"], decoder_sites=SITES)


@functools.cache
def make_model(encoder="manual", decoder="generated", **kw):
    # Two numbers of layers, as few as there can be: most of these tests' time goes into compiling.
    sizes = dict(num_encoder_layers=1, num_decoder_layers=2)
    tiny_model = model.Model(tiny.make_config(encoder, decoder, **sizes, **kw))
    return tiny_model, tiny.make_params(tiny_model), jax.jit(tiny_model.logits)


@pytest.mark.parametrize("pair", PAIRS)
def test_an_examples_logits_depend_on_it_alone(pair):
    _, params, logits = make_model(*pair)
    batch = tiny.make_batch()
    others = jax.tree.map(lambda own, x: x.at[1].set(own[1]), batch, tiny.make_batch(seed=1))
    np.testing.assert_allclose(logits(params, batch)[1], logits(params, others)[1], atol=ATOL)


# Every source, and every site.
@pytest.mark.parametrize(
    ("encoder", "decoder", "sites"),
    [
        ("generated", "none", {}),
        ("manual", "manual_specific", {}),
        ("manual_specific", "task", {}),
        ("generated", "generated", ALL_SITES),
    ],
)
def test_other_examples_and_padding_do_not_change_logits(encoder, decoder, sites):
    _, params, logits = make_model(encoder, decoder, **sites)
    batch = tiny.make_batch()
    alone = alone_and_padded(batch, 1)
    np.testing.assert_allclose(logits(params, batch)[1], logits(params, alone)[0], atol=ATOL)


def alone_and_padded(batch, row):
    """One example with more padding: of one shape, for which one program is enough."""
    return tiny.pad_inputs(tiny.take_examples(batch, slice(row, row + 1)), 9)


def test_a_low_rank_change_is_a_change_of_the_kernel():
    tiny_model, params, logits = make_model("none", "manual", **ALL_SITES)
    _, _, plain_logits = make_model("none", "none")
    low_rank = (*SELF_ATTENTION, *CROSS_ATTENTION)
    adapters = {
        site: arrays if site in low_rank else jax.tree.map(jnp.zeros_like, arrays)
        for site, arrays in params["decoder_adapters"].items()
    }
    merged = jax.tree.map(jnp.copy, {key: params[key] for key in model.BACKBONE_KEYS})
    modules = {"self": "self_attention", "cross": "encoder_decoder_attention"}
    for site in low_rank:
        for layer in range(tiny_model.config.num_decoder_layers):
            attention = merged["decoder"][f"layers_{layer}"][modules[site.split("_")[0]]]
            change = adapters[site]["down_kernel"][layer] @ adapters[site]["up_kernel"][layer]
            # tiny.make_config: alpha 3 over rank 2
            attention[site.rsplit("_", 1)[-1]]["kernel"] += 1.5 * change
    batch = tiny.make_batch()
    found = logits(params | {"decoder_adapters": adapters}, batch)
    np.testing.assert_allclose(found, plain_logits(merged, batch), atol=ATOL)


def test_a_generated_encoder_draws_dropout_anew_in_its_second_pass():
    """With a second pass that is the first again, only its dropout differs."""
    generated, params, _ = make_model("generated", "none")
    plain, _, _ = make_model("none", "none")
    silent = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.zeros_like(x) if "adapters" in path[0].key else x, params
    )
    tokens = tiny.make_batch().encoder_input_tokens

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def encode(tiny_model, has_dropout, params):
        options = {"deterministic": not has_dropout, "rngs": {"dropout": jax.random.key(0)}}
        return tiny_model.module.apply({"params": params}, tokens, method="encode", **options)

    backbone = {key: params[key] for key in model.BACKBONE_KEYS}
    np.testing.assert_array_equal(encode(generated, False, silent), encode(plain, False, backbone))
    twice, once = encode(generated, True, silent), encode(plain, True, backbone)
    assert np.max(np.abs(twice - once)) > 1e-3


def test_tasks_that_are_fewer_than_examples_get_the_same_adapters():
    """The hypernetwork then writes for each task once, instead of for each example."""
    _, params, logits = make_model("manual_specific", "task")
    batch = tiny.make_batch(batch=tiny.NUM_TASKS + 3)
    together = logits(params, batch)
    for row in range(3):
        alone = logits(params, alone_and_padded(batch, row))
        np.testing.assert_allclose(together[row], alone[0], atol=ATOL)


def test_later_target_tokens_do_not_change_earlier_logits():
    _, params, logits = make_model()
    batch = tiny.make_batch()
    changed = batch.replace(decoder_input_tokens=batch.decoder_input_tokens.at[:, 3:].set(9))
    np.testing.assert_array_equal(logits(params, batch)[:, :3], logits(params, changed)[:, :3])


def test_zero_up_projections_are_plain_t5_bit_for_bit():
    _, params, logits = make_model("manual", "generated")
    _, _, plain_logits = make_model("none", "none")

    def zero_up(path, leaf):
        is_up = any(getattr(key, "key", "").startswith("up_") for key in path)
        return jnp.zeros_like(leaf) if is_up else leaf

    zeroed = jax.tree_util.tree_map_with_path(zero_up, params)
    backbone = {key: params[key] for key in model.BACKBONE_KEYS}
    batch = tiny.make_batch()
    np.testing.assert_array_equal(logits(zeroed, batch), plain_logits(backbone, batch))
    assert not np.array_equal(logits(params, batch), plain_logits(backbone, batch))


def test_generated_with_equal_conditions_is_manual_with_those_parameters():
    generated, params, logits = make_model("none", "generated")
    _, _, manual_logits = make_model("none", "manual")
    batch = tiny.make_batch()
    same = tiny.take_examples(batch, jnp.array([1, 1, 1]))
    same = same.replace(
        decoder_input_tokens=batch.decoder_input_tokens,
        decoder_target_tokens=batch.decoder_target_tokens,
    )
    layers = jax.jit(generated.context)(params, same).layers
    own = [layer.adapters["feed_forward"] for layer in layers]
    adapters = jax.tree.map(lambda *xs: jnp.stack(xs)[:, 1], *own)
    manual = {key: params[key] for key in model.BACKBONE_KEYS}
    names = ("down_kernel", "down_bias", "up_kernel", "up_bias")
    manual["decoder_adapters"] = {"feed_forward": {name: getattr(adapters, name) for name in names}}
    np.testing.assert_allclose(logits(params, same), manual_logits(manual, same), atol=ATOL)


# Of the sources that no case below has.
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[1] not in ("manual", "generated")])
def test_step_by_step_logits_equal_teacher_forced(pair):
    check_step_by_step(*make_model(*pair))


@pytest.mark.parametrize("pair", [("none", "manual"), ("generated", "generated")])
def test_step_by_step_logits_equal_teacher_forced_with_every_site(pair):
    check_step_by_step(*make_model(*pair, **ALL_SITES), atol=ALL_SITES_ATOL)


def check_step_by_step(tiny_model, params, logits, atol=ATOL):
    batch = tiny.make_batch()
    beams, dec_len = 2, batch.decoder_input_tokens.shape[1]
    # The second hypothesis reads other tokens, and must not disturb the first.
    tokens = np.stack([batch.decoder_input_tokens, (batch.decoder_input_tokens * 7) % 31], 1)

    @jax.jit
    def step_by_step(params, tokens):
        context = tiny_model.context(params, batch)
        apply = functools.partial(tiny_model.module.apply, {"params": params})

        def step(cache, index):
            read = (context, tokens[:, :, index], cache, index)
            logits, cache = apply(*read, method="decode_step")
            return cache, logits

        cache = apply(3, beams, dec_len, method="make_cache")
        return jax.lax.scan(step, cache, jnp.arange(dec_len))[1]

    steps = np.moveaxis(step_by_step(params, tokens), 0, 2)  # [batch, beams, dec_len, vocab]
    np.testing.assert_allclose(steps[:, 0], logits(params, batch), atol=atol)
    other = logits(params, batch.replace(decoder_input_tokens=tokens[:, 1]))
    np.testing.assert_allclose(steps[:, 1], other, atol=atol)


def test_beam_of_one_is_greedy():
    tiny_model, params, _ = make_model()
    beam = model.Model(tiny_model.config, decoding=BeamSearchConfig(num_beams=1))
    greedy = model.Model(tiny_model.config, decoding=GreedyConfig())
    batch = tiny.make_batch()
    expected, found = (
        jax.jit(functools.partial(searched.predict, max_len=6))(params, batch)
        for searched in (greedy, beam)
    )
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.log_likelihoods, expected.log_likelihoods, atol=ATOL)


def test_an_empty_input_gives_finite_logits_and_gradients():
    tiny_model, params, logits = make_model()
    batch = tiny.make_batch()
    empty = batch.replace(encoder_input_tokens=batch.encoder_input_tokens.at[1].set(0))
    assert np.all(np.isfinite(logits(params, empty)))
    gradients = jax.jit(jax.grad(lambda p: tiny_model.loss(p, empty)[0]))(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


def test_dropout_is_on_only_with_a_key():
    _, params, logits = make_model()
    batch = tiny.make_batch()
    first = logits(params, batch, jax.random.key(0))
    again = logits(params, batch, jax.random.key(0))
    other = logits(params, batch, jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    assert np.max(np.abs(first - other)) > 1e-3


def test_bfloat16_is_near_float32_and_logits_stay_float32():
    _, params, logits = make_model()
    _, _, bfloat16_logits = make_model(dtype="bfloat16")
    batch = tiny.make_batch()
    found = bfloat16_logits(params, batch)
    assert found.dtype == jnp.float32
    # bfloat16 has 8 bits of mantissa; logits here are of order 1.
    np.testing.assert_allclose(found, logits(params, batch), atol=0.15)


def _while_bodies(jaxpr):
    for eqn in jaxpr.eqns:
        for name, value in eqn.params.items():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                if eqn.primitive.name == "while" and name == "body_jaxpr":
                    yield inner
                yield from _while_bodies(inner)


def _shapes(jaxpr):
    for eqn in jaxpr.eqns:
        yield from (tuple(var.aval.shape) for var in eqn.outvars)
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _shapes(inner)


def test_a_decoding_step_generates_nothing_and_tiles_nothing():
    """Adapters and cross-attention are made before the loop, and beams share them."""
    beams, batch_size, enc_len = 4, 3, 7
    tiny_model, params, _ = make_model()
    searching = model.Model(tiny_model.config, decoding=BeamSearchConfig(num_beams=beams))
    batch = tiny.make_batch(batch=batch_size, enc_len=enc_len)
    jaxpr = jax.make_jaxpr(lambda p, b: searching.predict(p, b, max_len=6).tokens)(params, batch)
    bodies = list(_while_bodies(jaxpr.jaxpr))
    assert len(bodies) == 1
    shapes = set(_shapes(bodies[0]))
    config = tiny_model.config
    emb, adapter, heads = config.emb_dim, config.decoder_adapter.bottleneck_dim, config.num_heads
    assert (batch_size, beams, emb) in shapes  # the residual stream: the walk sees the layers
    for shape in shapes:
        assert emb * adapter not in shape[1:], f"a step makes adapters: {shape}"
        assert (emb, adapter) != shape[-2:], f"a step makes or copies adapters: {shape}"
        assert shape[-3:] != (enc_len, heads, config.head_dim), f"a step tiles keys: {shape}"
