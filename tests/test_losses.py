import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import losses
from hyperdecoders_jax.losses import LossConfig

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(0, 2, (3, 5, 7)), jnp.float32)
TARGETS = jnp.asarray(RNG.integers(0, 7, (3, 5)), jnp.int32)
WEIGHTS = jnp.asarray(RNG.integers(0, 2, (3, 5)), jnp.float32)


def slow_loss(soft_targets, constant=0.0):
    log_p = np.asarray(jax.nn.log_softmax(LOGITS), np.float64)
    per_token = -np.sum(soft_targets * log_p, axis=-1) - constant
    return np.sum(per_token * np.asarray(WEIGHTS))


def test_without_smoothing_it_is_cross_entropy():
    loss, metrics = losses.cross_entropy(LOGITS, TARGETS, WEIGHTS, LossConfig())
    np.testing.assert_allclose(loss, slow_loss(np.eye(7)[TARGETS]), rtol=1e-5)
    assert metrics["num_tokens"] == WEIGHTS.sum()
    correct = (np.argmax(LOGITS, -1) == TARGETS) * WEIGHTS
    assert metrics["num_correct"] == correct.sum()


def test_the_originals_smoothing_spreads_over_the_whole_vocabulary():
    loss, _ = losses.cross_entropy(LOGITS, TARGETS, WEIGHTS, LossConfig(0.1))
    np.testing.assert_allclose(loss, slow_loss(0.9 * np.eye(7)[TARGETS] + 0.1 / 7), rtol=1e-5)


def test_t5xs_smoothing_spreads_over_the_others_and_subtracts_the_entropy():
    config = LossConfig(0.1, smoothing="t5x")
    loss, _ = losses.cross_entropy(LOGITS, TARGETS, WEIGHTS, config)
    soft = np.where(np.eye(7)[TARGETS] == 1, 0.9, 0.1 / 6)
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1 / 6))
    np.testing.assert_allclose(loss, slow_loss(soft, entropy), rtol=1e-5)
    # A model that predicts the smoothed targets has loss 0.
    perfect, _ = losses.cross_entropy(jnp.log(jnp.asarray(soft)), TARGETS, WEIGHTS, config)
    np.testing.assert_allclose(perfect, 0.0, atol=1e-5)


def test_mean_divides_by_the_real_tokens_and_an_empty_batch_is_zero():
    total, _ = losses.cross_entropy(LOGITS, TARGETS, WEIGHTS, LossConfig(0.1))
    mean, metrics = losses.cross_entropy(
        LOGITS, TARGETS, WEIGHTS, LossConfig(0.1, reduction="mean")
    )
    np.testing.assert_allclose(mean * WEIGHTS.sum(), total, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss_sum"], total, rtol=1e-6)
    empty, _ = losses.cross_entropy(LOGITS, TARGETS, 0 * WEIGHTS, LossConfig(reduction="mean"))
    assert empty == 0.0


def test_z_loss_is_the_squared_log_normaliser():
    plain, _ = losses.cross_entropy(LOGITS, TARGETS, WEIGHTS, LossConfig())
    loss, metrics = losses.cross_entropy(LOGITS, TARGETS, WEIGHTS, LossConfig(z_loss=0.01))
    log_z = np.log(np.sum(np.exp(LOGITS), -1))
    np.testing.assert_allclose(metrics["z_loss_sum"], 0.01 * np.sum(log_z**2 * WEIGHTS), rtol=1e-5)
    np.testing.assert_allclose(loss, plain + metrics["z_loss_sum"], rtol=1e-6)


@pytest.mark.t5x
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_t5xs_loss(smoothing):
    t5x_losses = pytest.importorskip("t5x.losses", reason="T5X is not installed")
    config = LossConfig(smoothing, smoothing="t5x", z_loss=1e-3)
    loss, metrics = losses.cross_entropy(LOGITS, TARGETS, WEIGHTS, config)
    expected, z_loss, _ = t5x_losses.compute_weighted_cross_entropy(
        LOGITS, TARGETS, WEIGHTS, smoothing, 1e-3, loss_normalizing_factor=None
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["z_loss_sum"], z_loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"smoothing": "hf"}, r"smoothing must be one of .*; got 'hf'\. Set"),
        ({"reduction": "avg"}, r"reduction must be one of .*; got 'avg'\. Set"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\); got 1.0\. The paper"),
        ({"z_loss": -1.0}, r"z_loss must be a finite number, not negative; got -1.0\. T5X"),
        ({"z_loss": float("nan")}, "z_loss must be a finite number, not negative; got nan"),
        ({"z_loss": "1e-4"}, "z_loss must be a finite number, not negative; got '1e-4'"),
    ],
)
def test_bad_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**fields)
