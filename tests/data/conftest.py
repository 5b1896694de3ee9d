"""Small SeqIO tasks that are made, not registered, so that tests do not see each other's."""

import numpy as np
import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax.data import pipeline

LENGTHS = {"inputs": 8, "targets": 3}


@pytest.fixture
def make_task():
    """A function that makes a task whose inputs and targets are given as text."""
    return _make_task


@pytest.fixture
def register():
    """Registers tasks and mixtures for one test."""
    added = []

    def add(provider):
        is_task = isinstance(provider, seqio.Task)
        registry = seqio.TaskRegistry if is_task else seqio.MixtureRegistry
        registry.add_provider(provider.name, provider)
        added.append((registry, provider.name))
        return provider.name

    yield add
    for registry, name in added:
        registry.remove(name)


def _make_task(
    name,
    num_examples=10,
    inputs=None,
    targets=None,
    splits=("train",),
    preprocessors=(),
    append_eos=seqio.preprocessors.append_eos,
    counts=True,
    takes_seed=True,
    **kwargs,
):
    num_examples = len(inputs or targets or range(num_examples))
    texts = inputs or [f"{name} {i}" for i in range(num_examples)]
    answers = targets or [str(i % 3) for i in range(num_examples)]

    def read(split, shuffle_files, seed=None):
        rows = {"inputs": texts, "targets": answers, "number": np.arange(len(texts))}
        return tf.data.Dataset.from_tensor_slices(rows)

    def read_without_seed(split, shuffle_files):
        return read(split, shuffle_files)

    vocabulary = seqio.ByteVocabulary()
    return seqio.Task(
        name,
        source=seqio.FunctionDataSource(
            read if takes_seed else read_without_seed,
            splits=splits,
            num_input_examples=dict.fromkeys(splits, len(texts)) if counts else None,
        ),
        preprocessors=[*preprocessors, seqio.preprocessors.tokenize, append_eos],
        output_features={
            "inputs": seqio.Feature(vocabulary),
            "targets": seqio.Feature(vocabulary),
        },
        **kwargs,
    )


def mixture_of(*sizes_and_rates, **kwargs):
    tasks = [
        (_make_task(chr(ord("a") + i), size, **kwargs), rate)
        for i, (size, rate) in enumerate(sizes_and_rates)
    ]
    return seqio.Mixture("m", tasks)


def config_of(provider, **kwargs):
    return pipeline.PipelineConfig(provider, LENGTHS, **{"batch_size": 4, **kwargs})


def texts(batches):
    vocabulary = seqio.ByteVocabulary()
    return [
        vocabulary.decode([int(i) for i in row])
        for batch in batches
        for row in batch.encoder_input_tokens
    ]
