"""Float32 cross entropy with z-loss and label smoothing, as in the original or t5x/losses.py."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hyperdecoders_jax import errors

SMOOTHINGS = ("hyperdecoders", "t5x")
REDUCTIONS = ("sum", "mean")


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The loss that training minimises.

    `hyperdecoders` smoothing spreads eps over all of the vocabulary, the target included. `t5x`
    spreads it over all others, and subtracts the entropy of the smoothed target, so that a perfect
    model has loss 0.
    """

    label_smoothing: float = 0.0  # eps in [0, 1); the probability taken from the target
    smoothing: str = "hyperdecoders"
    reduction: str = "sum"  # over the target tokens of a batch; or "mean"
    z_loss: float = 0.0  # weight of log(Z)**2, which keeps logits near normalised (T5X: 1e-4)

    def __post_init__(self):
        check = functools.partial(errors.check_field, self)
        for field, choices in (("smoothing", SMOOTHINGS), ("reduction", REDUCTIONS)):
            advice = f"Set LossConfig.{field} to one of them."
            check(field, getattr(self, field) in choices, f"be one of {choices}", advice)
        advice = "The paper uses 0.1; 0.0 turns it off."
        is_share = errors.is_number(self.label_smoothing) and 0.0 <= self.label_smoothing < 1.0
        check("label_smoothing", is_share, "be in [0, 1)", advice)
        advice = "T5X pretrains with 1e-4; 0.0 turns it off."
        is_weight = errors.is_number(self.z_loss) and self.z_loss >= 0.0
        check("z_loss", is_weight, "be a finite number, not negative", advice)


def token_log_likelihoods(
    logits: Float[Array, "*lead vocab"], targets: Int[Array, "*lead"]
) -> Float[Array, "*lead"]:
    """Log-probability of the target at every position.

    >>> token_log_likelihoods(jnp.zeros((1, 4)), jnp.array([2])).round(4)
    Array([-1.3863], dtype=float32)
    """
    logits = logits.astype(jnp.float32)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def cross_entropy(
    logits: Float[Array, "batch dec_len vocab"],
    targets: Int[Array, "batch dec_len"],
    weights: Float[Array, "batch dec_len"] | Int[Array, "batch dec_len"],
    config: LossConfig,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The loss of a batch, and sums over its target tokens, which have a weight of 1.

    The sums add up over micro-batches: `loss_sum` (before its reduction), `z_loss_sum` (a part of
    it), `num_tokens` and `num_correct` (argmax equals target).
    """
    logits = logits.astype(jnp.float32)
    weights = weights.astype(jnp.float32)
    vocab_size = logits.shape[-1]
    log_z = jax.nn.logsumexp(logits, axis=-1)
    nll = log_z - jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    # Mean over the vocabulary of -log p; smoothing needs no one-hot targets.
    mean_nll = log_z - jnp.mean(logits, axis=-1)

    eps = config.label_smoothing
    if config.smoothing == "hyperdecoders":
        per_token = (1.0 - eps) * nll + eps * mean_nll
    else:
        # T5X smooths with a one-hot matrix [.., vocab]; these sums are equal and need none.
        other = eps / (vocab_size - 1)  # the probability of each token that is not the target
        per_token = (1.0 - eps - other) * nll + other * vocab_size * mean_nll
        if eps > 0.0:
            per_token += (1.0 - eps) * math.log(1.0 - eps) + eps * math.log(other)
    z_loss = config.z_loss * jnp.square(log_z)

    num_tokens = jnp.sum(weights)
    loss_sum = jnp.sum((per_token + z_loss) * weights)
    metrics = {
        "loss_sum": loss_sum,
        "z_loss_sum": jnp.sum(z_loss * weights),
        "num_tokens": num_tokens,
        "num_correct": jnp.sum((jnp.argmax(logits, axis=-1) == targets) * weights),
    }
    return _reduce(metrics, config), metrics


def chunked_cross_entropy(
    make_logits: Callable[[Float[Array, "batch chunk emb"]], Float[Array, "batch chunk vocab"]],
    states: Float[Array, "batch dec_len emb"],
    targets: Int[Array, "batch dec_len"],
    weights: Float[Array, "batch dec_len"] | Int[Array, "batch dec_len"],
    config: LossConfig,
    chunk: int,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """`cross_entropy` of `make_logits(states)`, of which only `chunk` positions exist at a time.

    Cost: the backward pass makes each chunk's logits again.
    """
    length = targets.shape[1]
    num_chunks = -(-length // chunk)

    def cut(x):  # [chunks, batch, chunk, ...]; positions that fill the last chunk weigh nothing.
        padding = [(0, 0), (0, num_chunks * chunk - length)] + [(0, 0)] * (x.ndim - 2)
        x = jnp.pad(x, padding).reshape(x.shape[0], num_chunks, chunk, *x.shape[2:])
        return jnp.moveaxis(x, 1, 0)

    @jax.checkpoint
    def add(total, part):
        states, targets, weights = part
        _, sums = cross_entropy(make_logits(states), targets, weights, config)
        return jax.tree.map(jnp.add, total, sums), None

    names = ("loss_sum", "z_loss_sum", "num_tokens", "num_correct")
    zeros = {name: jnp.zeros((), jnp.float32) for name in names}
    parts = jax.tree.map(cut, (states, targets, weights))
    metrics, _ = jax.lax.scan(add, zeros, parts)
    return _reduce(metrics, config), metrics


def _reduce(sums: dict[str, Float[Array, ""]], config: LossConfig) -> Float[Array, ""]:
    if config.reduction == "mean":
        # A batch of nothing but padding gives 0, not NaN.
        return sums["loss_sum"] / jnp.maximum(sums["num_tokens"], 1.0)
    return sums["loss_sum"]
