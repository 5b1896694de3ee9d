"""Decoding configuration from transformers' `GenerationConfig`.

Supported are `max_new_tokens`, `max_length` (with the start token) and `min_length`; for beams
`num_beams`, `num_return_sequences`, `length_penalty` and `early_stopping`; for samples `do_sample`,
`temperature`, `top_k`, `top_p` and `num_return_sequences`. Any other option that would change the
texts is an error, rather than ignored.
Source: transformers 4.57, GenerationConfig and GenerationMixin, the PyTorch one.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import transformers

from hyperdecoders_jax import types
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, HuggingFaceScoring, Scoring
from hyperdecoders_jax.decoding.decode import DecodingConfig
from hyperdecoders_jax.weights import generation_fields, trained_model

_READ = (*generation_fields.LENGTHS, *generation_fields.OF_BEAMS, *generation_fields.OF_SAMPLING)
_OF_SCORING = ("length_penalty", "early_stopping")
# These change no token.
_ABOUT_ITSELF = ("transformers_version", "_from_model_config")
_WITHOUT_EFFECT = ("use_cache", "return_dict_in_generate", *_ABOUT_ITSELF)
# Accepted with the model's values only.
_FIXED = {
    "pad_token_id": types.PAD_ID,
    "eos_token_id": types.EOS_ID,
    "decoder_start_token_id": types.DECODER_START_ID,
}


def read(
    defaults: transformers.GenerationConfig,
    given: Mapping[str, Any],
    of_run: Mapping[str, Any] | None = None,
) -> tuple[DecodingConfig, int]:
    """Decoding configuration, and the most tokens after the start token.

    >>> options = transformers.GenerationConfig(num_beams=4, max_length=9)
    >>> read(options, {"num_beams": 1, "min_length": 2})
    (GreedyConfig(min_len=2), 8)

    `given` overrides the `defaults`. `of_run` is the decoding of the run's predictions, from
    `config.json`: a beam search scores like the run's, by Hugging Face's rules with the options'
    `length_penalty` and `early_stopping`, or by T5X's, unless the options differ from transformers'
    defaults in these two. Raises ValueError for options that are unknown or not supported.
    """
    # transformers updates in place, and the defaults may be the model's own.
    options = copy.deepcopy(defaults)
    unknown = options.update(**given)
    _check(options, unknown)
    decoding = generation_fields.from_fields(options.to_dict(), _scoring(options, of_run))
    # A `max_length` of the call overrides the defaults' `max_new_tokens`, which else wins.
    if given.get("max_length") is not None and given.get("max_new_tokens") is None:
        return decoding, options.max_length - 1
    return decoding, generation_fields.max_len(options.to_dict())


def _check(options: transformers.GenerationConfig, unknown: Mapping[str, Any]) -> None:
    plain = transformers.GenerationConfig().to_dict()
    refused = {name: value for name, value in unknown.items() if value is not None}  # None: unset.
    for name, value in options.to_dict().items():
        # An option at transformers' own default does nothing, whatever it is.
        is_good = name in (*_READ, *_WITHOUT_EFFECT) or value == plain.get(name)
        if name in _FIXED:
            is_good = value in (None, _FIXED[name])
        if not is_good:
            refused[name] = value
    # transformers also has "never", a rule of its own.
    if options.early_stopping not in (True, False):
        refused["early_stopping"] = options.early_stopping
    if options.do_sample and options.num_beams > 1:
        refused |= {"do_sample": True, "num_beams": options.num_beams}
    if refused:
        listed = ", ".join(f"{name}={value!r}" for name, value in refused.items())
        raise ValueError(
            f"Method generate must be given options that this model has, {', '.join(_READ)}, of "
            "which do_sample and beams exclude each other, and early_stopping is True or False; "
            f"got {listed}. Leave these out, in the call and in generation_config.json."
        )


def _scoring(options: transformers.GenerationConfig, of_run: Mapping[str, Any] | None) -> Scoring:
    of_run = of_run and trained_model.decoding_from_json(of_run)
    scoring = of_run.scoring if isinstance(of_run, BeamSearchConfig) else HuggingFaceScoring()
    wanted = {name: getattr(options, name) for name in _OF_SCORING}
    if isinstance(scoring, HuggingFaceScoring):
        return dataclasses.replace(scoring, **wanted)
    plain = transformers.GenerationConfig()
    is_plain = all(value == getattr(plain, name) for name, value in wanted.items())
    return scoring if is_plain else HuggingFaceScoring(**wanted)
