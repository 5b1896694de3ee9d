import pytest

from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling.compute import ComputeConfig
from hyperdecoders_jax.modeling.hypergrid import HyperGridConfig
from hyperdecoders_jax.planning import flops, planner, programs
from hyperdecoders_jax.training.trainable import TrainableConfig
from tests import tiny

LENGTHS = (7, 5)


def count(encoder, decoder, **fields):
    model = planner.cut(Model(tiny.make_config(**fields)), encoder, decoder)
    return flops.of_example(model, TrainableConfig(), *LENGTHS)


def test_each_layer_needs_as_many():
    shallow = [count(*depth) for depth in programs.DEPTHS]
    assert count(4, 3) == pytest.approx(programs.extend(*shallow, 4, 3), rel=1e-3)


def test_what_is_computed_again_is_not_needed():
    again = ComputeConfig(remat="layer", dropout="broadcast", logits_chunk=2)
    assert count(2, 1, compute=again) == count(2, 1)


def test_gated_products_are_counted_in_full():
    grids = dict.fromkeys(("encoder_hypergrid", "decoder_hypergrid"), HyperGridConfig(4, 2))
    plain, gated = (
        flops.of_example(
            Model(tiny.make_config("none", "none", mlp_dim=12, **fields)),
            TrainableConfig(backbone=True),
            *LENGTHS,
        )
        for fields in ({}, grids)
    )
    assert plain < gated < 2 * plain
