"""Optimisers: optax transformations of the trainable parameters, made from a config and a schedule.

Clip by the global norm, precondition, scale by the learning rate: in this order, as in Hugging
Face's trainer. Frozen parameters are never seen, so they have no state. The schedule is inside, and
counts from the run's first update; the trainer logs it at the same step.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import optax

from hyperdecoders_jax import errors
from hyperdecoders_jax.training.schedules import Schedule
from hyperdecoders_jax.types import Params, PyTree


class OptimizerConfig(Protocol):
    """What every optimiser class of this module offers."""

    @property
    def clip_norm(self) -> float | None:
        """The largest global norm of gradients; None: any."""

    def precondition(self) -> optax.GradientTransformation:
        """Returns the transformation between the clip and the learning rate."""


def _check_clip_norm(config: OptimizerConfig) -> None:
    if config.clip_norm is not None and not config.clip_norm > 0:
        raise ValueError(
            f"{type(config).__name__}.clip_norm must be above 0; got {config.clip_norm!r}. "
            "Give None to switch clipping off."
        )


def scale_by_hugging_face_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam with `eps` added before the second moment's bias is corrected; optax adds it after.

    The update is sqrt(1 - b2^t) / (1 - b1^t) · m / (sqrt(v) + eps), so an `eps` of 1e-8 acts as eps
    / sqrt(1 - b2^t) = 3.2e-7 beside the corrected root at the first step. Adapters that start near
    zero have gradients of that size. Source: transformers 4.14.1, optimization.AdamW.
    """

    def init(params):
        zeros = functools.partial(jax.tree.map, jnp.zeros_like)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), mu=zeros(params), nu=zeros(params))

    def correction(decay, count):
        # 1 - decay^count, without the digits that the subtraction loses in float32: at the first
        # steps of b2 = 0.999 it is near 0.
        return -jnp.expm1(count * (math.log(decay) if decay else -math.inf))

    def update(grads, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        # In Hugging Face's order of operations, so that float32 rounds alike.
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
        scale = jnp.sqrt(correction(b2, count)) / correction(b1, count)
        updates = jax.tree.map(lambda m, v: scale * m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def is_decayed(path: Sequence[str]) -> bool:
    """Whether weight decay applies to a parameter: not to biases and layer norms.

    >>> is_decayed(("decoder", "layers_0", "mlp", "wo", "kernel"))
    True
    >>> is_decayed(("decoder_adapters", "down_bias")), is_decayed(("encoder_norm", "scale"))
    (False, False)
    """
    # Hugging Face calls T5's embedding of relative positions relative_attention_bias: a bias.
    return not (path[-1].endswith("bias") or path[-1] in ("scale", "rel_embedding"))


def _decay(weight_decay: float) -> optax.GradientTransformation:
    # Evaluated by optax on the trainable tree, since paths are known there only.
    def mask(params):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: is_decayed([str(key.key) for key in path]), params
        )

    return optax.add_decayed_weights(weight_decay, mask)


@dataclasses.dataclass(frozen=True)
class AdamWConfig:
    """Hugging Face's Adam with decoupled weight decay; the defaults are the original's.

    See `scale_by_hugging_face_adam`, and `is_decayed` for what decays. Here the parameter before
    the step decays, there the one after it: they differ by a factor of 1 - learning rate.
    """

    b1: float = 0.9  # Decay of the mean of gradients, in [0, 1).
    b2: float = 0.999  # Decay of the mean of squared gradients, in [0, 1).
    eps: float = 1e-8  # Added to the second moment's root before its bias is corrected.
    weight_decay: float = 0.0  # Per step, times the learning rate.
    clip_norm: float | None = 1.0  # Largest global norm of the gradient; None: no clipping.

    def __post_init__(self):
        for name in ("b1", "b2"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(
                    f"AdamWConfig.{name} must be in [0, 1); got {value!r}. Set it, as to 0.9."
                )
        _check_clip_norm(self)

    def precondition(self) -> optax.GradientTransformation:
        adam = scale_by_hugging_face_adam(self.b1, self.b2, self.eps)
        return optax.chain(adam, _decay(self.weight_decay)) if self.weight_decay else adam


@dataclasses.dataclass(frozen=True)
class AdafactorConfig:
    """Adafactor without relative step and first moment, as in the original.

    A parameter of two axes or more keeps one row and one column of second moments, over its two
    longest axes; a parameter of one axis keeps them all. One with a `layers` axis is one parameter,
    where the original has one for each layer: its updates are clipped together, and its moments are
    factored across layers if that axis is one of its two longest, as in manual biases [layers,
    emb].

    With `multiply_by_parameter_scale` an update is relative to the root mean square of its
    parameter (at least 1e-3), as T5 was pretrained; a learning rate of 0.01 is then 1 %. Not in the
    original, and not for parameters that start at zero.

    Source: Shazeer & Stern 2018 (arXiv:1804.04235), algorithms 4 and 5.
    """

    decay_rate: float = 0.8  # At step t by 1 - t^-decay_rate; Hugging Face writes -0.8 for 0.8.
    clip_threshold: float = 1.0  # Largest root mean square of one parameter's update.
    eps: float = 1e-30  # Added to squared gradients.
    weight_decay: float = 0.0  # Per step, times the learning rate.
    clip_norm: float | None = 1.0  # Largest global norm of the gradient; None: no clipping.
    multiply_by_parameter_scale: bool = False

    def __post_init__(self):
        _check_clip_norm(self)
        errors.check_bools(self)
        if not self.decay_rate > 0:
            raise ValueError(
                "AdafactorConfig.decay_rate must be above 0, the second moment decays by "
                f"1 - t^-decay_rate; got {self.decay_rate!r}. Give 0.8 for Hugging Face's -0.8."
            )

    def precondition(self) -> optax.GradientTransformation:
        parts = [
            # Hugging Face factors every parameter of two axes, optax those of 128 rows and columns.
            optax.scale_by_factored_rms(
                decay_rate=self.decay_rate, epsilon=self.eps, min_dim_size_to_factor=1
            ),
            optax.clip_by_block_rms(self.clip_threshold),
        ]
        if self.multiply_by_parameter_scale:
            parts.append(optax.scale_by_param_block_rms())
        if self.weight_decay:
            parts.append(_decay(self.weight_decay))
        return optax.chain(*parts)


def make_optimizer(config: OptimizerConfig, schedule: Schedule) -> optax.GradientTransformation:
    """Returns clip, optimiser and learning rate as one transformation."""
    # Without a clip an identity, so that the state's tree, and checkpoints with it, stay the same.
    clip = optax.identity()
    if config.clip_norm is not None:
        clip = optax.clip_by_global_norm(config.clip_norm)
    return optax.chain(clip, config.precondition(), optax.scale_by_learning_rate(schedule))


def checkpoint_bytes(trained: Params, optimizer: OptimizerConfig) -> tuple[int, int]:
    """Bytes of a checkpoint's parameters and of its optimiser state, uncompressed."""
    tx = make_optimizer(optimizer, lambda step: 0.0)
    return _num_bytes(trained), _num_bytes(jax.eval_shape(tx.init, dict(trained)))


def _num_bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
