"""Exported models in Flax, with the interface of transformers' Flax classes.

    from hyperdecoders_jax.interop import FlaxHyperdecoderForConditionalGeneration
    model = FlaxHyperdecoderForConditionalGeneration.from_pretrained(folder)
    sequences = model.generate(**tokenizer(texts, return_tensors="np", padding=True)).sequences

It computes with this package's own model: `encode` and each `generate` compute adapters, gates and
cross-attention keys once. Importing this module registers the class with
`FlaxAutoModelForSeq2SeqLM`; it needs transformers 4.57, the last release with Flax.
Source: transformers 4.57, FlaxPreTrainedModel and FlaxGenerationMixin, for the interface.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import transformers
from etils import epath
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray
from transformers import FlaxPreTrainedModel
from transformers import modeling_flax_outputs as outputs
from transformers.generation import flax_utils as generation

from hyperdecoders_jax import types
from hyperdecoders_jax.decoding.decode import GreedyConfig, SamplingConfig
from hyperdecoders_jax.hub import flax_inputs, generation_options
from hyperdecoders_jax.hub.flax_inputs import CallOptions, takes_call_options
from hyperdecoders_jax.hub.hyperdecoder_config import HyperdecoderConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.types import DecoderContext, Params
from hyperdecoders_jax.weights import exported_folder, hugging_face, names
from hyperdecoders_jax.weights.arrays import told_if_not_finite

# Arguments of `from_pretrained` for downloads, and those that Auto classes add.
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "token")
_OF_AUTO_CLASSES = ("_from_auto", "_commit_hash", "adapter_kwargs", "trust_remote_code")


@flax.struct.dataclass
class FlaxHyperdecoderEncoderOutput(outputs.FlaxBaseModelOutput):
    """Output of `encode`, which `decode` reads."""

    context: DecoderContext | None = None  # Padded on the right, whatever the inputs are.


class FlaxHyperdecoderForConditionalGeneration(FlaxPreTrainedModel):
    """An adapted T5 with the interface of FlaxT5ForConditionalGeneration.

    In its tree T5's parameters have the names of FlaxT5ForConditionalGeneration, the others this
    package's. Methods are compiled once for each shape and set of options, and may be called under
    `jax.jit` and `jax.grad`, with `params` as an argument. What differs from that class:
      - Padding is never attended to, with or without an `attention_mask`; tokens that a mask hides
        become padding. Either side may be padded. A mask that shows padding is an error.
      - A model with parameters for each task needs `task_ids`: a number for each example, or one
        for all, as `config.task_id(name)` gives it.
      - `decode` reads the inputs only from the context that `encode` made.
      - Attention weights and hidden states of each layer are not returned.
      - `input_shape` is not read; `dtype`, of activations, is float32 or bfloat16.
    """

    config_class = HyperdecoderConfig

    def __init__(
        self,
        config: HyperdecoderConfig,
        input_shape: tuple[int, ...] = (1, 1),
        seed: int = 0,
        dtype: DTypeLike = jnp.float32,
        _do_init: bool = True,
    ):
        dtype_name = jnp.dtype(dtype).name
        self._model = Model(dataclasses.replace(config.transformer_config, dtype=dtype_name))
        super().__init__(config, self._model.module, input_shape, seed, dtype, _do_init)

    def init_weights(
        self, rng: PRNGKeyArray, input_shape: tuple[int, ...], params: Params | None = None
    ) -> Params:
        """Random parameters, or `params` completed by random ones."""
        # Drawn under our names, so that a seed means the same as in training.
        random = exported_folder.to_flax_tree(self._model.init(rng), self._model.config)
        return names.unflatten(names.flatten(random) | names.flatten(params or {}))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        dtype: DTypeLike = jnp.float32,
        *,
        config: HyperdecoderConfig | None = None,
        subfolder: str = "",
        _do_init: bool = True,
        **kwargs,
    ):
        """Loads an exported model: Flax's files if there are some, else safetensors.

        `dtype` is that of activations; parameters keep the type that they are stored in. A `config`
        replaces the folder's. `**kwargs` are fields of the configuration to change; for a hub id
        also `cache_dir`, `force_download`, `local_files_only`, `revision` and `token`. With
        `_do_init=False` the model without parameters, and the parameters, are returned.
        Raises OSError if a file is missing or the download failed, ValueError if a file is
        damaged, or the weights are not exactly the model's.
        """
        kwargs = {name: value for name, value in kwargs.items() if name not in _OF_AUTO_CLASSES}
        hub = {name: kwargs.pop(name) for name in _HUB_OPTIONS if name in kwargs}
        folder = _find(pretrained_model_name_or_path, hub) / subfolder
        if config is None:
            read = functools.partial(cls.config_class.from_pretrained, return_unused_kwargs=True)
            config, kwargs = read(folder, **kwargs)
        model = cls(config, dtype=dtype, _do_init=False, **kwargs)
        config = model._model.config
        arrays = exported_folder.open_weights(folder, config, prefers_flax=True).arrays
        arrays = told_if_not_finite(arrays, os.fspath(folder))
        tree = exported_folder.to_flax_tree(names.unflatten(arrays), config)
        # One array at a time is in the host's memory, besides those on the device.
        params = jax.tree.map(lambda array: jnp.asarray(array.read()), tree)
        if (folder / transformers.utils.GENERATION_CONFIG_NAME).exists():
            model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
        if not _do_init:
            return model, params
        # The setter of `params` refuses them unless the model counts as initialised.
        model._is_initialized = True
        model.params = params
        return model

    @takes_call_options
    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        decoder_input_ids: ArrayLike | None = None,
        decoder_attention_mask: ArrayLike | None = None,
        *,
        task_ids: ArrayLike | None = None,
        **options: Any,
    ) -> outputs.FlaxSeq2SeqLMOutput | tuple:
        """Logits of the token after each of `decoder_input_ids`.

        Both ids are [batch, length]; the decoder's begin with the start token. `attention_mask` is
        0 for tokens that are not read (None: all but padding are), the decoder's for tokens at the
        end, whose logits mean nothing. `task_ids`, [batch], are for models with parameters for each
        task. For `**options` see `CallOptions`.
        Raises TypeError for unknown options; ValueError for missing or invalid arguments.
        """
        options = CallOptions(**options).check(self.config)
        inputs = self._read_inputs(input_ids, attention_mask, task_ids)
        tokens = flax_inputs.read_decoder_tokens(decoder_input_ids, decoder_attention_mask)
        tree = self._tree(options.params)
        states, context = _encode(self._model, tree, inputs, options.key)
        logits = _decode(self._model, tree, context, tokens, options.key)
        output = outputs.FlaxSeq2SeqLMOutput(logits=logits, encoder_last_hidden_state=states)
        return self._returned(output, options)

    @takes_call_options
    def encode(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        task_ids: ArrayLike | None = None,
        **options: Any,
    ) -> FlaxHyperdecoderEncoderOutput | tuple:
        """Contextual states of the inputs, and the context for `decode`; see `__call__`."""
        options = CallOptions(**options).check(self.config)
        inputs = self._read_inputs(input_ids, attention_mask, task_ids)
        states, context = _encode(self._model, self._tree(options.params), inputs, options.key)
        output = FlaxHyperdecoderEncoderOutput(last_hidden_state=states, context=context)
        return self._returned(output, options)

    @takes_call_options
    def decode(
        self,
        decoder_input_ids: ArrayLike,
        encoder_outputs: FlaxHyperdecoderEncoderOutput | tuple,
        *,
        decoder_attention_mask: ArrayLike | None = None,
        **options: Any,
    ) -> outputs.FlaxCausalLMOutputWithCrossAttentions | tuple:
        """Logits as of `__call__`, given all that `encode` returned for the inputs."""
        options = CallOptions(**options).check(self.config)
        context = encoder_outputs[-1]  # Of a named output or of a tuple.
        if not isinstance(context, DecoderContext):
            raise ValueError(
                "Argument encoder_outputs must be what encode gave, the context included; got a "
                f"{type(encoder_outputs).__name__} that ends with {type(context).__name__}."
                " Pass all of it."
            )
        tokens = flax_inputs.read_decoder_tokens(decoder_input_ids, decoder_attention_mask)
        tree = self._tree(options.params)
        logits = _decode(self._model, tree, context, tokens, options.key)
        return self._returned(outputs.FlaxCausalLMOutputWithCrossAttentions(logits), options)

    def generate(
        self,
        input_ids: ArrayLike,
        generation_config: transformers.GenerationConfig | None = None,
        prng_key: PRNGKeyArray | None = None,
        trace: bool = True,
        params: Params | None = None,
        *,
        attention_mask: ArrayLike | None = None,
        task_ids: ArrayLike | None = None,
        **kwargs,
    ) -> transformers.utils.ModelOutput:
        """Texts found by greedy decoding, beam search or sampling.

        Options are those of `generation_config`, by default the model's `generation_config.json`,
        changed by `**kwargs`; see `generation_options`. Sampling uses key 0 without `prng_key`.
        Other arguments are those of `__call__`. The output's `sequences`, [batch *
        num_return_sequences, 1 + tokens], have the start token and are padded; samples of one
        example are sorted, likeliest first. A beam search also gives `scores`.
        Raises ValueError for options that are unknown, or not supported by this package.
        """
        if not trace:
            raise ValueError("Argument trace must be True; got False. Use jax.disable_jit().")
        defaults = generation_config or self.generation_config
        decoding, max_len = generation_options.read(defaults, kwargs, self.config.decoding)
        # Equal models are one static argument of `_generate`: compiled once for equal options.
        model = dataclasses.replace(self._model, decoding=decoding)
        inputs = self._read_inputs(input_ids, attention_mask, task_ids)
        # As FlaxGenerationMixin: without a key samples are the same in every call.
        prng_key = jax.random.key(0) if prng_key is None else prng_key
        sequences, scores = _generate(model, self._tree(params), inputs, prng_key, max_len)
        if isinstance(decoding, GreedyConfig):
            return generation.FlaxGreedySearchOutput(sequences=sequences)
        if isinstance(decoding, SamplingConfig):
            return generation.FlaxSampleOutput(sequences=sequences)
        return generation.FlaxBeamSearchOutput(sequences=sequences, scores=scores)

    def _tree(self, params: Params | None) -> Params:
        return self.params if params is None else params

    def _read_inputs(self, *given: ArrayLike | None) -> flax_inputs.Inputs:
        return flax_inputs.read(self._model.config, self.config.task_names, *given)

    def _returned(self, output: Any, options: CallOptions) -> Any:
        has_names, default = options.return_dict, self.config.return_dict
        return output if (default if has_names is None else has_names) else output.to_tuple()


# The compiled programs take the model as a static argument: instances with equal configurations
# share them.
@functools.partial(jax.jit, static_argnums=0)
def _encode(
    model: Model, tree: Params, inputs: flax_inputs.Inputs, dropout_rng: PRNGKeyArray | None
) -> tuple[Float[Array, "batch enc_len emb"], DecoderContext]:
    batch, num_before = inputs.pack()
    tokens = batch.encoder_input_tokens

    def encode(module, deterministic):
        states = module.encode(tokens, batch.task_ids, deterministic=deterministic)
        return states, module.make_context(states, tokens, batch.task_ids)

    states, context = _apply(encode, model, tree, dropout_rng)
    # States go back to where the caller's tokens are; the context stays as the model reads it.
    return flax_inputs.move_left(states, -num_before), context


@functools.partial(jax.jit, static_argnums=0)
def _decode(
    model: Model,
    tree: Params,
    context: DecoderContext,
    tokens: Int[Array, "batch dec_len"],
    dropout_rng: PRNGKeyArray | None,
) -> Float[Array, "batch dec_len vocab"]:
    return _apply("decode", model, tree, dropout_rng, context, tokens)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _generate(
    model: Model, tree: Params, inputs: flax_inputs.Inputs, prng_key: PRNGKeyArray, max_len: int
) -> tuple[Int[Array, "rows 1+max_len"], Float[Array, " rows"]]:
    # Renamed within the program: free, and gradients come out under the tree's own names.
    params = exported_folder.from_flax_tree(tree, model.config)
    found = model.predict(params, inputs.pack()[0], prng_key, max_len=max_len)
    rows = found.tokens.reshape(-1, max_len)  # [batch * beams, max_len]
    start = jnp.full_like(rows[:, :1], types.DECODER_START_ID)
    return jnp.concatenate([start, rows], axis=1), found.scores.reshape(-1)


def _apply(method, model: Model, tree: Params, dropout_rng: PRNGKeyArray | None, *args) -> Any:
    variables = {"params": exported_folder.from_flax_tree(tree, model.config)}
    dropout = {"rngs": {} if dropout_rng is None else {"dropout": dropout_rng}}
    dropout["deterministic"] = dropout_rng is None
    return model.module.apply(variables, *args, method=method, **dropout)


def _find(folder_or_hub_id: str | os.PathLike, hub: Mapping[str, Any]) -> epath.Path:
    name = os.fspath(folder_or_hub_id)
    if epath.Path(name).is_dir():
        return epath.Path(name)
    if not hugging_face.HUB_ID.fullmatch(name):
        raise FileNotFoundError(
            "An exported model must be a folder, or a hub id such as somebody/some_model; got "
            f"{name}. Correct the path."
        )
    import huggingface_hub

    download = functools.partial(huggingface_hub.snapshot_download, name, **hub)
    # One format is enough: safetensors are downloaded only where there are no Flax files.
    folder = pathlib.Path(download(allow_patterns=["*.json", "*.msgpack"]))
    if not any(folder.rglob("*.msgpack")):
        folder = download(allow_patterns=["*.json", "*.safetensors"])
    return epath.Path(folder)


transformers.FlaxAutoModelForSeq2SeqLM.register(
    HyperdecoderConfig, FlaxHyperdecoderForConditionalGeneration, exist_ok=True
)
