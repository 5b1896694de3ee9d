"""Conversion of a `generation_config.json` to a decoding config, and back, without transformers.

`min_length` counts the start token and leaves out EOS, our `min_len` the other way round: it is the
same number. Only transformers' Flax classes ask for one token more.
Source: transformers 4.57, PyTorch's GenerationConfig, GenerationMixin, MinLengthLogitsProcessor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hyperdecoders_jax import types
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, HuggingFaceScoring, Scoring
from hyperdecoders_jax.decoding.decode import DecodingConfig
from hyperdecoders_jax.decoding.sampling import GreedyConfig, SamplingConfig

# What is read.
LENGTHS = ("max_new_tokens", "max_length", "min_length")
OF_BEAMS = ("num_beams", "num_return_sequences", "length_penalty", "early_stopping")
OF_SAMPLING = ("do_sample", "temperature", "top_k", "top_p")
# Accepted at the values of every T5.
_FIXED = {
    "pad_token_id": (types.PAD_ID,),
    "eos_token_id": (types.EOS_ID, [types.EOS_ID]),
    "decoder_start_token_id": (types.DECODER_START_ID, [types.DECODER_START_ID]),
}
# How tokens are computed and returned: they change none.
_WITHOUT_EFFECT = (
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
    *("return_dict_in_generate", "return_legacy_cache", "use_cache", "cache_implementation"),
    *("cache_config", "max_cache_len", "prefill_chunk_size", "low_memory", "compile_config"),
    *("disable_compile", "continuous_batching_config", "is_assistant", "num_assistant_tokens"),
    *("num_assistant_tokens_schedule", "assistant_confidence_threshold", "assistant_lookbehind"),
    *("target_lookbehind", "bos_token_id", "transformers_version", "_from_model_config"),
    "_commit_hash",
)
# Factors, which at one are not used; other options are not at None, False, zero or nothing.
_FACTORS = ("typical_p", "repetition_penalty", "encoder_repetition_penalty", "num_beam_groups")
# Where nobody says more, transformers makes as many new tokens.
_DEFAULT_LENGTH = 20


def to_fields(decoding: DecodingConfig, max_len: int) -> dict[str, Any]:
    """The fields of a decoding config (but T5X's beam scores), for at most `max_len` tokens.

    >>> fields = to_fields(GreedyConfig(min_len=2), max_len=9)
    >>> fields["max_new_tokens"], fields["min_length"]
    (9, 2)
    """
    fields = {
        "decoder_start_token_id": types.DECODER_START_ID,
        "eos_token_id": types.EOS_ID,
        "pad_token_id": types.PAD_ID,
        "max_new_tokens": max_len,
        "min_length": decoding.min_len,
    }
    if isinstance(decoding, SamplingConfig):
        fields["do_sample"] = True
        fields |= {name: getattr(decoding, name) for name in ("temperature", "top_k", "top_p")}
        fields["num_return_sequences"] = decoding.num_samples
    if isinstance(decoding, BeamSearchConfig):
        fields |= {"num_beams": decoding.num_beams, "num_return_sequences": decoding.num_return}
        if isinstance(decoding.scoring, HuggingFaceScoring):
            fields["length_penalty"] = decoding.scoring.length_penalty
            fields["early_stopping"] = decoding.scoring.early_stopping
    return fields


def from_fields(fields: Mapping[str, Any], scoring: Scoring | None = None) -> DecodingConfig:
    """The decoding config of fields, with transformers' defaults; `scoring` replaces beams' own."""
    given = {name: value for name, value in fields.items() if value is not None}
    min_len, num_texts = given.get("min_length", 0), given.get("num_return_sequences", 1)
    if given.get("do_sample"):  # Null temperature, top_k and top_p change no token.
        return SamplingConfig(
            temperature=given.get("temperature", 1.0),
            top_k=fields.get("top_k", 50) or 0,
            top_p=given.get("top_p", 1.0),
            num_samples=num_texts,
            min_len=min_len,
        )
    if given.get("num_beams", 1) == 1:
        return GreedyConfig(min_len)
    scoring = scoring or HuggingFaceScoring(
        length_penalty=given.get("length_penalty", 1.0),
        early_stopping=given.get("early_stopping") is True,
    )
    return BeamSearchConfig(given["num_beams"], num_texts, scoring, min_len)


def not_done(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields by which transformers would make other texts than are made here.

    >>> not_done({"num_beams": 4, "early_stopping": "never", "output_attentions": False})
    {'early_stopping': 'never'}
    """
    found = {}
    for name, value in fields.items():
        if name in _FIXED:
            is_done = value is None or value in _FIXED[name]
        elif name == "early_stopping":  # transformers also has "never", a rule of its own.
            is_done = value in (None, True, False)
        elif name in (*LENGTHS, *OF_BEAMS, *OF_SAMPLING, *_WITHOUT_EFFECT):
            is_done = True
        else:
            is_done = not value or (name in _FACTORS and value == 1)
        if not is_done:
            found[name] = value
    if fields.get("do_sample") and (fields.get("num_beams") or 1) != 1:
        found["num_beams"] = fields["num_beams"]  # Samples are of one beam here.
    return found


def max_len(fields: Mapping[str, Any]) -> int:
    """Most tokens with EOS; `max_length` counts the start token, unless transformers' default.

    >>> max_len({"max_length": 9}), max_len({"max_length": 9, "max_new_tokens": 9}), max_len({})
    (8, 9, 20)
    """
    if fields.get("max_new_tokens") is not None:
        return fields["max_new_tokens"]
    max_length = fields.get("max_length") or _DEFAULT_LENGTH
    return max_length if max_length == _DEFAULT_LENGTH else max_length - 1
