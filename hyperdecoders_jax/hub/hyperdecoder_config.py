"""Configuration of an exported model for transformers: T5's fields, and those of what adapts it.

T5's sizes are in T5's own fields only; adapters and gates are beside them, as
`modeling.config.to_dict` writes them. Importing this module, which needs transformers 4.57 or 5,
registers the class with `AutoConfig`. Source: transformers, T5Config.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import transformers

from hyperdecoders_jax import errors, types
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import exported_folder, fingerprints

# How the model was trained and written: nothing that its arrays depend on.
_RECORD = {
    **dict.fromkeys(("task_feature_lengths", "decoding", "vocabulary", "step", "made_by")),
    "format_version": exported_folder.VERSION,
}


class HyperdecoderConfig(transformers.T5Config):
    """Configuration of a T5 and of what adapts it.

    >>> config = HyperdecoderConfig(
    ...     decoder_adapter={"source": "manual_specific"}, num_tasks=2, task_names=["cola", "sst2"]
    ... )
    >>> config.transformer_config.decoder_adapter.source, config.task_id("sst2")
    ('manual_specific', 1)

    Adapters are fields of an `AdapterConfig`, hypergrids of a `HyperGridConfig`, numbers of tasks
    those of `TransformerConfig`; the order of `task_names` numbers the tasks. `**kwargs` are fields
    of T5Config, and a record of the training: `task_feature_lengths` (tokens of inputs and
    targets), `decoding` (of the run's predictions, as in an adapter folder), `vocabulary` (its
    `num_sentinels` and `fingerprint`), `step` (of the checkpoint), `format_version` (of the folder)
    and `made_by` (the package that wrote it).
    Raises ValueError for unknown or invalid fields, or those of a later version.
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
        **kwargs,
    ):
        self.encoder_adapter = encoder_adapter or {"source": "none"}
        self.decoder_adapter = decoder_adapter or {"source": "none"}
        self.encoder_hypergrid = encoder_hypergrid
        self.decoder_hypergrid = decoder_hypergrid
        self.num_tasks, self.num_trained_tasks = num_tasks, num_trained_tasks
        self.task_names = list(task_names)  # As JSON reads it, for equal configurations.
        for name, default in _RECORD.items():
            setattr(self, name, kwargs.pop(name, default))
        # Of the weights in the folder it came from: it must not be saved beside others.
        kwargs.pop(fingerprints.FIELD, None)
        defaults = {
            # T5Config has none, and `generate` cannot start without it.
            "decoder_start_token_id": types.DECODER_START_ID,
            # transformers 5.0 would say True of every T5, though a head of its own is not scaled.
            "scale_decoder_outputs": kwargs.get("tie_word_embeddings") is not False,
        }
        super().__init__(**defaults | kwargs)
        if self.format_version != exported_folder.VERSION:
            raise ValueError(
                f"An exported model must be of format_version {exported_folder.VERSION}; this one "
                f"is of {self.format_version!r}, made by {self.made_by}. Update hyperdecoders_jax."
            )
        self.transformer_config  # noqa: B018  An invalid field is an error here.

    @property
    def transformer_config(self) -> TransformerConfig:
        """This package's configuration of the model."""
        return exported_folder.config_from_json(self.to_dict())

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs) -> None:
        """Saves as all configurations do; names the code of an export only where it is saved."""
        # transformers saves the code with classes that it loaded from there, which have this.
        if self._auto_class is None:
            vars(self).pop("auto_map", None)
        super().save_pretrained(save_directory, *args, **kwargs)

    def get_text_config(
        self, decoder: bool | None = None, encoder: bool | None = None
    ) -> HyperdecoderConfig:
        """This configuration; for the decoder with the decoder's number of layers."""
        if not decoder or encoder:
            return self
        # transformers makes caches for `num_layers` of it, which of a T5 is the encoder's number.
        of_decoder = copy.copy(self)  # Callers may keep this one.
        of_decoder.num_layers = self.num_decoder_layers
        return of_decoder

    def task_id(self, task: str) -> int:
        """The number of a task, for `task_ids`; ValueError if unknown and not adapted to."""
        if task in self.task_names:
            return self.task_names.index(task)
        if self.transformer_config.accepts_unseen_tasks:
            return types.UNSEEN_TASK_ID
        hint = errors.suggestion(task, self.task_names)
        raise ValueError(f"The task must be one of {tuple(self.task_names)}; got {task!r}.{hint}")


transformers.AutoConfig.register(HyperdecoderConfig.model_type, HyperdecoderConfig, exist_ok=True)
