"""A tiny T5 with a generated decoder adapter, and batches for it; sizes are unequal."""

import jax
import numpy as np

from hyperdecoders_jax.losses import LossConfig
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling.config import AdapterConfig, HypernetworkConfig, TransformerConfig
from hyperdecoders_jax.training import trainable
from hyperdecoders_jax.types import Batch

VOCAB_SIZE = 24
TRAINED = trainable.TrainableConfig(layer_norms=True)


def make_model(dropout_rate=0.1, reduction="sum", bottleneck_dim=2, emb_dim=8):
    return Model(
        TransformerConfig(
            vocab_size=VOCAB_SIZE,
            emb_dim=emb_dim,
            num_heads=2,
            head_dim=5,
            mlp_dim=12,
            num_encoder_layers=1,
            num_decoder_layers=1,
            dropout_rate=dropout_rate,
            decoder_adapter=AdapterConfig(
                "generated",
                bottleneck_dim=bottleneck_dim,
                hypernetwork=HypernetworkConfig(bottleneck_dim=6),
            ),
        ),
        LossConfig(reduction=reduction),
    )


def make_params(model, seed=0):
    """Random trainable and frozen parameters, on the host; to compile an initializer takes long."""
    rng = np.random.default_rng(seed)

    def draw(shape):
        return rng.normal(scale=0.3, size=shape.shape).astype(np.float32)

    return trainable.split(jax.tree.map(draw, model.param_shapes()), TRAINED)


def make_batch(seed=0, batch_size=8, enc_len=7, dec_len=5):
    rng = np.random.default_rng(seed)
    targets = rng.integers(2, VOCAB_SIZE, (batch_size, dec_len)).astype(np.int32)
    lengths = rng.integers(1, dec_len + 1, batch_size)
    weights = np.arange(dec_len) < lengths[:, None]
    targets *= weights
    return Batch(
        encoder_input_tokens=rng.integers(1, VOCAB_SIZE, (batch_size, enc_len)).astype(np.int32),
        decoder_input_tokens=np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        decoder_target_tokens=targets,
        decoder_loss_weights=weights.astype(np.float32),
        task_ids=rng.integers(0, 3, batch_size).astype(np.int32),
    )


def pack(batch):
    """The same examples, two in a row."""

    def side_by_side(x):
        return x.reshape(len(x) // 2, -1)

    def segments(x):
        ids = np.repeat([[1, 2]], x.shape[1], axis=1)
        positions = np.tile(np.arange(x.shape[1]), 2)[None]
        rows = (len(x) // 2, 1)
        return [np.tile(values, rows).astype(np.int32) for values in (ids, positions)]

    of_encoder, of_decoder = map(segments, (batch.encoder_input_tokens, batch.decoder_input_tokens))
    fields = {name: side_by_side(x) for name, x in batch.features().items()}
    names = ("encoder_segment_ids", "encoder_positions", "decoder_segment_ids", "decoder_positions")
    return Batch(**fields, **dict(zip(names, [*of_encoder, *of_decoder], strict=True)))


class Batches:
    """An endless iterator over batches, with a position as the pipeline's has one."""

    def __init__(self, batch_size=8, is_packed=False):
        self.count = 0
        self.batch_size, self.is_packed = batch_size, is_packed

    def __iter__(self):
        return self

    def __next__(self):
        self.count += 1
        batch = make_batch(self.count, self.batch_size)
        return pack(batch) if self.is_packed else batch

    def position(self):
        return {"count": self.count}

    def packing(self):
        return {}

    def restore(self, position):
        self.count = position["count"]
