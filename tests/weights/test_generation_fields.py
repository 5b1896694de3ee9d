"""Fields of a generation_config.json mean to transformers what they mean here, both ways."""

import jax.numpy as jnp
import numpy as np
import pytest
import transformers

from hyperdecoders_jax import types
from hyperdecoders_jax.decoding import decoded
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig, HuggingFaceScoring, T5XScoring
from hyperdecoders_jax.decoding.sampling import GreedyConfig, SamplingConfig
from hyperdecoders_jax.hub import generation_options
from hyperdecoders_jax.weights import generation_fields, trained_model


@pytest.mark.parametrize(
    ("decoding", "options"),
    [
        (GreedyConfig(min_len=3), {"min_length": 3}),
        (
            BeamSearchConfig(4, scoring=HuggingFaceScoring(0.6, True)),
            {"num_beams": 4, "length_penalty": 0.6, "early_stopping": True},
        ),
        (BeamSearchConfig(3, 2, T5XScoring(0.8)), {"num_beams": 3, "num_return_sequences": 2}),
        (
            SamplingConfig(0.7, 20, 0.9, num_samples=2),
            {"do_sample": True, "top_k": 20, "top_p": 0.9, "num_return_sequences": 2},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_generation_is_that_of_the_run(decoding, options):
    fields = generation_fields.to_fields(decoding, 5)
    found = transformers.GenerationConfig(**fields)
    always = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    expected = {**always, "max_new_tokens": 5, **options}
    assert {name: getattr(found, name) for name in expected} == expected
    of_run = trained_model.decoding_to_json(decoding)
    assert generation_options.read(found, {}, of_run) == (decoding, 5)


def test_without_transformers_fields_mean_the_same():
    for decoding in (
        GreedyConfig(min_len=3),
        BeamSearchConfig(4, 2, HuggingFaceScoring(0.6, True), min_len=2),
        SamplingConfig(0.7, 20, 0.9, num_samples=2),
    ):
        fields = generation_fields.to_fields(decoding, 5)
        assert generation_fields.from_fields(fields) == decoding
        assert generation_fields.max_len(fields) == 5


@pytest.mark.parametrize(
    ("fields", "decoding", "max_len"),
    [
        ({"max_length": 20}, GreedyConfig(), 20),
        ({"max_length": 21}, GreedyConfig(), 20),
        ({"max_length": None, "min_length": None, "num_beams": None}, GreedyConfig(), 20),
        ({"do_sample": True}, SamplingConfig(top_k=50), 20),
        ({"do_sample": True, "temperature": None, "top_k": None, "top_p": None},
         SamplingConfig(), 20),
    ],
)  # fmt: skip
def test_what_nobody_says_is_as_in_transformers(fields, decoding, max_len):
    options = transformers.GenerationConfig(**fields)
    assert generation_options.read(options, {}) == (decoding, max_len)
    assert generation_fields.from_fields(fields) == decoding
    assert generation_fields.max_len(fields) == max_len


@pytest.mark.parametrize(
    ("fields", "undone"),
    [
        (transformers.GenerationConfig().to_dict(), []),
        ({"output_scores": True, "use_cache": False, "eos_token_id": [1], "min_p": None}, []),
        ({"eos_token_id": [1, 2]}, ["eos_token_id"]),
        ({"eos_token_id": 0, "pad_token_id": 7}, ["eos_token_id", "pad_token_id"]),
        ({"decoder_start_token_id": 3}, ["decoder_start_token_id"]),
        ({"num_beams": 4, "early_stopping": "never"}, ["early_stopping"]),
        ({"num_beams": 4, "do_sample": True}, ["num_beams"]),
        ({"num_beams": 1, "do_sample": True}, []),
        ({"repetition_penalty": 1.2, "typical_p": 1.0, "no_repeat_ngram_size": 0},
         ["repetition_penalty"]),
        ({"forced_eos_token_id": 1, "suppress_tokens": []}, ["forced_eos_token_id"]),
        ({"an_option_of_later_releases": "x"}, ["an_option_of_later_releases"]),
    ],
)  # fmt: skip
def test_what_would_make_other_texts_is_known(fields, undone):
    assert generation_fields.not_done(fields) == {name: fields[name] for name in undone}


@pytest.mark.torch
def test_as_many_tokens_come_before_eos_as_in_transformers():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    processor = transformers.MinLengthLogitsProcessor(3, types.EOS_ID)
    for index in range(4):
        tokens = torch.zeros(1, 1 + index, dtype=torch.long)  # from the start token on
        theirs = processor(tokens, torch.zeros(1, 4))
        ours = decoded.forbid_early_eos(jnp.zeros(4), index, min_len=3)
        np.testing.assert_array_equal(theirs[0], ours)
