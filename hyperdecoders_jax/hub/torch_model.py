"""The model in PyTorch, with transformers' `generate`; exports can carry it (`remote_code`).

T5's parameters have transformers' names, the others ours. `encode` computes states, and the
decoder's adapters and gates, once per input; `generate` keeps them for all steps and beams.
Source: Ivison & Peters 2022 (arXiv:2203.08304); transformers' T5ForConditionalGeneration.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, EncoderDecoderCache, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.t5.modeling_t5 import T5PreTrainedModel
from transformers.utils import can_return_tuple

from hyperdecoders_jax import types
from hyperdecoders_jax.hub import torch_adapters, torch_hypergrid, torch_hypernetworks, torch_stack
from hyperdecoders_jax.hub.hyperdecoder_config import HyperdecoderConfig
from hyperdecoders_jax.hub.torch_hypergrid import Gates
from hyperdecoders_jax.hub.torch_hypernetworks import Adapters

# The cache in an output, which transformers 5.24 renamed.
_FIELDS = {field.name for field in dataclasses.fields(Seq2SeqLMOutput)}
_CACHE = "cache" if "cache" in _FIELDS else "past_key_values"


@dataclasses.dataclass
class EncoderOutput(BaseModelOutput):
    """All that a decoder knows of its inputs."""

    mask: Bool[Tensor, "rows enc_len"] | None = None  # True at real tokens.
    # For beams `generate` repeats tensors at the top level, mask and states, but not these.
    adapters: Adapters | None = None
    gates: Sequence[Gates] | None = None


def _with_newer_name(forward: Callable[..., Seq2SeqLMOutput]) -> Callable[..., Seq2SeqLMOutput]:
    """Takes the argument `cache`, too, for `past_key_values`."""

    @functools.wraps(forward)
    def renamed(*args, cache: EncoderDecoderCache | None = None, **kwargs) -> Seq2SeqLMOutput:
        return forward(*args, **kwargs if cache is None else kwargs | {"past_key_values": cache})

    return renamed


class HyperdecoderForConditionalGeneration(T5PreTrainedModel, GenerationMixin):
    """An adapted T5 with the interface of T5ForConditionalGeneration. What differs:

    - Padding is never read, with or without an `attention_mask`; either side may be padded.
    - A model with parameters for each task needs `task_ids`.
    - Attention weights and hidden states of each layer are not returned, and there is no gradient
      checkpointing. A decoder may be deeper than its encoder.
    """

    config_class = HyperdecoderConfig
    config: HyperdecoderConfig
    # transformers reads these; accelerate keeps each such module on one device.
    _no_split_modules = ("Block",)
    supports_gradient_checkpointing = False
    # A step of decoding is one graph; inputs are encoded before.
    _can_compile_fullgraph = True

    def __init__(self, config: HyperdecoderConfig):
        super().__init__(config)
        self.transformer_config = ours = config.transformer_config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        for side in ("encoder", "decoder"):
            # transformers' layers read these two fields of a configuration of their own stack.
            of_side = copy.deepcopy(config)
            of_side.is_decoder = side == "decoder"
            of_side.num_layers = getattr(ours, f"num_{side}_layers")
            reads_normed = getattr(ours, f"{side}_adapter").norm_input
            self.add_module(side, torch_stack.Stack(of_side, reads_normed))
        if not ours.logits_via_embedding:
            self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.encoder_adapters = torch_adapters.make(ours, "encoder")
        self.encoder_first_pass_adapters = torch_adapters.make_first_pass(ours)
        self.decoder_adapters = torch_adapters.make(ours, "decoder")
        self.encoder_hypergrid = torch_hypergrid.make(ours, "encoder")
        self.decoder_hypergrid = torch_hypergrid.make(ours, "decoder")
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.shared

    def set_input_embeddings(self, new_embeddings: nn.Embedding) -> None:
        self.shared = new_embeddings

    def tie_weights(self, *args, **kwargs) -> None:
        """Does nothing: a model whose embedding makes the logits has no `lm_head`."""

    def prepare_decoder_input_ids_from_labels(
        self, labels: Int[Tensor, "batch dec_len"]
    ) -> Int[Tensor, "batch dec_len"]:
        """The labels after the start token, as collators of batches ask for them."""
        return self._shift_right(labels)

    def get_encoder(self, modality: str | None = None) -> InputEncoder:
        """The encoder that `generate` calls once."""
        return InputEncoder(self)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # T5's own modules.
        if isinstance(module, torch_hypernetworks.Learned):
            module.reset()
        elif module is self:
            nn.init.normal_(self.shared.weight)
            if not self.transformer_config.logits_via_embedding:
                nn.init.normal_(self.lm_head.weight, std=self.config.d_model**-0.5)

    def encode(
        self,
        input_ids: Int[Tensor, "batch enc_len"],
        attention_mask: Int[Tensor, "batch enc_len"] | None = None,
        task_ids: Int[Tensor, "*batch"] | Sequence[int] | int | None = None,
    ) -> EncoderOutput:
        """Encodes the inputs and computes each example's adapters and gates.

        Padding is never read; `attention_mask` hides further tokens. Models with parameters for
        each task need `task_ids`, one per example or one for all, as `config.task_id` gives them.
        Raises ValueError if these are missing, or not of the model's tasks.
        """
        mask = input_ids != types.PAD_ID  # [batch, enc_len]
        if attention_mask is not None:
            mask &= attention_mask.bool()
        task_ids = self._check_tasks(task_ids, input_ids)
        embedded = self.shared(input_ids)

        def gates_of(grid, layer, states):
            return {} if grid is None else grid(layer, states, mask, task_ids)

        def run(source, pooled=None):
            adapters = {} if source is None else source(pooled, task_ids)
            make_gates = functools.partial(gates_of, self.encoder_hypergrid)
            return self.encoder(embedded, mask, adapters, make_gates)

        # Adapters written from the encoder's own output need it first: the encoder runs twice.
        pooled = None
        if self.encoder_first_pass_adapters is not None:
            states = run(self.encoder_first_pass_adapters)
            pooled = torch_adapters.masked_mean(states, mask)  # [batch, emb]
        encoded = run(self.encoder_adapters, pooled)
        adapters = {}
        if self.decoder_adapters is not None:
            adapters = self.decoder_adapters(torch_adapters.masked_mean(encoded, mask), task_ids)
        layers = range(self.transformer_config.num_decoder_layers)
        gates = [gates_of(self.decoder_hypergrid, layer, encoded) for layer in layers]
        return EncoderOutput(encoded, mask=mask, adapters=adapters, gates=gates)

    # `generate` reads the signature to know which arguments it may pass.
    @functools.wraps(GenerationMixin.prepare_inputs_for_generation)
    def prepare_inputs_for_generation(self, *args, **kwargs) -> dict[str, Any]:
        inputs = super().prepare_inputs_for_generation(*args, **kwargs)
        # transformers 4 passes positions, and 5.24 a mask of future ones: `Stack` makes its own.
        inputs.pop("cache_position", None)
        if "decoder_attention_mask" not in kwargs:
            inputs.pop("decoder_attention_mask", None)
        return inputs

    @can_return_tuple
    @_with_newer_name
    def forward(
        self,
        input_ids: Int[Tensor, "batch enc_len"] | None = None,
        attention_mask: Int[Tensor, "batch enc_len"] | None = None,
        decoder_input_ids: Int[Tensor, "batch dec_len"] | None = None,
        encoder_outputs: EncoderOutput | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        labels: Int[Tensor, "batch dec_len"] | None = None,
        task_ids: Int[Tensor, "*batch"] | Sequence[int] | int | None = None,
        use_cache: bool | None = None,
    ) -> Seq2SeqLMOutput:
        """Logits of the token after each of the decoder's, and the loss of `labels`.

        `decoder_input_ids` begin with the start token; None: `labels`, shifted. `encoder_outputs`
        of `encode` replace its arguments. `past_key_values`, or `cache` in transformers 5.24, is
        that of earlier calls with `use_cache` (None: outside training, without labels), whose
        tokens these continue. In `labels` -100 is none.
        Raises TypeError for `encoder_outputs` that are not of `encode`, ValueError if there is
        nothing to encode, or to decode.
        """
        if encoder_outputs is None:
            if input_ids is None:
                raise ValueError(_lacks("input_ids or encoder_outputs", "the inputs"))
            encoder_outputs = self.encode(input_ids, attention_mask, task_ids)
        elif not isinstance(encoder_outputs, EncoderOutput):
            raise TypeError(
                "Argument encoder_outputs must be the EncoderOutput of this model's encode; got "
                f"{type(encoder_outputs).__name__}. Pass model.encode(input_ids, ...)."
            )
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError(_lacks("decoder_input_ids or labels", "the targets"))
            decoder_input_ids = self._shift_right(labels)
        if use_cache is None:  # In training a cache would only keep memory.
            use_cache = labels is None and not self.training and self.config.use_cache
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())
        encoded = encoder_outputs.last_hidden_state
        states = self.decoder(
            self.shared(decoder_input_ids),
            encoder_outputs.mask,
            encoder_outputs.adapters,
            # Gates of the decoder read the encoder's states, not its own: they are known.
            lambda layer, states: encoder_outputs.gates[layer],
            encoded,
            past_key_values,
        )
        if self.transformer_config.logits_via_embedding:
            # T5 v1.0 scales the logits of tied embeddings.
            logits = functional.linear(states * self.config.d_model**-0.5, self.shared.weight)
        else:
            logits = self.lm_head(states)
        loss = None
        if labels is not None:
            # In float32, and -100 is PyTorch's own `ignore_index`.
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        others = {_CACHE: past_key_values, "encoder_last_hidden_state": encoded}
        return Seq2SeqLMOutput(loss=loss, logits=logits, **others)

    def _check_tasks(
        self, task_ids: Tensor | Sequence[int] | int | None, input_ids: Tensor
    ) -> Int[Tensor, "batch"] | None:
        """One task number for each example; None if nothing reads them."""
        config = self.transformer_config
        if not config.reads_tasks:
            return None
        ids = f"{list(range(config.num_tasks))}, the numbers of {self.config.task_names}"
        must = f"The argument task_ids must give the task of each example, one of {ids}"
        if config.accepts_unseen_tasks:
            must += f", or {types.UNSEEN_TASK_ID} for a task that it was not trained on"
        advice = "Pass task_ids=[model.config.task_id(name), ...]."
        if task_ids is None:
            raise ValueError(f"{must}, because adapters or gates depend on it; got None. {advice}")
        task_ids = torch.as_tensor(task_ids, device=input_ids.device).long()
        task_ids = task_ids.expand(len(input_ids)) if task_ids.ndim == 0 else task_ids
        # Checked here: an index of -1 would silently be the last task's.
        lowest = types.UNSEEN_TASK_ID * config.accepts_unseen_tasks
        is_known = (task_ids >= lowest) & (task_ids < config.num_tasks)
        if task_ids.shape != input_ids.shape[:1] or not bool(is_known.all()):
            got = f"got {task_ids.tolist()} for {len(input_ids)} examples"
            raise ValueError(f"{must}; {got}. {advice}")
        return task_ids


class InputEncoder:
    """The encoder of a model as `generate` expects it: `encode` with transformers' arguments."""

    main_input_name = "input_ids"

    def __init__(self, model: HyperdecoderForConditionalGeneration):
        self._model = model

    def forward(
        self,
        input_ids: Int[Tensor, "batch enc_len"],
        attention_mask: Int[Tensor, "batch enc_len"] | None = None,
        task_ids: Int[Tensor, "*batch"] | Sequence[int] | int | None = None,
        *,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> EncoderOutput:
        """See `encode`; raises ValueError if attention weights or hidden states are asked for."""
        if output_attentions or output_hidden_states:
            raise ValueError(
                "Options output_attentions and output_hidden_states must be False; got "
                f"{output_attentions} and {output_hidden_states}. Register forward hooks instead."
            )
        return self._model.encode(input_ids, attention_mask, task_ids)

    # `generate` calls the encoder, after it has read the signature of its `forward`.
    __call__ = forward


def _lacks(names: str, what: str) -> str:
    return f"Either {names} must be given; got neither of the two. Pass {what}."
