"""Learning-rate schedules: a config in, a function from the step to the learning rate out.

The first six are Hugging Face's, which the original Hyperdecoders selects by name (there,
`lr_scheduler_type`); each class keeps its exact formula, so that a learning rate read off either
run's log is the same number. The seventh is T5's inverse square root. A step is the number of
updates already made: the first update uses the rate of step 0, which is 0 under any warmup. After
the last step a rate stays as it is (Hugging Face's cosine would rise again).

Source: transformers.optimization; T5 (arXiv:1910.10683, section 3.1.2).
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Step = int | Int[Array, ""]
Schedule = Callable[[Step], Float[Array, ""]]


class ScheduleConfig(Protocol):
    """What every schedule class of this module offers."""

    learning_rate: float

    def make(self, num_train_steps: int) -> Schedule:
        """Returns the schedule of a run of `num_train_steps` updates."""


def _check_not_negative(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(
                f"{type(config).__name__}.{name} must be a number of at least 0; got {value!r}. "
                "Give 0 to switch it off."
            )


def _warm_up(step: jax.Array, warmup_steps: int) -> jax.Array:
    """The factor that rises from 0 to 1 over `warmup_steps`, and stays 1."""
    return jnp.minimum(1.0, step / max(1, warmup_steps)) if warmup_steps else jnp.ones_like(step)


def _progress(step: jax.Array, warmup_steps: int, num_train_steps: int) -> jax.Array:
    """How far the run is after its warmup, in [0, 1]."""
    past = (step - warmup_steps) / max(1, num_train_steps - warmup_steps)
    return jnp.clip(past, 0.0, 1.0)


def _to_float(step: Step) -> jax.Array:
    return jnp.asarray(step, jnp.float32)


@dataclasses.dataclass(frozen=True)
class LinearConfig:
    """Rises from 0 to `learning_rate` over the warmup, then falls linearly to 0 at the last step.

    >>> rate = LinearConfig(learning_rate=1.0, warmup_steps=2).make(num_train_steps=6)
    >>> [float(rate(step)) for step in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    learning_rate: float
    warmup_steps: int = 0

    def __post_init__(self):
        _check_not_negative(self, "learning_rate", "warmup_steps")

    def make(self, num_train_steps: int) -> Schedule:
        def rate(step):
            step = _to_float(step)
            left = 1.0 - _progress(step, self.warmup_steps, num_train_steps)
            return self.learning_rate * _warm_up(step, self.warmup_steps) * left

        return rate


@dataclasses.dataclass(frozen=True)
class CosineConfig:
    """Falls from `learning_rate` as a cosine; `num_cycles` of 0.5 ends at 0 at the last step."""

    learning_rate: float
    warmup_steps: int = 0
    num_cycles: float = 0.5

    def __post_init__(self):
        _check_not_negative(self, "learning_rate", "warmup_steps", "num_cycles")

    def make(self, num_train_steps: int) -> Schedule:
        def rate(step):
            step = _to_float(step)
            progress = _progress(step, self.warmup_steps, num_train_steps)
            wave = 0.5 * (1.0 + jnp.cos(2.0 * jnp.pi * self.num_cycles * progress))
            return self.learning_rate * _warm_up(step, self.warmup_steps) * jnp.maximum(0.0, wave)

        return rate


@dataclasses.dataclass(frozen=True)
class CosineWithRestartsConfig:
    """Falls as a half cosine `num_cycles` times, each from `learning_rate`; 0 at the last step."""

    learning_rate: float
    warmup_steps: int = 0
    num_cycles: int = 1

    def __post_init__(self):
        _check_not_negative(self, "learning_rate", "warmup_steps", "num_cycles")

    def make(self, num_train_steps: int) -> Schedule:
        def rate(step):
            step = _to_float(step)
            progress = _progress(step, self.warmup_steps, num_train_steps)
            wave = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.mod(self.num_cycles * progress, 1.0)))
            # The last step would start a new cycle.
            wave = jnp.where(progress >= 1.0, 0.0, wave)
            return self.learning_rate * _warm_up(step, self.warmup_steps) * wave

        return rate


@dataclasses.dataclass(frozen=True)
class PolynomialConfig:
    """Falls from `learning_rate` to `final_learning_rate` as a polynomial of degree `power`."""

    learning_rate: float
    warmup_steps: int = 0
    final_learning_rate: float = 1e-7
    power: float = 1.0

    def __post_init__(self):
        _check_not_negative(self, "learning_rate", "warmup_steps", "final_learning_rate", "power")
        if self.final_learning_rate >= self.learning_rate:
            raise ValueError(
                "PolynomialConfig.final_learning_rate must be below learning_rate; got "
                f"{self.final_learning_rate!r} and {self.learning_rate!r}. Lower the former, "
                "or use ConstantWithWarmupConfig."
            )

    def make(self, num_train_steps: int) -> Schedule:
        def rate(step):
            step = _to_float(step)
            left = (1.0 - _progress(step, self.warmup_steps, num_train_steps)) ** self.power
            fallen = (self.learning_rate - self.final_learning_rate) * left
            rising = self.learning_rate * _warm_up(step, self.warmup_steps)
            return jnp.where(step < self.warmup_steps, rising, fallen + self.final_learning_rate)

        return rate


@dataclasses.dataclass(frozen=True)
class ConstantConfig:
    """`learning_rate` at every step."""

    learning_rate: float

    def __post_init__(self):
        _check_not_negative(self, "learning_rate")

    def make(self, num_train_steps: int) -> Schedule:
        del num_train_steps
        return lambda step: jnp.full_like(_to_float(step), self.learning_rate)


@dataclasses.dataclass(frozen=True)
class ConstantWithWarmupConfig:
    """Rises from 0 to `learning_rate` over the warmup, then stays."""

    learning_rate: float
    warmup_steps: int = 0

    def __post_init__(self):
        _check_not_negative(self, "learning_rate", "warmup_steps")

    def make(self, num_train_steps: int) -> Schedule:
        del num_train_steps
        return lambda step: self.learning_rate * _warm_up(_to_float(step), self.warmup_steps)


@dataclasses.dataclass(frozen=True)
class InverseSquareRootConfig:
    """`learning_rate / sqrt(max(step, warmup_steps))`, T5's pretraining schedule.

    With T5's numbers (1.0 and 10,000) the rate is 0.01 for the first 10,000 steps: the warmup is
    flat, not a rise.
    """

    learning_rate: float = 1.0
    warmup_steps: int = 10_000

    def __post_init__(self):
        _check_not_negative(self, "learning_rate", "warmup_steps")

    def make(self, num_train_steps: int) -> Schedule:
        del num_train_steps

        def rate(step):
            # At least 1, so that step 0 without a warmup is not a division by zero.
            return self.learning_rate / jnp.sqrt(
                jnp.maximum(_to_float(step), max(1, self.warmup_steps))
            )

        return rate


# The original's names, and T5's.
SCHEDULES: dict[str, type] = {
    "linear": LinearConfig,
    "cosine": CosineConfig,
    "cosine_w_restarts": CosineWithRestartsConfig,
    "polynomial": PolynomialConfig,
    "constant": ConstantConfig,
    "constant_w_warmup": ConstantWithWarmupConfig,
    "rsqrt": InverseSquareRootConfig,
}
