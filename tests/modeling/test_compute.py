"""Choices of a run that the chip decides: what they change, and what they do not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import losses
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling import attention_core, layers
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.compute import ComputeConfig
from tests import tiny

# Float32 rounding: sums in another order, through the layers and the loss's sum over tokens.
ROUNDING = dict(rtol=1e-4, atol=1e-5)


def make_model(**choices):
    compute = ComputeConfig(**choices)
    sizes = dict(num_encoder_layers=1, num_decoder_layers=1)
    return Model(tiny.make_config(dropout_rate=0.5, compute=compute, **sizes))


@functools.cache
def make_params():
    return tiny.make_params(make_model())


@functools.cache
def differentiate(**choices):
    """The loss with dropout and its gradient; plain ones are what several tests expect."""
    model = make_model(**choices)

    def loss(params, rng):
        return model.loss(params, tiny.make_batch(), rng)[0]

    return jax.jit(jax.value_and_grad(loss))(make_params(), jax.random.key(3))


@functools.cache
def logits_without_dropout():
    return jax.jit(make_model().logits)(make_params(), tiny.make_batch())


@pytest.mark.parametrize("dropout", ["broadcast", "hardware"])
def test_dropout_draws_anew_for_each_key_and_not_without_one(dropout):
    model, batch = make_model(dropout=dropout), tiny.make_batch()
    logits = jax.jit(model.logits)
    np.testing.assert_array_equal(logits(make_params(), batch), logits_without_dropout())
    drawn = [logits(make_params(), batch, jax.random.key(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2])


@pytest.mark.parametrize("dropout", ["positions", "broadcast", "hardware"])
def test_broadcast_dropout_is_one_mask_for_all_positions(dropout):
    layer = layers.dropout(make_model(dropout=dropout).config)
    rngs = {"dropout": jax.random.key(0)}
    kept = layer.apply({}, jnp.ones((40, 3, 50)), deterministic=False, rngs=rngs) > 0
    assert abs(kept.mean() - 0.5) < 0.05
    assert bool((kept == kept[:, :1]).all()) == (dropout == "broadcast")


def test_heads_at_a_time_change_no_loss_and_no_gradient(monkeypatch):
    monkeypatch.setattr(attention_core, "FEW_WEIGHTS", 0)
    expected = differentiate(dropout="broadcast")
    found = differentiate(dropout="broadcast", attention_heads=1)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, **ROUNDING)


@pytest.mark.parametrize(
    ("remat", "dropout"),
    [("attention", "positions"), ("dots", "broadcast"), ("layer", "positions")],
)
def test_what_is_computed_again_is_the_same(remat, dropout):
    expected = differentiate(dropout=dropout)
    found = differentiate(dropout=dropout, remat=remat)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
def test_a_loss_in_chunks_is_the_loss(reduction):
    loss = losses.LossConfig(0.1, reduction=reduction, z_loss=1e-3)
    # The chunks begin behind the layers.
    sizes = dict(num_encoder_layers=1, num_decoder_layers=1)

    def sums(**choices):
        config = tiny.make_config("none", "none", compute=ComputeConfig(**choices), **sizes)
        model = Model(config, loss_config=loss)
        gradient = jax.value_and_grad(model.loss, has_aux=True)
        return jax.jit(gradient)(tiny.make_params(model), tiny.make_batch())

    # Five positions: the last chunk is filled up.
    for a, b in zip(*map(jax.tree.leaves, (sums(logits_chunk=2), sums())), strict=True):
        np.testing.assert_allclose(a, b, **ROUNDING)


def test_a_chunk_of_all_positions_is_no_chunk():
    model = Model(tiny.make_config("none", "none", compute=ComputeConfig(logits_chunk=5)))
    traced = jax.make_jaxpr(model.loss)(model.param_shapes(), tiny.make_batch(dec_len=5))
    assert " scan[" not in str(traced)


def test_choices_are_checked():
    with pytest.raises(ValueError, match=r"dropout must be one of .* got 'none'\. Set DROPOUT"):
        ComputeConfig(dropout="none")
    with pytest.raises(ValueError, match=r"attention_heads must be an integer of at least 1"):
        ComputeConfig(attention_heads=0)
    with pytest.raises(ValueError, match=r"remat must be one of .* got 'all'\. Set REMAT"):
        ComputeConfig(remat="all")
    heads = ComputeConfig("broadcast", attention_heads=5)
    with pytest.raises(ValueError, match=r"must divide num_heads=12; got 5\. .* to 4"):
        tiny.make_config(num_heads=12, compute=heads)
    with pytest.raises(ValueError, match=r"needs the dropout 'broadcast'.*got dropout='hardware'"):
        tiny.make_config(compute=ComputeConfig("hardware", attention_heads=1))


def test_files_do_not_hold_how_a_run_computes():
    config = dataclasses.replace(make_model(dropout="broadcast").config, dtype="bfloat16")
    default = dataclasses.replace(config, compute=ComputeConfig())
    assert modeling_config.from_dict(modeling_config.to_dict(config)) == default
