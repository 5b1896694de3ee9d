"""Exported models in PyTorch: transformers' generate around a T5 that its own parts adapt.

The class for a folder whose `config.json` says `hyperdecoder`, for transformers 4.57 and 5 (tried:
4.57.6 and 5.23.0, with torch 2.13):

    from hyperdecoders_jax.interop import HyperdecoderForConditionalGeneration

    model = HyperdecoderForConditionalGeneration.from_pretrained(folder)
    model.generate(**inputs, task_ids=task_ids, num_beams=4)

T5's parameters have transformers' names, the others ours. What is made of an input is made once:
`encode` gives the states and, beside them, the adapters and gates of the decoder, which `generate`
keeps for all its steps, and all its beams; so does the cache with cross-attention's keys.

Source: Ivison & Peters 2022 (arXiv:2203.08304); transformers' T5ForConditionalGeneration.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import pathlib
from collections.abc import Sequence

import torch
import transformers
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, EncoderDecoderCache, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.t5.modeling_t5 import T5PreTrainedModel

from hyperdecoders_jax import types
from hyperdecoders_jax.hub import torch_adapters, torch_hypergrid, torch_hypernetworks, torch_stack
from hyperdecoders_jax.hub.hyperdecoder_config import HyperdecoderConfig
from hyperdecoders_jax.hub.torch_hypergrid import Gates
from hyperdecoders_jax.hub.torch_hypernetworks import Adapters
from hyperdecoders_jax.weights import flax_files


@dataclasses.dataclass
class EncoderOutput(BaseModelOutput):
    """All that a decoder knows of its inputs.

    Attributes:
      mask: True where an input has a token; generate repeats it, as the states, for beams.
      adapters: of all decoder layers. These and the gates are never repeated.
      gates: of each decoder layer.
    """

    mask: Bool[Tensor, "rows enc_len"] | None = None
    adapters: Adapters | None = None
    gates: Sequence[Gates] | None = None


class HyperdecoderForConditionalGeneration(T5PreTrainedModel, GenerationMixin):
    """A T5 and what adapts it, with the interface of T5ForConditionalGeneration.

    What differs from that:
      - Padding is never read, with or without an `attention_mask`, and may stand on either side.
      - A model with parameters for each task needs `task_ids`.
      - Attention weights and hidden states of each layer do not come out; caches are dynamic ones,
        and there is no gradient checkpointing. A decoder may be deeper than its encoder.

    Args:
      config: of the model.
    """

    config_class = HyperdecoderConfig
    config: HyperdecoderConfig
    _no_split_modules = ("Block",)
    supports_gradient_checkpointing = False
    _can_compile_fullgraph = False

    def __init__(self, config: HyperdecoderConfig):
        super().__init__(config)
        self.transformer_config = ours = config.transformer_config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        for side in ("encoder", "decoder"):
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

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args, **kw):
        """Loads an exported model, as every class of transformers does.

        Raises:
          FileNotFoundError: the folder has Flax's weights alone.
        """
        folder = pathlib.Path(pretrained_model_name_or_path or "", kw.get("subfolder") or "")
        has_own = any(any(folder.glob(files)) for files in ("*.safetensors", "*.bin"))
        if pretrained_model_name_or_path and flax_files.has_files(folder) and not has_own:
            raise FileNotFoundError(
                f"For PyTorch an exported folder must hold model.safetensors; {folder} holds "
                f"Flax's weights alone. Make another of it: hyperdecoders export "
                f"--checkpoint={folder} --output=NEW_FOLDER --format=flax,safetensors"
            )
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kw)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.shared

    def set_input_embeddings(self, new_embeddings: nn.Embedding) -> None:
        self.shared = new_embeddings

    def tie_weights(self, *args, **kwargs) -> None:
        """Nothing: a model whose embedding makes the logits has no `lm_head`."""

    def get_encoder(self, modality: str | None = None) -> InputEncoder:
        """What `generate` calls once for its inputs."""
        return InputEncoder(self)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
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
        """Encodes the inputs and writes each example's decoder.

        Args:
          input_ids: padded on either side; padding is never read.
          attention_mask: False where tokens are not to be read either.
          task_ids: the number of each example's task, or of all of them, where the model depends
            on it; `config.task_id` gives it.

        Raises:
          ValueError: the model needs `task_ids` and there are none, or not those of its tasks.
        """
        mask = input_ids != types.PAD_ID
        if attention_mask is not None:
            mask &= attention_mask.bool()
        task_ids = self._check_tasks(task_ids, input_ids)
        embedded = self.shared(input_ids)

        def make_gates(layer, states):
            grid = self.encoder_hypergrid
            return {} if grid is None else grid(layer, states, mask, task_ids)

        def run(source, pooled=None):
            adapters = {} if source is None else source(pooled, task_ids)
            return self.encoder(embedded, mask, adapters, make_gates)

        pooled = None
        if self.encoder_first_pass_adapters is not None:
            pooled = torch_adapters.masked_mean(run(self.encoder_first_pass_adapters), mask)
        encoded = run(self.encoder_adapters, pooled)

        adapters = {}
        if self.decoder_adapters is not None:
            pooled = torch_adapters.masked_mean(encoded, mask)
            adapters = self.decoder_adapters(pooled, task_ids)
        gates = [{}] * self.transformer_config.num_decoder_layers
        if self.decoder_hypergrid is not None:
            gates = [
                self.decoder_hypergrid(layer, encoded, mask, task_ids)
                for layer in range(len(gates))
            ]
        return EncoderOutput(encoded, mask=mask, adapters=adapters, gates=gates)

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
        cache_position: Int[Tensor, "dec_len"] | None = None,
        return_dict: bool | None = None,
    ) -> Seq2SeqLMOutput:
        """Logits of the token after each of the decoder's, and the loss of `labels`.

        Args:
          input_ids: see `encode`, as for the next one and `task_ids`.
          attention_mask: of the inputs.
          decoder_input_ids: begin with the start token; None: `labels`, shifted.
          encoder_outputs: what `encode` gave for the inputs, instead of them.
          past_key_values: of earlier calls with `use_cache`, whose tokens these continue.
          labels: the target of each position; -100: none.
          task_ids: of the examples.
          use_cache: whether to return `past_key_values`; None: where there are no labels.
          cache_position: not read; transformers 4 passes it.
          return_dict: not read; transformers passes True.

        Raises:
          TypeError: `encoder_outputs` are not those of `encode`.
          ValueError: there is nothing to encode, or to decode.
        """
        if encoder_outputs is None:
            if input_ids is None:
                raise ValueError(_lacks("input_ids or encoder_outputs", "the inputs"))
            encoder_outputs = self.encode(input_ids, attention_mask, task_ids)
        elif not isinstance(encoder_outputs, EncoderOutput):
            raise TypeError(
                "encoder_outputs must be the EncoderOutput of this model's encode, which holds "
                f"each example's decoder; got {type(encoder_outputs).__name__}. Pass "
                "model.encode(input_ids, attention_mask, task_ids)."
            )
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError(_lacks("decoder_input_ids or labels", "the targets"))
            decoder_input_ids = self._shift_right(labels)
        if use_cache is None:
            use_cache = labels is None and self.config.use_cache
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())

        states = self.decoder(
            self.shared(decoder_input_ids),
            encoder_outputs.mask,
            encoder_outputs.adapters,
            lambda layer, states: encoder_outputs.gates[layer],
            encoder_outputs.last_hidden_state,
            past_key_values,
        )
        logits = self._logits(states)
        loss = None
        if labels is not None:
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
        )

    def _logits(
        self, states: Float[Tensor, "rows length emb"]
    ) -> Float[Tensor, "rows length vocab"]:
        if self.transformer_config.logits_via_embedding:
            return functional.linear(states * self.config.d_model**-0.5, self.shared.weight)
        return self.lm_head(states)

    def _check_tasks(
        self, task_ids: Tensor | Sequence[int] | int | None, input_ids: Tensor
    ) -> Int[Tensor, "batch"] | None:
        """Numbers of tasks beside the inputs; None where nothing reads them."""
        config = self.transformer_config
        if not config.reads_tasks:
            return None
        known = f"{list(range(config.num_tasks))}, the numbers of {self.config.task_names}"
        unseen = ""
        if config.accepts_unseen_tasks:
            unseen = f", or {types.UNSEEN_TASK_ID} for a task that it was not trained on"
        must = f"task_ids must give the task of each example, one of {known}{unseen}"
        advice = "Pass task_ids=[model.config.task_id(name), ...]."
        if task_ids is None:
            raise ValueError(
                f"{must}, because this model's adapters or gates depend on it; got None. {advice}"
            )
        task_ids = torch.as_tensor(task_ids, device=input_ids.device).long()
        if task_ids.ndim == 0:
            task_ids = task_ids.expand(len(input_ids))
        lowest = types.UNSEEN_TASK_ID if config.accepts_unseen_tasks else 0
        is_known = (task_ids >= lowest) & (task_ids < config.num_tasks)
        if task_ids.shape != input_ids.shape[:1] or not bool(is_known.all()):
            raise ValueError(
                f"{must}; got {task_ids.tolist()} for {len(input_ids)} examples. {advice}"
            )
        return task_ids


class InputEncoder:
    """A model's `encode` as transformers' generate expects an encoder."""

    main_input_name = "input_ids"

    def __init__(self, model: HyperdecoderForConditionalGeneration):
        self._model = model

    def __call__(self, *args, **kwargs) -> EncoderOutput:
        """As `forward`."""
        return self.forward(*args, **kwargs)

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
        """As `encode`.

        Raises:
          ValueError: something else is to come out, too.
        """
        if output_attentions or output_hidden_states:
            raise ValueError(
                "output_attentions and output_hidden_states must be False for this model, which "
                f"keeps neither; got {output_attentions} and {output_hidden_states}. Leave them "
                "out, or register forward hooks on its blocks."
            )
        return self._model.encode(input_ids, attention_mask, task_ids)


def _lacks(names: str, what: str) -> str:
    return f"{names} must be given; got neither of the two. Pass {what}."


transformers.AutoModelForSeq2SeqLM.register(
    HyperdecoderConfig, HyperdecoderForConditionalGeneration, exist_ok=True
)
