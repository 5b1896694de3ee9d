import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperdecoders_jax.training import optimizer, schedules
from tests.training import tiny

RATE = 0.01
# float32 sums in another order.
RTOL = 2e-6


def run(config, gradients, params, rate=RATE):
    tx = optimizer.make_optimizer(config, schedules.ConstantConfig(rate).make(1))
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)
    for gradient in gradients:
        updates, state = tx.update(jax.tree.map(jnp.asarray, gradient), state, params)
        params = optax.apply_updates(params, updates)
    return params


def tiny_problem(steps=5):
    rng = np.random.default_rng(0)
    params = {
        "kernel": rng.normal(size=(3, 5)).astype(np.float32),
        "bias": rng.normal(size=5).astype(np.float32),
    }
    gradients = [
        jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), params)
        for _ in range(steps)
    ]
    return params, gradients


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("size", [1.0, 1e-8])
def test_adamw_is_hugging_faces(weight_decay, size):
    params, gradients = tiny_problem()
    params = {name: np.zeros_like(value) if size < 1 else value for name, value in params.items()}
    gradients = [{name: np.float32(size) * g for name, g in row.items()} for row in gradients]
    config = optimizer.AdamWConfig(weight_decay=weight_decay, clip_norm=None)
    got = run(config, gradients, params)
    for name, value in params.items():
        decay = weight_decay if name == "kernel" else 0.0
        value, mean, square = value.astype(np.float64), 0.0, 0.0
        for step, gradient in enumerate((g[name] for g in gradients), start=1):
            mean = 0.9 * mean + 0.1 * gradient.astype(np.float64)
            square = 0.999 * square + 0.001 * gradient.astype(np.float64) ** 2
            step_size = RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            value = value - step_size * mean / (np.sqrt(square) + 1e-8) - RATE * decay * value
        # The sum of five steps may lose digits where they cancel.
        np.testing.assert_allclose(got[name], value, rtol=RTOL, atol=1e-6 * np.abs(value).max())


def test_tiny_gradients_make_a_smaller_first_step_than_optax_adam():
    params, gradient = {"kernel": np.zeros(1, np.float32)}, {"kernel": np.full(1, 1e-8, np.float32)}
    (move,) = run(optimizer.AdamWConfig(clip_norm=None), [gradient], params)["kernel"]
    # eps / sqrt(1 - b2) is 3.2e-7, so 1e-8 moves by 1 / 32.6 of the rate; with optax by a half.
    np.testing.assert_allclose(-move / RATE, 1e-8 / (1e-8 + 1e-8 / np.sqrt(0.001)), rtol=1e-5)


def test_biases_and_layer_norms_do_not_decay():
    model = tiny.make_model()
    paths = jax.tree_util.tree_leaves_with_path(model.param_shapes())
    names = [tuple(key.key for key in path) for path, _ in paths]
    kept = {name[-1] for name in names if not optimizer.is_decayed(name)}
    assert kept == {"bias", "scale", "rel_embedding"}
    assert {name[-1] for name in names} - kept == {"embedding", "kernel", "layer_embedding"}


def test_adafactor_is_hugging_faces():
    params, gradients = tiny_problem()
    got = run(optimizer.AdafactorConfig(clip_norm=None), gradients, params)
    for name, value in params.items():
        value, row, col, square = value.astype(np.float64), 0.0, 0.0, 0.0
        for step, gradient in enumerate((g[name] for g in gradients), start=1):
            keep = 1 - step**-0.8
            squared = gradient.astype(np.float64) ** 2 + 1e-30
            if value.ndim == 2:
                row = keep * row + (1 - keep) * squared.mean(-1)
                col = keep * col + (1 - keep) * squared.mean(-2)
                root = np.sqrt(row / row.mean())[:, None] * np.sqrt(col)[None]
            else:
                square = keep * square + (1 - keep) * squared
                root = np.sqrt(square)
            move = gradient / root
            move = move / max(1.0, np.sqrt((move**2).mean()))
            value = value - RATE * move
        np.testing.assert_allclose(got[name], value, rtol=RTOL, atol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
    params = {"a": np.zeros(1, np.float32), "b": np.zeros(1, np.float32)}
    big = {"a": np.array([30.0], np.float32), "b": np.array([40.0], np.float32)}
    small = {"a": np.array([0.3], np.float32), "b": np.array([0.4], np.float32)}
    tx = optimizer.make_optimizer(
        optimizer.AdamWConfig(b1=0.0, b2=0.0, eps=1e9, clip_norm=1.0),
        schedules.ConstantConfig(1e9).make(1),
    )
    # With a huge eps Adam is plain gradient descent, and the update shows the clipped gradient.
    for gradient, expected in ((big, [0.6, 0.8]), (small, [0.3, 0.4])):
        updates, _ = tx.update(gradient, tx.init(params), params)
        np.testing.assert_allclose([-updates["a"][0], -updates["b"][0]], expected, rtol=1e-5)


@pytest.mark.parametrize("make", [optimizer.AdamWConfig, optimizer.AdafactorConfig])
def test_the_learning_rate_follows_the_schedule(make):
    tx = optimizer.make_optimizer(make(), schedules.LinearConfig(0.5, warmup_steps=2).make(4))
    params = {"w": jnp.ones(3)}
    state, moves = tx.init(params), []
    for _ in range(5):
        updates, state = tx.update({"w": jnp.ones(3)}, state, params)
        moves.append(float(-updates["w"][0]))
    # A constant gradient moves a parameter by the learning rate itself.
    np.testing.assert_allclose(moves, [0.0, 0.25, 0.5, 0.25, 0.0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("make", [optimizer.AdamWConfig, optimizer.AdafactorConfig])
def test_a_clip_norm_of_zero_is_refused(make):
    with pytest.raises(ValueError, match=r"clip_norm must be above 0; got 0.0. Give None"):
        make(clip_norm=0.0)


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match=r"AdamWConfig.b2 must be in \[0, 1\); got 1.0"):
        optimizer.AdamWConfig(b2=1.0)


def test_hugging_faces_sign_of_the_decay_rate_is_refused():
    with pytest.raises(ValueError, match=r"decay_rate must be above 0, .* got -0.8. Give 0.8"):
        optimizer.AdafactorConfig(decay_rate=-0.8)


def test_updates_can_be_relative_to_their_parameters():
    params, gradients = tiny_problem(steps=1)
    plain = run(optimizer.AdafactorConfig(clip_norm=None), gradients, params)
    config = optimizer.AdafactorConfig(clip_norm=None, multiply_by_parameter_scale=True)
    got = run(config, gradients, params)
    for name, value in params.items():
        size = np.sqrt(np.mean(value**2))
        np.testing.assert_allclose(got[name] - value, size * (plain[name] - value), atol=1e-6)
