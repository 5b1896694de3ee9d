"""Options of transformers' generate become our ways of decoding, or are refused; none is lost."""

import pytest
from transformers import GenerationConfig

from hyperdecoders_jax.decoding.beam_search import (
    BeamSearchConfig,
    HuggingFaceScoring,
    T5XScoring,
)
from hyperdecoders_jax.decoding.decode import GreedyConfig, SamplingConfig
from hyperdecoders_jax.hub import generation_options
from hyperdecoders_jax.hub.hyperdecoder_config import HyperdecoderConfig
from hyperdecoders_jax.weights import trained_model

OURS = HuggingFaceScoring


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, GreedyConfig()),
        ({"min_length": 3, "use_cache": False, "eos_token_id": 1}, GreedyConfig(min_len=3)),
        ({"num_beams": 4}, BeamSearchConfig(4)),
        (
            {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5, "min_length": 2},
            BeamSearchConfig(3, 2, OURS(length_penalty=0.5), min_len=2),
        ),
        ({"num_beams": 2, "early_stopping": True}, BeamSearchConfig(2, 1, OURS(1.0, True))),
        # transformers' own default keeps the 50 likeliest tokens.
        ({"do_sample": True}, SamplingConfig(top_k=50)),
        (
            {"do_sample": True, "temperature": None, "top_k": None, "top_p": None},
            SamplingConfig(),
        ),
        (
            {"do_sample": True, "temperature": 0.5, "top_k": 7, "top_p": 0.9, "min_length": 1}
            | {"num_return_sequences": 3},
            SamplingConfig(0.5, 7, 0.9, 3, min_len=1),
        ),
    ],
)
def test_options_mean_what_they_mean_to_transformers(options, expected):
    for defaults, given in ((GenerationConfig(**options), {}), (GenerationConfig(), options)):
        assert generation_options.read(defaults, given)[0] == expected


def test_a_model_without_generation_options_has_transformers_own():
    defaults = GenerationConfig.from_model_config(HyperdecoderConfig())
    assert generation_options.read(defaults, {"num_beams": 2}) == (BeamSearchConfig(2), 20)


@pytest.mark.parametrize(
    ("of_run", "options", "expected"),
    [
        (BeamSearchConfig(2, scoring=OURS(0.7)), {}, OURS()),
        (BeamSearchConfig(2, scoring=OURS(0.7)), {"length_penalty": 0.7}, OURS(0.7)),
        (BeamSearchConfig(2, scoring=T5XScoring(0.4)), {}, T5XScoring(0.4)),
        (BeamSearchConfig(2, scoring=T5XScoring()), {"early_stopping": True}, OURS(1.0, True)),
        (GreedyConfig(), {"length_penalty": 0.7}, OURS(0.7)),
    ],
)
def test_the_run_s_rules_of_a_beam_search_hold_where_the_options_agree(of_run, options, expected):
    of_run = trained_model.decoding_to_json(of_run)
    defaults = GenerationConfig(num_beams=4, **options)
    found, _ = generation_options.read(defaults, {}, of_run)
    assert found == BeamSearchConfig(4, scoring=expected)


@pytest.mark.parametrize(
    ("defaults", "given", "expected"),
    [
        ({}, {}, 20),  # as in transformers, where nobody says more
        ({"max_length": 9}, {}, 8),
        ({"max_new_tokens": 9}, {}, 9),
        ({}, {"max_length": 20}, 19),
        ({"max_new_tokens": 9}, {"max_length": 7}, 6),
        ({"max_length": 9}, {"max_new_tokens": 7}, 7),
        ({"max_new_tokens": 9}, {"max_length": 8, "max_new_tokens": 7}, 7),
    ],
)
def test_lengths_are_counted_without_the_start_token(defaults, given, expected):
    assert generation_options.read(GenerationConfig(**defaults), given)[1] == expected


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ({"repetition_penalty": 1.2}, r"repetition_penalty=1\.2"),
        ({"no_repeat_ngram_size": 3, "max_length": 5}, "no_repeat_ngram_size=3"),
        ({"eos_token_id": 2}, "eos_token_id=2"),
        ({"num_beams": 2, "early_stopping": "never"}, "early_stopping='never'"),
        ({"num_beams": 2, "do_sample": True}, "do_sample=True, num_beams=2"),
        ({"max_tokens": 7}, "max_tokens=7"),
        ({"logits_processor": [1]}, r"logits_processor=\[1\]"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(options, listed):
    message = rf"must be given options that this model has, .*; got {listed}\. Leave these out"
    with pytest.raises(ValueError, match=message):
        generation_options.read(GenerationConfig(), options)
