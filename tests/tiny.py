"""The model and the batch that tests share: tiny, and no two sizes equal."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from hyperdecoders_jax.modeling import config
from hyperdecoders_jax.types import Batch

VOCAB_SIZE = 31


NUM_TASKS = 4

# Factors of one gated kernel in each layer of one stack, as the paper's parameters are counted:
# features times blocks for a local factor, blocks for a global one.
GATE_COUNTS = {
    "L": lambda emb, rows, cols: emb * rows,
    "L2": lambda emb, rows, cols: emb * (rows + cols),
    "LG": lambda emb, rows, cols: emb * rows + cols,
    "GL": lambda emb, rows, cols: rows + emb * cols,
    "GG": lambda emb, rows, cols: rows + cols,
}


def make_config(
    encoder="manual", decoder="generated", *, norm_input=False, pooled_mlp=True, network=None,
    encoder_sites=("feed_forward",), decoder_sites=("feed_forward",), **kw,
):  # fmt: skip
    """A config with the given adapter sources; further fields as keywords."""
    network = network or config.HypernetworkConfig(
        bottleneck_dim=11, layer_embedding_dim=10, pooled_mlp=pooled_mlp
    )
    lora = config.LoraConfig(rank=2, alpha=3.0)
    sizes = dict(
        vocab_size=VOCAB_SIZE,
        emb_dim=8,
        num_heads=2,
        head_dim=6,
        mlp_dim=14,
        num_encoder_layers=2,
        num_decoder_layers=3,
        dropout_rate=0.1,
        encoder_adapter=config.AdapterConfig(encoder, 5, norm_input, network, encoder_sites, lora),
        decoder_adapter=config.AdapterConfig(decoder, 3, norm_input, network, decoder_sites, lora),
        num_tasks=NUM_TASKS,
    )
    return config.TransformerConfig(**(sizes | kw))


def make_batch(seed=0, batch=3, enc_len=7, dec_len=5):
    """Random tokens, each row of its own length, padded; targets end with EOS."""
    rng = np.random.default_rng(seed)

    def texts(length):
        tokens = rng.integers(2, VOCAB_SIZE, (batch, length))
        lengths = rng.integers(2, length + 1, batch)
        lengths[0] = length
        tokens[np.arange(batch), lengths - 1] = 1
        return np.where(np.arange(length) < lengths[:, None], tokens, 0).astype(np.int32)

    inputs, targets = texts(enc_len), texts(dec_len)
    return Batch(
        encoder_input_tokens=jnp.asarray(inputs),
        decoder_input_tokens=jnp.asarray(np.pad(targets, ((0, 0), (1, 0)))[:, :-1]),
        decoder_target_tokens=jnp.asarray(targets),
        decoder_loss_weights=jnp.asarray((targets > 0).astype(np.float32)),
        task_ids=jnp.asarray(rng.integers(0, NUM_TASKS, batch).astype(np.int32)),
    )


def make_params(model, seed=0, scale=0.4):
    """Parameters far from their initial values, so that every path shows in the outputs."""
    shapes = model.param_shapes()
    leaves, structure = jax.tree.flatten(shapes)
    rng = np.random.default_rng(seed)
    values = [jnp.asarray(rng.normal(0, scale, s.shape), s.dtype) for s in leaves]
    return structure.unflatten(values)


def take_examples(batch, rows):
    """The given rows of a batch."""
    return jax.tree.map(lambda leaf: leaf[rows], batch)


def pad_inputs(batch, amount):
    """The same batch with more padding behind its inputs."""
    padded = jnp.pad(batch.encoder_input_tokens, ((0, 0), (0, amount)))
    return dataclasses.replace(batch, encoder_input_tokens=padded)
