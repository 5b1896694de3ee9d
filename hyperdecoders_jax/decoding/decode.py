"""Dispatch to a way of decoding, by the type of its configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jaxtyping import Array, PRNGKeyArray, UInt32

from hyperdecoders_jax.decoding import beam_search, sampling
from hyperdecoders_jax.decoding.beam_search import BeamSearchConfig
from hyperdecoders_jax.decoding.decoded import Decoded, NextToken
from hyperdecoders_jax.decoding.sampling import GreedyConfig, SamplingConfig
from hyperdecoders_jax.types import PyTree

DecodingConfig = GreedyConfig | SamplingConfig | BeamSearchConfig
# Task → (most tokens of a text, beams), where that differs from the run's way of decoding.
Generation = Mapping[str, tuple[int, int]]


def num_hypotheses(config: DecodingConfig) -> int:
    """Rows of the cache for each example."""
    match config:
        case BeamSearchConfig():
            return config.num_beams
        case SamplingConfig():
            return config.num_samples
        case GreedyConfig():
            return 1
    raise TypeError(
        "The way of decoding must be a GreedyConfig, SamplingConfig or BeamSearchConfig; got "
        f"{config!r}. Bind Model.decoding in a file of gin_configs/decoding."
    )


def with_num_beams(config: DecodingConfig, num_beams: int) -> DecodingConfig:
    """The same way of decoding with `num_beams`; one beam is greedy, sampling stays as it is.

    >>> with_num_beams(GreedyConfig(min_len=2), 6).num_beams
    6
    >>> with_num_beams(BeamSearchConfig(num_beams=4, min_len=2), 1)
    GreedyConfig(min_len=2)
    """
    match config:
        case SamplingConfig():
            return config
        case _ if num_beams == 1:
            return GreedyConfig(min_len=config.min_len)
        case BeamSearchConfig():
            return dataclasses.replace(config, num_beams=num_beams, num_return=1)
    return BeamSearchConfig(num_beams=num_beams, min_len=config.min_len)


def for_task(
    config: DecodingConfig, max_len: int, generation: Generation, task_name: str | None
) -> tuple[DecodingConfig, int]:
    """The way of decoding for a task, and the most tokens of its texts.

    >>> for_task(GreedyConfig(), 8, {"xsum": (64, 4)}, "rte")
    (GreedyConfig(min_len=0), 8)
    >>> for_task(GreedyConfig(), 8, {"xsum": (64, 4)}, "xsum")[0].num_beams
    4
    """
    if task_name not in generation:
        return config, max_len
    max_len, num_beams = generation[task_name]
    return with_num_beams(config, num_beams), max_len


def decode(
    config: DecodingConfig,
    next_token: NextToken,
    cache: PyTree,
    *,
    batch_size: int,
    max_len: int,
    sample_rng: PRNGKeyArray | UInt32[Array, "2"] | None = None,
) -> Decoded:
    """Decodes at most `max_len` tokens, EOS included, as `config` says.

    The cache's leaves are `[batch_size, num_hypotheses(config), ...]`. `SamplingConfig` alone needs
    `sample_rng`, and raises ValueError without.
    """
    sizes = {"batch_size": batch_size, "max_len": max_len}
    match config:
        case BeamSearchConfig():
            return beam_search.beam_search(next_token, cache, config, **sizes)
        case GreedyConfig():
            return sampling.greedy(next_token, cache, config, **sizes)
    if sample_rng is None:
        raise ValueError(
            f"Sampling needs a random key; got sample_rng=None with {config!r}. "
            "Pass sample_rng=jax.random.key(seed), or decode with GreedyConfig."
        )
    return sampling.sample(next_token, cache, config, sample_rng=sample_rng, **sizes)
