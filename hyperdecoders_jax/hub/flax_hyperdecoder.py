"""Exported models in Flax, as the Flax classes of transformers are used: tokens in, tokens out.

    from hyperdecoders_jax.interop import FlaxHyperdecoderForConditionalGeneration
    model = FlaxHyperdecoderForConditionalGeneration.from_pretrained(folder)
    sequences = model.generate(**tokenizer(texts, return_tensors="np", padding=True)).sequences

It computes with this package's own model. What depends on an example's input alone, which is its
adapters, gates and cross-attention keys, is made once by `encode` and once by each `generate`.
Importing this module lets `FlaxAutoModelForSeq2SeqLM` know the class; it needs transformers 4.57,
the last release with Flax.

Source: transformers 4.57, FlaxPreTrainedModel and FlaxGenerationMixin, for the interface.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import transformers
from etils import epath
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped
from transformers import FlaxPreTrainedModel
from transformers import modeling_flax_outputs as outputs
from transformers.generation import flax_utils as generation

from hyperdecoders_jax import types
from hyperdecoders_jax.decoding.decode import GreedyConfig, SamplingConfig
from hyperdecoders_jax.hub import generation_options
from hyperdecoders_jax.hub.hyperdecoder_config import HyperdecoderConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Batch, DecoderContext, Params
from hyperdecoders_jax.weights import exported_folder, flax_files, hugging_face, names
from hyperdecoders_jax.weights.arrays import Arrays

# Of `from_pretrained`: to download with, and what Auto classes add.
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "token")
_OF_AUTO_CLASSES = ("_from_auto", "_commit_hash", "adapter_kwargs", "trust_remote_code")


@flax.struct.dataclass
class FlaxHyperdecoderEncoderOutput(outputs.FlaxBaseModelOutput):
    """What `encode` gives and `decode` reads.

    Attributes:
      context: all that a decoder knows of the inputs: adapters, gates, cross-attention keys and
        values. Inputs that were padded on the left are padded on the right in it.
    """

    context: DecoderContext | None = None


class FlaxHyperdecoderForConditionalGeneration(FlaxPreTrainedModel):
    """A T5 and what adapts it, with the interface of FlaxT5ForConditionalGeneration.

    Its parameters are a tree in which T5's have the names of FlaxT5ForConditionalGeneration, and
    all others this package's. Methods are compiled, once for each shape and set of options, and
    may be called under `jax.jit` and `jax.grad`, with `params` as an argument.

    What differs from FlaxT5ForConditionalGeneration:
      - Padding is never attended to, with or without an `attention_mask`; tokens that a mask hides
        become padding. Padding may stand on either side. A mask that shows padding is an error.
      - A model with parameters for each task needs `task_ids`: a number for each example, or one
        for all. `config.task_id(name)` gives it.
      - `decode` reads the context that `encode` made; nothing else says what the inputs are.
      - Attention weights and hidden states of each layer do not come out.

    Args:
      config: of the model.
      input_shape: is not read.
      seed: of random parameters.
      dtype: of activations, float32 or bfloat16.

    Raises:
      ValueError: the type is another.
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
        """Random parameters, or `params` and random ones where it has none."""
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
        """Loads an exported model, whose every parameter must be there.

        Args:
          pretrained_model_name_or_path: a folder, or a hub id.
          dtype: of activations; parameters have the type that they are stored in.
          config: instead of the folder's.
          subfolder: of the folder.
          **kwargs: fields of the configuration to change; for a hub id also `cache_dir`,
            `force_download`, `local_files_only`, `revision` and `token`.

        Returns:
          The model; with `_do_init=False` the model without parameters, and these.

        Flax's files come first, then safetensors.

        Raises:
          FileNotFoundError: a file is missing.
          OSError: there is no configuration, or the download failed.
          ValueError: a file is damaged, or the weights are not exactly the model's.
        """
        kwargs = {name: value for name, value in kwargs.items() if name not in _OF_AUTO_CLASSES}
        hub = {name: kwargs.pop(name) for name in _HUB_OPTIONS if name in kwargs}
        folder = _find(pretrained_model_name_or_path, hub) / subfolder
        if config is None:
            config, kwargs = cls.config_class.from_pretrained(
                folder, return_unused_kwargs=True, **kwargs
            )
        model = cls(config, dtype=dtype, _do_init=False, **kwargs)
        arrays = _open_weights(folder, model._model.config)
        tree = exported_folder.to_flax_tree(names.unflatten(arrays), model._model.config)
        params = jax.tree.map(lambda array: jnp.asarray(array.read()), tree)
        if (folder / transformers.utils.GENERATION_CONFIG_NAME).exists():
            model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
        if not _do_init:
            return model, params
        model._is_initialized = True
        model.params = params
        return model

    def __call__(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        decoder_input_ids: ArrayLike | None = None,
        decoder_attention_mask: ArrayLike | None = None,
        *,
        task_ids: ArrayLike | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        train: bool = False,
        params: Params | None = None,
        dropout_rng: PRNGKeyArray | None = None,
    ) -> outputs.FlaxSeq2SeqLMOutput | tuple:
        """Logits of the token after each of `decoder_input_ids`.

        Args:
          input_ids: [batch, enc_len].
          attention_mask: 0 for tokens that are not read; None: padding is not.
          decoder_input_ids: [batch, dec_len], from the start token on.
          decoder_attention_mask: 0 for tokens at the end that are not read; what comes out at them
            means nothing.
          task_ids: [batch], for models with parameters for each task.
          output_attentions: only False.
          output_hidden_states: only False.
          return_dict: whether to give names to what comes out.
          train: whether there is dropout, which needs `dropout_rng`.
          params: instead of the model's own.
          dropout_rng: the key.

        Raises:
          ValueError: an argument is missing or no good; says which.
        """
        self._check_outputs(output_attentions, output_hidden_states)
        inputs = self._inputs(input_ids, attention_mask, task_ids)
        decoder_tokens = _decoder_tokens(decoder_input_ids, decoder_attention_mask)
        dropout_rng = _dropout_rng(train, dropout_rng)
        tree = self._tree(params)
        states, context = _encode(self._model, tree, inputs, dropout_rng)
        logits = _decode(self._model, tree, context, decoder_tokens, dropout_rng)
        output = outputs.FlaxSeq2SeqLMOutput(logits=logits, encoder_last_hidden_state=states)
        return self._returned(output, return_dict)

    def encode(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None = None,
        *,
        task_ids: ArrayLike | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        train: bool = False,
        params: Params | None = None,
        dropout_rng: PRNGKeyArray | None = None,
    ) -> FlaxHyperdecoderEncoderOutput | tuple:
        """Encodes inputs and writes each example's decoder; arguments as in `__call__`.

        Returns:
          The contextual states of the inputs, and the context for `decode`.
        """
        self._check_outputs(output_attentions, output_hidden_states)
        inputs = self._inputs(input_ids, attention_mask, task_ids)
        dropout_rng = _dropout_rng(train, dropout_rng)
        states, context = _encode(self._model, self._tree(params), inputs, dropout_rng)
        output = FlaxHyperdecoderEncoderOutput(last_hidden_state=states, context=context)
        return self._returned(output, return_dict)

    def decode(
        self,
        decoder_input_ids: ArrayLike,
        encoder_outputs: FlaxHyperdecoderEncoderOutput | tuple,
        *,
        decoder_attention_mask: ArrayLike | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        train: bool = False,
        params: Params | None = None,
        dropout_rng: PRNGKeyArray | None = None,
    ) -> outputs.FlaxCausalLMOutputWithCrossAttentions | tuple:
        """Logits of the token after each of `decoder_input_ids`, for inputs that were encoded.

        Args:
          decoder_input_ids: [batch, dec_len], from the start token on.
          encoder_outputs: all that `encode` gave.
          decoder_attention_mask: see `__call__`, as for all others.
          output_attentions: only False.
          output_hidden_states: only False.
          return_dict: whether to give names to what comes out.
          train: whether there is dropout, which needs `dropout_rng`.
          params: instead of the model's own.
          dropout_rng: the key.

        Raises:
          ValueError: an argument is missing or no good; says which.
        """
        self._check_outputs(output_attentions, output_hidden_states)
        context = encoder_outputs[-1]
        if not isinstance(context, DecoderContext):
            raise ValueError(
                "encoder_outputs must be what encode gave, the context included, which holds each "
                f"example's adapters; got a {type(encoder_outputs).__name__} that ends with "
                f"{type(context).__name__}. Pass all of it."
            )
        decoder_tokens = _decoder_tokens(decoder_input_ids, decoder_attention_mask)
        dropout_rng = _dropout_rng(train, dropout_rng)
        logits = _decode(self._model, self._tree(params), context, decoder_tokens, dropout_rng)
        output = outputs.FlaxCausalLMOutputWithCrossAttentions(logits=logits)
        return self._returned(output, return_dict)

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
    ) -> (
        generation.FlaxGreedySearchOutput
        | generation.FlaxSampleOutput
        | generation.FlaxBeamSearchOutput
    ):
        """The texts that greedy decoding, a beam search or sampling finds.

        Samples of one example come out likeliest first.

        Args:
          input_ids: [batch, enc_len].
          generation_config: the defaults; None: the model's own, of `generation_config.json`.
          prng_key: for sampling; None: key 0.
          trace: only True.
          params: instead of the model's own.
          attention_mask: see `__call__`.
          task_ids: see `__call__`.
          **kwargs: options that change the defaults; see `generation_options`.

        Returns:
          `sequences` [batch * num_return_sequences, 1 + tokens], with the start token, padded; a
          beam search also gives `scores`.

        Raises:
          ValueError: an option is unknown, or one that this package does not have.
        """
        if not trace:
            raise ValueError(
                "trace must be True; got False. To decode step by step, call generate under "
                "jax.disable_jit()."
            )
        decoding, max_len = generation_options.read(
            generation_config or self.generation_config, kwargs, self.config.decoding
        )
        model = dataclasses.replace(self._model, decoding=decoding)
        inputs = self._inputs(input_ids, attention_mask, task_ids)
        prng_key = jax.random.key(0) if prng_key is None else prng_key
        sequences, scores = _generate(model, self._tree(params), inputs, prng_key, max_len)
        match model.decoding:
            case GreedyConfig():
                return generation.FlaxGreedySearchOutput(sequences=sequences)
            case SamplingConfig():
                return generation.FlaxSampleOutput(sequences=sequences)
        return generation.FlaxBeamSearchOutput(sequences=sequences, scores=scores)

    def _tree(self, params: Params | None) -> Params:
        return self.params if params is None else params

    def _returned(self, output: Any, return_dict: bool | None) -> Any:
        return_dict = self.config.return_dict if return_dict is None else return_dict
        return output if return_dict else output.to_tuple()

    def _check_outputs(self, attentions: bool | None, hidden_states: bool | None) -> None:
        asked = {"output_attentions": attentions, "output_hidden_states": hidden_states}
        for name, value in asked.items():
            if getattr(self.config, name) if value is None else value:
                raise ValueError(
                    f"{name} must be False; got True. This model's layers keep nothing: leave it "
                    "out, or set it to False in the configuration."
                )

    def _inputs(
        self,
        input_ids: ArrayLike,
        attention_mask: ArrayLike | None,
        task_ids: ArrayLike | None,
    ) -> _Inputs:
        tokens = _tokens("input_ids", input_ids)
        mask = jnp.asarray(np.ones(tokens.shape, bool))
        if attention_mask is not None:
            mask = _mask("attention_mask", attention_mask, tokens)
            if num_shown := _count(lambda x, mask: (x == types.PAD_ID) & mask, tokens, mask):
                raise ValueError(
                    f"attention_mask must be 0 at padding, token {types.PAD_ID}, which this model "
                    f"never reads; it is 1 at {num_shown} of them. Give the mask that the "
                    "tokenizer makes, or none."
                )
        return _Inputs(tokens, mask, self._task_ids(task_ids, tokens.shape[0]))

    def _task_ids(self, task_ids: ArrayLike | None, batch: int) -> Int[Array, "*batch"]:
        config = self._model.config
        if not config.reads_tasks:
            return jnp.asarray(0)
        advice = (
            "Give one number for each example, or one for all; config.task_id(name) tells it for "
            f"each of {tuple(self.config.task_names)}."
        )
        if task_ids is None:
            raise ValueError(
                "This model has parameters for each task, so task_ids must be given; got None. "
                + advice
            )
        ids = jnp.asarray(task_ids, jnp.int32)
        if ids.shape not in ((), (batch,)):
            raise ValueError(
                f"task_ids must be of shape ({batch},), as many as there are examples; got "
                f"{ids.shape}. {advice}"
            )
        first, last = types.UNSEEN_TASK_ID * config.accepts_unseen_tasks, config.num_tasks - 1
        if _count(lambda ids: (ids < first) | (ids > last), ids):
            raise ValueError(f"task_ids must be from {first} to {last}; got {task_ids}. {advice}")
        return ids


