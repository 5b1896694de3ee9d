"""One update: a train state, frozen parameters and a batch in, the next train state out.

Only the trainable parameters are differentiated, so XLA computes no gradient of the backbone's
kernels and the optimiser holds no state for them. Nothing in a step waits for the host: the sums of
the log line and the number of the first step that was not finite stay on the device until somebody
reads them.
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

    The buffers of the state given are donated: use the one returned.

    Micro-batches bound the memory of activations. Without dropout the gradient is that of the whole
    batch under both reductions: under `sum` the micro-batches' gradients are added, under `mean`
    each counts by its tokens, so that the tokens of the whole batch are the denominator. (The
    original divides the sum by the number of micro-batches; before its clip at norm 1 and under
    Adam that factor changes next to nothing.) With dropout each micro-batch has a key of its own.

    Args:
        model: whose `loss` is minimised.
        tx: from `optimizer.make_optimizer`, with `schedule` inside.
        schedule: for the log alone.
        num_microbatches: parts that a batch is cut into; its size must divide.
        state_shardings: where the new state shall lie; by default where XLA puts it.

    Cost: one more copy of the trainable gradients if there are micro-batches.
    """
    gradient = functools.partial(_gradient, model)
    if num_microbatches > 1:
        gradient = functools.partial(_accumulated_gradient, model, num_microbatches)

    def train_step(state: TrainState, frozen: Params, batch: Batch):
        dropout_rng = jax.random.fold_in(state.rng, state.step)
        loss, sums, grads = gradient(state.trainable, frozen, batch, dropout_rng)
        grad_norm = optax.global_norm(grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.trainable)

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

    out_shardings = None if state_shardings is None else (state_shardings, None)
    return jax.jit(train_step, donate_argnums=0, out_shardings=out_shardings)


def _gradient(model, trainable, frozen, batch, dropout_rng):
    def loss_fn(trainable):
        params = trainable_lib.merge(trainable, frozen)
        return model.loss(params, batch, dropout_rng=dropout_rng)

    (loss, sums), grads = jax.value_and_grad(loss_fn, has_aux=True)(trainable)
    return loss, sums, grads


def _accumulated_gradient(model, num_microbatches, trainable, frozen, batch, dropout_rng):
    is_mean = model.loss_config.reduction == "mean"

    def cut(x):
        # Micro-batch i takes rows i, i + n, ...: on a mesh each device keeps rows it already has.
        return x.reshape(-1, num_microbatches, *x.shape[1:]).swapaxes(0, 1)

    def add(total, part):
        index, microbatch = part
        rng = jax.random.fold_in(dropout_rng, index)
        loss, sums, grads = _gradient(model, trainable, frozen, microbatch, rng)
        weight = sums["num_tokens"] if is_mean else 1.0
        weighted = jax.tree.map(lambda x: x * weight, (loss, grads))
        return jax.tree.map(jnp.add, total, (*weighted, sums)), None

    def shapes(batch):
        loss, sums, grads = _gradient(model, trainable, frozen, batch, dropout_rng)
        return loss, grads, sums

    microbatches = jax.tree.map(cut, batch)
    first = jax.tree.map(lambda x: x[0], microbatches)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(shapes, first))
    parts = (jnp.arange(num_microbatches), microbatches)
    (loss, grads, sums), _ = jax.lax.scan(add, zeros, parts)
    if is_mean:
        denominator = jnp.maximum(sums["num_tokens"], 1.0)
        loss, grads = jax.tree.map(lambda x: x / denominator, (loss, grads))
    return loss, sums, grads
