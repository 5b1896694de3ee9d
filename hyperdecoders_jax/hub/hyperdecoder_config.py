"""The `config.json` of an exported folder as transformers reads it, into a configuration of ours.

T5's sizes stand in T5's own fields and nowhere else; what adapts it stands beside them, as
`modeling.config.to_dict` writes it. Importing this module lets `AutoConfig` know the class; it
needs transformers, 4.57 or 5.

Source: transformers, T5Config.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import transformers

from hyperdecoders_jax import errors, types
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import exported_folder


class HyperdecoderConfig(transformers.T5Config):
    """A T5 and what adapts it.

    >>> config = HyperdecoderConfig(
    ...     decoder_adapter={"source": "manual_specific"}, num_tasks=2, task_names=["cola", "sst2"]
    ... )
    >>> config.transformer_config.decoder_adapter.source, config.task_id("sst2")
    ('manual_specific', 1)

    Args:
      encoder_adapter: fields of an `AdapterConfig`; None: no adapters. So are the next three.
      decoder_adapter: what adapts the decoder.
      encoder_hypergrid: fields of a `HyperGridConfig`; None: no gates.
      decoder_hypergrid: those of the decoder.
      num_tasks: see `TransformerConfig`.
      num_trained_tasks: see `TransformerConfig`.
      task_names: the ordered list that numbers tasks.
      task_feature_lengths: tokens of inputs and targets in training.
      decoding: how the run's predictions were made, as an adapter folder has it.
      vocabulary: `num_sentinels` and `fingerprint` of that of training.
      step: of the checkpoint.
      format_version: of the folder.
      made_by: the package that wrote it.
      **kwargs: of T5Config.

    Raises:
      ValueError: a field is unknown, its value is no good, or a later version wrote it.
    """

    model_type = exported_folder.MODEL_TYPE

    def __init__(
        self,
        encoder_adapter: Mapping[str, Any] | None = None,
        decoder_adapter: Mapping[str, Any] | None = None,
        encoder_hypergrid: Mapping[str, Any] | None = None,
        decoder_hypergrid: Mapping[str, Any] | None = None,
        num_tasks: int | None = None,
        num_trained_tasks: int | None = None,
        task_names: Sequence[str] = (),
        task_feature_lengths: Mapping[str, int] | None = None,
        decoding: Mapping[str, Any] | None = None,
        vocabulary: Mapping[str, Any] | None = None,
        step: int | None = None,
        format_version: int = exported_folder.VERSION,
        made_by: str | None = None,
        **kwargs,
    ):
        self.encoder_adapter = encoder_adapter or {"source": "none"}
        self.decoder_adapter = decoder_adapter or {"source": "none"}
        self.encoder_hypergrid = encoder_hypergrid
        self.decoder_hypergrid = decoder_hypergrid
        self.num_tasks = num_tasks
        self.num_trained_tasks = num_trained_tasks
        self.task_names = list(task_names)
        self.task_feature_lengths = task_feature_lengths
        self.decoding = decoding
        self.vocabulary = vocabulary
        self.step = step
        self.format_version = format_version
        self.made_by = made_by
        super().__init__(**{"decoder_start_token_id": types.DECODER_START_ID, **kwargs})
        if format_version != exported_folder.VERSION:
            raise ValueError(
                f"An exported model must be of format_version {exported_folder.VERSION}; this one "
                f"is of {format_version!r}, made by {made_by}. Update hyperdecoders_jax."
            )
        self.transformer_config  # noqa: B018  A field that is no good is an error here.

    @property
    def transformer_config(self) -> TransformerConfig:
        """The model, as this package configures it."""
        return exported_folder.config_from_json(self.to_dict())

    def get_text_config(
        self, decoder: bool | None = None, encoder: bool | None = None
    ) -> HyperdecoderConfig:
        """As of every configuration; the decoder's has as many layers as the decoder.

        transformers makes a cache for the layers that it counts there, and of a T5 it would count
        the encoder's.
        """
        if not decoder or encoder:
            return self
        of_decoder = copy.copy(self)
        of_decoder.num_layers = self.num_decoder_layers
        return of_decoder

    def task_id(self, task: str) -> int:
        """The number of a task, for `task_ids`.

        Raises:
          ValueError: there is no such task, and what adapts the model has nothing for it.
        """
        if task in self.task_names:
            return self.task_names.index(task)
        if self.transformer_config.accepts_unseen_tasks:
            return types.UNSEEN_TASK_ID
        raise ValueError(
            f"The task must be one of {tuple(self.task_names)}, which this model was trained on; "
            f"got {task!r}.{errors.suggestion(task, self.task_names)}"
        )


transformers.AutoConfig.register(HyperdecoderConfig.model_type, HyperdecoderConfig, exist_ok=True)