class _Inputs(NamedTuple):
    tokens: Int[Array, "batch enc_len"]
    mask: Bool[Array, "batch enc_len"]
    task_ids: Int[Array, "*batch"]

    def pack(self) -> tuple[Batch, Int[Array, " batch"]]:
        """What the model reads, and how many places each text was moved to the left for it.

        Relative positions do not tell on which side padding stands; gates that read the state at
        position 0 would.
        """
        tokens = jnp.where(self.mask, self.tokens, types.PAD_ID)
        num_before = jnp.argmax(tokens != types.PAD_ID, axis=1)
        tokens = _move_left(tokens, num_before)
        nothing = jnp.zeros((tokens.shape[0], 1), jnp.int32)  # Encoding reads no targets.
        task_ids = jnp.broadcast_to(self.task_ids, tokens.shape[0])
        return Batch(tokens, nothing, nothing, nothing, task_ids), num_before


# ---------------------------------------------------------------- what is compiled


@functools.partial(jax.jit, static_argnums=0)
def _encode(
    model: Model, tree: Params, inputs: _Inputs, dropout_rng: PRNGKeyArray | None
) -> tuple[Float[Array, "batch enc_len emb"], DecoderContext]:
    batch, num_before = inputs.pack()
    tokens = batch.encoder_input_tokens

    def encode(module):
        states = module.encode(tokens, batch.task_ids, deterministic=dropout_rng is None)
        return states, module.make_context(states, tokens, batch.task_ids)

    states, context = _apply(encode, model, tree, dropout_rng)
    return _move_left(states, -num_before), context


