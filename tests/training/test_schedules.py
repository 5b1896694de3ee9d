import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperdecoders_jax.training import schedules

RATE = 3e-4

# Hugging Face's lambdas (transformers.optimization), as they stand there.


def huggingface_linear(step, warmup, total):
    if step < warmup:
        return step / max(1, warmup)
    return max(0.0, (total - step) / max(1, total - warmup))


def huggingface_cosine(step, warmup, total, num_cycles=0.5):
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * progress)))


def huggingface_cosine_with_restarts(step, warmup, total, num_cycles=1):
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    if progress >= 1.0:
        return 0.0
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((num_cycles * progress) % 1.0))))


def huggingface_polynomial(step, warmup, total, power=1.0, lr_end=1e-7, lr_init=RATE):
    if step < warmup:
        return step / max(1, warmup)
    if step > total:
        return lr_end / lr_init
    left = 1 - (step - warmup) / (total - warmup)
    return ((lr_init - lr_end) * left**power + lr_end) / lr_init


def huggingface_constant(step, warmup, total):
    return 1.0


def huggingface_constant_with_warmup(step, warmup, total):
    return step / max(1, warmup) if step < warmup else 1.0


PAIRS = {
    "linear": (schedules.LinearConfig, huggingface_linear, {}),
    "cosine": (schedules.CosineConfig, huggingface_cosine, {}),
    "cosine, 1.5 cycles": (schedules.CosineConfig, huggingface_cosine, {"num_cycles": 1.5}),
    "cosine_w_restarts": (
        schedules.CosineWithRestartsConfig,
        huggingface_cosine_with_restarts,
        {},
    ),
    "cosine_w_restarts, 3 cycles": (
        schedules.CosineWithRestartsConfig,
        huggingface_cosine_with_restarts,
        {"num_cycles": 3},
    ),
    "polynomial": (schedules.PolynomialConfig, huggingface_polynomial, {}),
    "polynomial, squared": (schedules.PolynomialConfig, huggingface_polynomial, {"power": 2.0}),
    "constant_w_warmup": (
        schedules.ConstantWithWarmupConfig,
        huggingface_constant_with_warmup,
        {},
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_a_schedule_is_hugging_faces(name, warmup):
    make, expected, options = PAIRS[name]
    rate = make(RATE, warmup_steps=warmup, **options).make(num_train_steps=20)
    got = [float(rate(step)) for step in range(21)]
    want = [RATE * expected(step, warmup, 20, **options) for step in range(21)]
    # float32 against Python's float64: the cosine of a float32 angle is good to 1e-7 of the rate.
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=3e-7 * RATE)


@pytest.mark.parametrize("name", PAIRS)
def test_a_rate_stays_after_the_last_step(name):
    make, _, options = PAIRS[name]
    rate = make(RATE, warmup_steps=7, **options).make(num_train_steps=20)
    assert float(rate(20)) == float(rate(21)) == float(rate(200))


def test_a_constant_rate_is_constant():
    rate = schedules.ConstantConfig(RATE).make(num_train_steps=20)
    assert [float(rate(step)) for step in (0, 5, 50)] == [float(np.float32(RATE))] * 3


def test_t5s_rate_is_flat_then_an_inverse_square_root():
    rate = schedules.InverseSquareRootConfig(1.0, warmup_steps=10_000).make(num_train_steps=1)
    got = [float(rate(step)) for step in (0, 10_000, 40_000, 1_000_000)]
    np.testing.assert_allclose(got, [0.01, 0.01, 0.005, 0.001], rtol=1e-6)


@given(
    name=st.sampled_from(sorted(schedules.SCHEDULES)),
    warmup=st.integers(0, 30),
    total=st.integers(1, 30),
    step=st.integers(0, 40),
)
def test_a_rate_is_finite_and_between_zero_and_the_peak(name, warmup, total, step):
    options = {} if name == "constant" else {"warmup_steps": warmup}
    rate = float(schedules.SCHEDULES[name](RATE, **options).make(total)(step))
    assert 0 <= rate <= RATE * (1 + 1e-6)


def test_a_negative_learning_rate_is_refused():
    with pytest.raises(ValueError, match=r"LinearConfig.learning_rate must be .* got -1"):
        schedules.LinearConfig(learning_rate=-1)
    with pytest.raises(ValueError, match=r"LinearConfig.learning_rate must be .* got '1e-3'"):
        schedules.LinearConfig(learning_rate="1e-3")


def test_negative_warmup_is_refused():
    with pytest.raises(ValueError, match=r"CosineConfig.warmup_steps must be .* got -3"):
        schedules.CosineConfig(learning_rate=1, warmup_steps=-3)


def test_a_polynomial_that_does_not_fall_is_refused():
    with pytest.raises(ValueError, match="final_learning_rate must be below learning_rate"):
        schedules.PolynomialConfig(learning_rate=1e-8)
