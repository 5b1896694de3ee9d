import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperdecoders_jax.training import optimizer, schedules, train_state, train_step, trainable
from tests.training import tiny

RATE = schedules.ConstantConfig(1e-2).make(10)
ADAMW = optimizer.make_optimizer(optimizer.AdamWConfig(), RATE)
PLAIN = optax.sgd(1.0)
SLOW = optax.sgd(0.1)


@functools.cache
def compile_step(model, tx, num_microbatches):
    """One step function for all tests that need the same: to compile one takes seconds."""
    return train_step.make_train_step(model, tx, RATE, num_microbatches=num_microbatches)


def run(model, batches, tx=ADAMW, num_microbatches=1, frozen=None):
    trained, initial_frozen = tiny.make_params(model)
    frozen = initial_frozen if frozen is None else frozen
    step = compile_step(model, tx, num_microbatches)
    state = train_state.create(jax.tree.map(jnp.array, trained), tx, jax.random.key(1))
    losses = []
    for batch in batches:
        state, metrics = step(state, frozen, batch)
        losses.append(float(metrics["loss"]))
    return state, losses, step


@functools.partial(jax.jit, static_argnums=0)
def loss_of(model, params, batch, dropout_rng):
    return model.loss(params, batch, dropout_rng)[0]


def dropped_loss(model, batch, *folds):
    """The first loss of a run, with the dropout of the given step (and micro-batch)."""
    rng = jax.random.key(1)
    for fold in folds:
        rng = jax.random.fold_in(rng, fold)
    return float(loss_of(model, trainable.merge(*tiny.make_params(model)), batch, rng))


def test_a_step_moves_all_trainable_parameters_and_no_frozen_one():
    model = tiny.make_model()
    trained, frozen = tiny.make_params(model)
    before = jax.tree.map(np.copy, frozen)
    # The second step: the first leaves at zero what is multiplied by a zero.
    state, _, _ = run(model, [tiny.make_batch(0), tiny.make_batch(1)], frozen=frozen)
    jax.tree.map(np.testing.assert_array_equal, before, frozen)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), trained, state.trainable)
    assert all(jax.tree.leaves(moved)), moved


def test_the_optimizer_holds_state_for_trainable_parameters_alone():
    model = tiny.make_model()
    trained, _ = tiny.make_params(model)
    state, _, _ = run(model, [])
    numbers = trainable.num_parameters(state.opt_state)
    assert numbers == 2 * trainable.num_parameters(trained) + 2  # two moments, two counts


def test_training_lowers_the_loss():
    _, losses, _ = run(tiny.make_model(), [tiny.make_batch()] * 40)
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])


def test_a_bfloat16_frozen_part_trains_float32_parameters():
    model = tiny.make_model()
    _, frozen = tiny.make_params(model)
    frozen = trainable.cast_frozen(frozen, "bfloat16")
    state, losses, _ = run(model, [tiny.make_batch()], tx=SLOW, frozen=frozen)
    assert np.isfinite(losses[0])
    assert {str(x.dtype) for x in jax.tree.leaves(state.trainable)} == {"float32"}


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_microbatches_give_the_gradient_of_the_batch(reduction):
    model = tiny.make_model(dropout_rate=0.0, reduction=reduction)
    trained, _ = tiny.make_params(model)
    batch = tiny.make_batch(batch_size=8)
    whole, whole_losses, _ = run(model, [batch], tx=PLAIN)
    parts, parts_losses, _ = run(model, [batch], tx=PLAIN, num_microbatches=4)
    np.testing.assert_allclose(parts_losses, whole_losses, rtol=1e-6)

    def check(start, a, b):
        # Plain gradient descent at rate 1: the update is the gradient. Sums in another order.
        scale = max(1e-3, np.abs(start - b).max())
        np.testing.assert_allclose(start - a, start - b, atol=2e-5 * scale)

    jax.tree.map(check, trained, parts.trainable, whole.trainable)
    for name in ("loss_sum", "num_tokens", "num_correct"):
        np.testing.assert_allclose(
            getattr(parts.metrics, name), getattr(whole.metrics, name), rtol=1e-6
        )


def test_the_step_decides_the_dropout():
    model, batch = tiny.make_model(), tiny.make_batch()
    _, [loss], _ = run(model, [batch])
    assert dropped_loss(model, batch, 0) == pytest.approx(loss, rel=1e-5)
    assert dropped_loss(model, batch, 1) != pytest.approx(loss, rel=1e-4)


def test_microbatches_have_dropout_of_their_own():
    model, batch = tiny.make_model(), tiny.make_batch(batch_size=8)
    _, [loss], _ = run(model, [batch], tx=PLAIN, num_microbatches=4)
    # Micro-batch i has rows i, i + 4.
    rows = [jax.tree.map(lambda x, i=i: x[i::4], batch) for i in range(4)]
    own = sum(dropped_loss(model, part, 0, index) for index, part in enumerate(rows))
    same = sum(dropped_loss(model, part, 0, 0) for part in rows)
    assert own == pytest.approx(loss, rel=1e-5)
    assert same != pytest.approx(loss, rel=1e-4)


def test_steps_do_not_compile_again():
    _, _, step = run(tiny.make_model(), [tiny.make_batch(i) for i in range(3)])
    assert step._cache_size() == 1


def test_metrics_are_summed_over_steps():
    model = tiny.make_model()
    batches = [tiny.make_batch(i) for i in range(3)]
    state, losses, _ = run(model, batches)
    summary = state.metrics.summarize()
    num_tokens = sum(batch.decoder_loss_weights.sum() for batch in batches)
    assert summary["num_tokens"] == num_tokens
    np.testing.assert_allclose(summary["loss"], np.mean(losses), rtol=1e-6)
    np.testing.assert_allclose(summary["loss_per_token"], sum(losses) / num_tokens, rtol=1e-6)
    assert 0 <= summary["token_accuracy"] <= 1
    assert summary["grad_norm"] > 0
    assert summary["learning_rate"] == pytest.approx(1e-2)


def test_the_first_bad_step_is_remembered():
    model = tiny.make_model()
    good = tiny.make_batch(0)
    bad = good.replace(decoder_loss_weights=np.full_like(good.decoder_loss_weights, np.nan))
    state, _, _ = run(model, [good, good])
    assert state.metrics.first_bad_step == train_state.NO_BAD_STEP
    state, _, _ = run(model, [good, bad, good])
    assert state.metrics.first_bad_step == 2