@functools.partial(jax.jit, static_argnums=0)
def _decode(
    model: Model,
    tree: Params,
    context: DecoderContext,
    tokens: Int[Array, "batch dec_len"],
    dropout_rng: PRNGKeyArray | None,
) -> Float[Array, "batch dec_len vocab"]:
    def decode(module):
        return module.decode(context, tokens, deterministic=dropout_rng is None)

    return _apply(decode, model, tree, dropout_rng)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _generate(
    model: Model, tree: Params, inputs: _Inputs, prng_key: PRNGKeyArray, max_len: int
) -> tuple[Int[Array, "rows 1+max_len"], Float[Array, " rows"]]:
    params = exported_folder.from_flax_tree(tree, model.config)
    found = model.predict(params, inputs.pack()[0], prng_key, max_len=max_len)
    rows = found.tokens.reshape(-1, max_len)
    start = jnp.full_like(rows[:, :1], types.DECODER_START_ID)
    return jnp.concatenate([start, rows], axis=1), found.scores.reshape(-1)


def _apply(method, model: Model, tree: Params, dropout_rng: PRNGKeyArray | None) -> Any:
    params = exported_folder.from_flax_tree(tree, model.config)
    rngs = {} if dropout_rng is None else {"dropout": dropout_rng}
    return model.module.apply({"params": params}, rngs=rngs, method=method)


