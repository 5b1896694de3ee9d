"""The train step: one jitted update of the trainable parameters.

Only they are differentiated, so XLA computes no gradient of the backbone's kernels. Nothing waits
for the host: the log line's sums and the first bad step stay on the device until they are read.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from hyperdecoders_jax.model import Model
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.training.schedules import Schedule
from hyperdecoders_jax.training.train_state import TrainState
from hyperdecoders_jax.types import Batch, Params, PyTree

StepMetrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Params, Batch], tuple[TrainState, StepMetrics]]


def make_train_step(
    model: Model,
    tx: optax.GradientTransformation,
    schedule: Schedule,
    *,
    num_microbatches: int = 1,
    state_shardings: PyTree | None = None,
) -> TrainStep:
    """Returns the jitted step `(state, frozen, batch) -> (state, {"loss", "grad_norm"})`.

    The given state's buffers are donated: only the returned state may be used afterwards. `tx` has
    `schedule` inside, which is given for the log only. XLA chooses the shardings of the new state
    unless `state_shardings` says them.

    `num_microbatches` must divide the batch, and bound the memory of activations, at the cost of
    one more copy of the trainable gradients. Without dropout the gradient is the whole batch's:
    under `sum` theirs are added, under `mean` weighted by their tokens. (The original divides the
    sum by their number; before its clip at norm 1 and under Adam that changes next to nothing.)
    """
    gradient = functools.partial(_gradient, model)
    if num_microbatches > 1:
        gradient = functools.partial(_accumulated_gradient, model, num_microbatches)

    def train_step(state: TrainState, frozen: Params, batch: Batch):
        # Derived from the step, not split off: a resumed run draws what an unbroken one draws.
        dropout_rng = jax.random.fold_in(state.rng, state.step)
        loss, sums, grads = gradient(state.trainable, frozen, batch, dropout_rng)
        grad_norm = optax.global_norm(grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.trainable)

        # Noted here and acted upon by the host later: a check on the host would stall every step.
        number = state.step + 1
        is_bad = ~(jnp.isfinite(loss) & jnp.isfinite(grad_norm))
        old = state.metrics
        is_first = is_bad & (old.first_bad_step < 0)
        metrics = old.replace(
            num_steps=old.num_steps + 1,
            loss=old.loss + loss,
            loss_sum=old.loss_sum + sums["loss_sum"],
            num_tokens=old.num_tokens + sums["num_tokens"],
            num_correct=old.num_correct + sums["num_correct"],
            grad_norm=old.grad_norm + grad_norm,
            learning_rate=schedule(state.step),
            first_bad_step=jnp.where(is_first, number, old.first_bad_step),
        )
        new_state = state.replace(
            step=number,
            trainable=optax.apply_updates(state.trainable, updates),
            opt_state=opt_state,
            metrics=metrics,
        )
        return new_state, {"loss": loss, "grad_norm": grad_norm}

    # Pinned, or XLA may choose other shardings for the new state, and the second step recompiles.
    out_shardings = None if state_shardings is None else (state_shardings, None)
    # Donation lets XLA update parameters and moments in place, without a second copy of them.
    return jax.jit(train_step, donate_argnums=0, out_shardings=out_shardings)


def _gradient(model, trainable, frozen, batch, dropout_rng):
    # `frozen` is closed over, so it is a constant of the differentiation.
    def loss_fn(trainable):
        params = trainable_lib.merge(trainable, frozen)
        return model.loss(params, batch, dropout_rng=dropout_rng)

    (loss, sums), grads = jax.value_and_grad(loss_fn, has_aux=True)(trainable)
    return loss, sums, grads


def _accumulated_gradient(model, num_microbatches, trainable, frozen, batch, dropout_rng):
    is_mean = model.loss_config.reduction == "mean"

    def cut(x):
        # Micro-batch i takes rows i, i + n, …, so that on a mesh each device keeps the rows that it
        # has: contiguous micro-batches would be on some of the devices only.
        return x.reshape(-1, num_microbatches, *x.shape[1:]).swapaxes(0, 1)

    def add(total, part):
        index, microbatch = part
        rng = jax.random.fold_in(dropout_rng, index)
        loss, sums, grads = _gradient(model, trainable, frozen, microbatch, rng)
        weight = sums["num_tokens"] if is_mean else 1.0
        weighted = jax.tree.map(lambda x: x * weight, (loss, grads))
        return jax.tree.map(jnp.add, total, (*weighted, sums)), None

    microbatches = jax.tree.map(cut, batch)
    first = jax.tree.map(lambda x: x[0], microbatches)
    gradient = functools.partial(_gradient, model, trainable, frozen)
    loss, sums, grads = jax.eval_shape(gradient, first, dropout_rng)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (loss, grads, sums))
    parts = (jnp.arange(num_microbatches), microbatches)
    # A scan compiles one micro-batch, and frees its activations before the next.
    (loss, grads, sums), _ = jax.lax.scan(add, zeros, parts)
    if is_mean:
        # At least 1: a batch of padding alone has gradient zero, not NaN.
        denominator = jnp.maximum(sums["num_tokens"], 1.0)
        loss, grads = jax.tree.map(lambda x: x / denominator, (loss, grads))
    return loss, sums, grads
