"""Our model behind T5X's interface: losses, metrics, predictions and scores.

A thin layer over the three verbs of `hyperdecoders_jax.model.Model`. What T5X's models take as
arguments is configured as for our runner: the loss in `LossConfig`, decoding in `Model.decoding`.
So an example is encoded once, and its adapters are generated once, under both runners.
Source: specified by t5x/models.py, BaseTransformerModel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import flax.core
import jax
import jax.numpy as jnp
import seqio
from absl import logging
from jaxtyping import Array, Float, Int, PRNGKeyArray
from t5x import metrics as t5x_metrics
from t5x import models, optimizers

from hyperdecoders_jax import losses, types
from hyperdecoders_jax.data import feature_converter
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.t5x import evaluation
from hyperdecoders_jax.t5x import optimizers as our_optimizers
from hyperdecoders_jax.types import Batch, Params

# A batch as T5X passes it: the fields of a `Batch` by name.
Features = Mapping[str, Array]


class HyperdecoderModel(models.BaseTransformerModel):
    """A `Model` behind T5X's interface.

    T5X adds up the gradients of micro-batches. That is right for `LossConfig.reduction = 'sum'`;
    under 'mean' the gradient is too large by the number of micro-batches, which affects clipping by
    a norm but neither Adafactor nor Adam. T5X gives each micro-batch of a step the same key of
    dropout.
    T5X compares the vocabularies with those of the data; `optimizer_def` is None without training.
    `task_names` is the ordered list that numbers tasks, as in `tasks.register_task_ids`, for
    methods that tell tasks apart; see `Model.for_tasks`. With a `random_seed` drawn parameters
    equal those of our own runner; None: T5X's own random state. `loss_normalizing_factor` is a
    setting of T5X's model files that must be None here, a ValueError otherwise.
    """

    FEATURE_CONVERTER_CLS = feature_converter.TaskIdFeatureConverter

    def __init__(
        self,
        model: Model,
        input_vocabulary: seqio.Vocabulary,
        output_vocabulary: seqio.Vocabulary,
        optimizer_def: optimizers.OptimizerDefType | None = None,
        task_names: Sequence[str] | None = None,
        random_seed: int | None = None,
        loss_normalizing_factor: float | None = None,
    ):
        if loss_normalizing_factor is not None:
            raise ValueError(
                "LOSS_NORMALIZING_FACTOR must be None, since LossConfig.reduction ('sum' or 'mean')"
                f" says how losses are added; got {loss_normalizing_factor}. Set it to None."
            )
        if model.config.compute.logits_chunk is not None:
            logging.warning(
                "LOGITS_CHUNK is read by our own runner alone, since T5X's metrics need all logits;"
                " got %s, and all exist at a time. For less memory raise NUM_MICROBATCHES.",
                model.config.compute.logits_chunk,
            )
        self.model = model.for_tasks(task_names)
        if not self.model.config.reads_tasks:
            self.FEATURE_CONVERTER_CLS = feature_converter.AnyTaskFeatureConverter
        self._random_seed = random_seed
        if optimizer_def is not None:
            our_optimizers.add_factor_rules(optimizer_def)
        super().__init__(
            self.model.module, input_vocabulary, output_vocabulary, optimizer_def=optimizer_def
        )

    def get_initial_variables(
        self,
        rng: PRNGKeyArray,
        input_shapes: Mapping[str, Sequence[int]],
        input_types: Mapping[str, jnp.dtype] | None = None,
    ) -> flax.core.FrozenDict:
        """Random `params` and their `params_axes`, which do not depend on the inputs."""
        if self._random_seed is not None:
            rng = jax.random.key(self._random_seed)
        return flax.core.freeze(self.model.init_variables(rng))

    def loss_fn(
        self, params: Params, batch: Features, dropout_rng: PRNGKeyArray | None
    ) -> tuple[Float[Array, ""], models.MetricsMap]:
        """The loss of our own runner, and T5X's metrics; no dropout without a `dropout_rng`.

        The metric `loss` is what is minimised; metrics per token divide the sum over all tokens.
        """
        logits = self._compute_logits(params, batch, dropout_rng)
        targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
        loss, sums = losses.cross_entropy(logits, targets, weights, self.model.loss_config)
        # In place of segment ids, by which T5X measures padding: 0 is padding there.
        is_real = {
            name: batch[name] != types.PAD_ID
            for name in ("encoder_input_tokens", "decoder_target_tokens")
        }
        metrics = self._compute_metrics(
            logits=logits,
            targets=targets,
            mask=weights,
            # The sum, whatever the reduction: T5X divides by the weights itself.
            loss=sums["loss_sum"],
            z_loss=sums["z_loss_sum"],
            segment_ids=is_real,
        )
        return loss, {**metrics, "loss": t5x_metrics.AveragePerStep(total=loss)}

    def predict_batch_with_aux(
        self,
        params: Params,
        batch: Features,
        rng: PRNGKeyArray | None = None,
        decoder_params: Mapping[str, object] | None = None,
        return_all_decodes: bool = False,
        num_decodes: int | None = None,
    ) -> tuple[Int[Array, "batch *n dec_len"], dict[str, Float[Array, "batch *n"]]]:
        """Decodes at most as many tokens as the batch's targets have positions.

        `evaluation.Evaluator` may give a task a length and beams of its own.

        Decoding is configured in `Model.decoding`; `decoder_params` or `num_decodes` is a
        ValueError. `rng` is for sampling. `return_all_decodes` gives all decodes, the best one last
        as in T5X; otherwise only the best. Returns tokens, and for metrics `scores`
        (log-likelihoods, EOS included), `num_tokens` (generated, EOS included) and
        `batch_num_tokens` (the most in the batch; T5X pads a task's last batch with copies of its
        first example, which count here).
        """
        changed = {"decoder_params": decoder_params, "num_decodes": num_decodes}
        changed = {name: value for name, value in changed.items() if value}
        if changed:
            raise ValueError(
                f"HyperdecoderModel decodes as its Model.decoding says; got {changed}. Set it by "
                "a file of gin_configs/decoding, such as beam4.gin, and its macros."
            )
        # Shapes, so static: another length would be another compiled program.
        model, max_len = evaluation.decoding_of(self.model, batch)
        decoded = model.predict(params, _batch(batch), rng, max_len=max_len)
        # Ours are ordered from the best, T5X's to the best.
        decoded = jax.tree.map(lambda x: x[:, ::-1] if return_all_decodes else x[:, 0], decoded)
        num_tokens = jnp.sum(decoded.tokens != types.PAD_ID, axis=-1)
        return decoded.tokens, {
            "scores": decoded.log_likelihoods,
            "num_tokens": num_tokens,
            "batch_num_tokens": jnp.full_like(num_tokens, jnp.max(num_tokens)),
        }

    def score_batch(self, params: Params, batch: Features) -> Float[Array, " batch"]:
        """Log-likelihoods of the targets."""
        return jnp.sum(self.model.score(params, _batch(batch)), axis=1)

    def _compute_logits(
        self, params: Params, batch: Features, dropout_rng: PRNGKeyArray | None = None
    ) -> Float[Array, "batch dec_len vocab"]:
        return self.model.logits(params, _batch(batch), dropout_rng)


def _batch(features: Features) -> Batch:
    # Of packed rows alone a batch has all of its fields.
    known = {field.name for field in dataclasses.fields(Batch)}
    return Batch(**{name: value for name, value in features.items() if name in known})