def _move_left(x: Shaped[Array, "batch length ..."], steps: Int[Array, " batch"]) -> Array:
    """Moves each example `steps` places to the left: what leaves in front comes in behind.

    >>> print(_move_left(jnp.array([[0, 0, 5, 6], [7, 8, 9, 0]]), jnp.array([2, 0])))
    [[5 6 0 0]
     [7 8 9 0]]
    """
    return jax.vmap(lambda row, n: jnp.roll(row, -n, axis=0))(x, steps)


# ---------------------------------------------------------------- what is given


def _count(is_wrong: Callable[..., np.ndarray], *given: Array) -> int:
    """How many values are wrong, where they are known: under `jax.jit` they are not."""
    if any(isinstance(x, jax.core.Tracer) for x in given):
        return 0
    return int(np.sum(is_wrong(*(np.asarray(x) for x in given))))


def _tokens(name: str, ids: ArrayLike) -> Int[Array, "batch length"]:
    ids = jnp.asarray(ids)
    if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(
            f"{name} must be integers of shape [batch, length]; got {ids.dtype} of shape "
            f'{ids.shape}. Call the tokenizer with a list of texts and return_tensors="np".'
        )
    return ids.astype(jnp.int32)


def _mask(name: str, mask: ArrayLike, tokens: Array) -> Bool[Array, "batch length"]:
    mask = jnp.asarray(mask, bool)
    if mask.shape != tokens.shape:
        raise ValueError(
            f"{name} must have the shape of its tokens, {tokens.shape}; got {mask.shape}. Give the "
            "mask that the tokenizer makes, or none."
        )
    return mask


