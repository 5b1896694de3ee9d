"""Learning-rate schedules: functions from the step to the learning rate.

The first six are Hugging Face's, which the original Hyperdecoders selects by name (its
`lr_scheduler_type`), with the exact formulas, so that both log equal rates; the seventh is T5's
inverse square root. A step is the number of updates already made: the first uses the rate of step
0, which is 0 under any warmup. After the last step the rate stays (Hugging Face's cosine would
rise). Optax's are not used: XLA fuses the sums that they are written as, so that
`optax.linear_schedule` ends at -4e-9 times its peak instead of 0.

Source: transformers.optimization; T5 (arXiv:1910.10683, section 3.1.2).
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hyperdecoders_jax import errors

Step = int | Int[Array, ""]
Schedule = Callable[[Step], Float[Array, ""]]


MAX_STEPS = 2**31 - 1  # Devices count steps in 32 bits.


class ScheduleConfig(Protocol):
    """What every schedule class of this module offers."""

    @property
    def learning_rate(self) -> float:
        """The largest rate."""

    def make(self, num_train_steps: int) -> Schedule:
        """Returns the schedule of a run of `num_train_steps` updates."""


def _check_not_negative(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not (errors.is_number(value) and value >= 0):
            raise ValueError(
                f"{type(config).__name__}.{name} must be a number of at least 0; got {value!r}. "
                "Give 0 to switch it off."
            )
        if name == "warmup_steps":
            errors.check_whole(config, name, 0, MAX_STEPS, "Give 0 to switch it off.")


def _to_float(step: Step) -> jax.Array:
    return jnp.asarray(step, jnp.float32)


@dataclasses.dataclass(frozen=True)
class _WithWarmup:
    """Rises from 0 to `learning_rate` over the warmup, then falls as the subclass says."""

    learning_rate: float
    warmup_steps: int = 0

    def __post_init__(self):
        _check_not_negative(self, *(field.name for field in dataclasses.fields(self)))

    def make(self, num_train_steps: int) -> Schedule:
        def rate(step):
            step = _to_float(step)
            # In Hugging Face's order of products, with which the compiled bits are equal too.
            return self.learning_rate * self._warm_up(step) * self._fall(step, num_train_steps)

        return rate

    def _warm_up(self, step: jax.Array) -> jax.Array:
        """The factor that rises from 0 to 1 over the warmup, and stays 1."""
        steps = self.warmup_steps
        return jnp.minimum(1.0, step / steps) if steps else jnp.ones_like(step)

    def _progress(self, step: jax.Array, num_train_steps: int) -> jax.Array:
        """The fraction of the steps after the warmup that are done, in [0, 1]."""
        # At least one step, for a run that is shorter than its warmup.
        past = (step - self.warmup_steps) / max(1, num_train_steps - self.warmup_steps)
        return jnp.clip(past, 0.0, 1.0)

    def _fall(self, step: jax.Array, num_train_steps: int) -> jax.Array | float:
        """The factor that falls from 1 after the warmup."""
        del step, num_train_steps
        return 1.0


@dataclasses.dataclass(frozen=True)
class LinearConfig(_WithWarmup):
    """Rises from 0 to `learning_rate` over the warmup, then falls linearly to 0 at the last step.

    >>> rate = LinearConfig(learning_rate=1.0, warmup_steps=2).make(num_train_steps=6)
    >>> [float(rate(step)) for step in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    def _fall(self, step: jax.Array, num_train_steps: int) -> jax.Array:
        return 1.0 - self._progress(step, num_train_steps)


@dataclasses.dataclass(frozen=True)
class CosineConfig(_WithWarmup):
    """Falls from `learning_rate` as a cosine; `num_cycles` of 0.5 ends at 0 at the last step."""

    num_cycles: float = 0.5

    def _fall(self, step: jax.Array, num_train_steps: int) -> jax.Array:
        angle = 2.0 * jnp.pi * self.num_cycles * self._progress(step, num_train_steps)
        return jnp.maximum(0.0, 0.5 * (1.0 + jnp.cos(angle)))


@dataclasses.dataclass(frozen=True)
class CosineWithRestartsConfig(_WithWarmup):
    """Falls as a half cosine `num_cycles` times, each from `learning_rate`; 0 at the last step."""

    num_cycles: int = 1

    def _fall(self, step: jax.Array, num_train_steps: int) -> jax.Array:
        progress = self._progress(step, num_train_steps)
        wave = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.mod(self.num_cycles * progress, 1.0)))
        # The last step would start a new cycle.
        return jnp.where(progress >= 1.0, 0.0, wave)


@dataclasses.dataclass(frozen=True)
class PolynomialConfig(_WithWarmup):
    """Falls from `learning_rate` to `final_learning_rate` as a polynomial of degree `power`."""

    final_learning_rate: float = 1e-7
    power: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if self.final_learning_rate >= self.learning_rate:
            raise ValueError(
                "PolynomialConfig.final_learning_rate must be below learning_rate; got "
                f"{self.final_learning_rate!r} and {self.learning_rate!r}. Lower the former, "
                "or use ConstantWithWarmupConfig."
            )

    def make(self, num_train_steps: int) -> Schedule:
        def rate(step):
            step = _to_float(step)
            left = (1.0 - self._progress(step, num_train_steps)) ** self.power
            fallen = (self.learning_rate - self.final_learning_rate) * left
            rising = self.learning_rate * self._warm_up(step)
            # Not a product with the warmup, which rises from 0 and not from the final rate.
            return jnp.where(step < self.warmup_steps, rising, fallen + self.final_learning_rate)

        return rate


@dataclasses.dataclass(frozen=True)
class ConstantWithWarmupConfig(_WithWarmup):
    """Rises from 0 to `learning_rate` over the warmup, then stays."""


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
class InverseSquareRootConfig:
    """`learning_rate / sqrt(max(step, warmup_steps))`, T5's pretraining schedule.

    The warmup is flat: with T5's numbers (1.0 and 10,000) the rate is 0.01 for 10,000 steps.
    """

    learning_rate: float = 1.0
    warmup_steps: int = 10_000

    def __post_init__(self):
        _check_not_negative(self, "learning_rate", "warmup_steps")

    def make(self, num_train_steps: int) -> Schedule:
        del num_train_steps
        # At least 1, so that step 0 without a warmup is not a division by zero.
        first = max(1, self.warmup_steps)
        return lambda step: self.learning_rate / jnp.sqrt(jnp.maximum(_to_float(step), first))


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