def _decoder_tokens(ids: ArrayLike | None, mask: ArrayLike | None) -> Int[Array, "batch dec_len"]:
    if ids is None:
        raise ValueError(
            "decoder_input_ids must be given; got None. Give the targets behind the start token "
            f"{types.DECODER_START_ID}; for texts of the model's own call generate."
        )
    tokens = _tokens("decoder_input_ids", ids)
    if mask is not None:
        mask = _mask("decoder_attention_mask", mask, tokens)
        # No position reads those behind it.
        if _count(lambda mask: mask[:, 1:] & ~mask[:, :-1], mask):
            raise ValueError(
                "decoder_attention_mask must be 0 at the end of a row alone; in some row a 1 comes "
                "after a 0. Pad the decoder's tokens on the right."
            )
    return tokens


def _dropout_rng(train: bool, dropout_rng: PRNGKeyArray | None) -> PRNGKeyArray | None:
    if not train:
        return None
    if dropout_rng is None:
        raise ValueError(
            "dropout_rng must be given where train=True, for dropout; got None. Pass "
            "dropout_rng=jax.random.key(step), or train=False."
        )
    return dropout_rng


# ---------------------------------------------------------------- files


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
    folder = pathlib.Path(download(allow_patterns=["*.json", "*.msgpack"]))
    if not any(folder.rglob("*.msgpack")):
        folder = download(allow_patterns=["*.json", "*.safetensors"])
    return epath.Path(folder)


def _open_weights(folder: epath.Path, config: TransformerConfig) -> Arrays:
    """The arrays of a folder, under our paths."""
    if not flax_files.has_files(folder):
        return exported_folder.open_weights(folder, config).arrays
    tree = names.unflatten(flax_files.open(folder))
    arrays = names.flatten(exported_folder.from_flax_tree(tree, config))
    exported_folder.check_arrays(arrays, config, f"The weights in {folder}")
    return arrays


transformers.FlaxAutoModelForSeq2SeqLM.register(
    HyperdecoderConfig, FlaxHyperdecoderForConditionalGeneration, exist_ok=True
)
