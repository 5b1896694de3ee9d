"""Any slice is cut into copies of the model; parameters lie in one as under our own runner."""

import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest
from flax.linen import partitioning as flax_partitioning

pytest.importorskip("t5x", reason="T5X is not installed")

from t5x import adafactor
from t5x import partitioning as base

from hyperdecoders_jax import model
from hyperdecoders_jax.modeling import config
from hyperdecoders_jax.t5x import partitioning
from hyperdecoders_jax.training import partitioning as own
from hyperdecoders_jax.weights import names
from tests import tiny

pytestmark = pytest.mark.t5x

XXL = dict(
    vocab_size=32128,
    emb_dim=4096,
    num_heads=64,
    head_dim=64,
    mlp_dim=10240,
    num_encoder_layers=24,
    num_decoder_layers=24,
)
NUM_MODEL = 8

# Bounds of a slice and of a host in it, along (x, y, z, cores), as libtpu describes them.
SLICES = {
    "v5e:2x2": ((2, 2, 1, 1), (2, 2, 1, 1)),
    "v5e:4x8": ((4, 8, 1, 1), (2, 2, 1, 1)),
    "v6e:2x4": ((2, 4, 1, 1), (2, 2, 1, 1)),
    "v5p:4x4x4": ((4, 4, 4, 1), (2, 2, 1, 1)),
    "v5p:2x2x4": ((2, 2, 4, 1), (2, 2, 1, 1)),
    "v4:2x2x4, cores apart": ((2, 2, 4, 2), (2, 2, 1, 2)),
    "v3:4x4": ((4, 4, 1, 2), (2, 2, 1, 2)),
}


@dataclasses.dataclass(frozen=True)
class Chip:
    """What the layout reads of a device."""

    process_index: int
    coords: tuple[int, int, int]
    core_on_chip: int
    platform: str = "tpu"


def make_slice(name):
    bounds, of_host = SLICES[name]
    hosts = tuple(n // h for n, h in zip(bounds, of_host, strict=True))
    chips = []
    for place in itertools.product(*map(range, bounds)):
        host = tuple(i // h for i, h in zip(place, of_host, strict=True))
        chips.append(Chip(int(np.ravel_multi_index(host, hosts)), place[:3], place[3]))
    return chips


def t5x_mesh(tile, chips):
    return base.get_mesh(tile, chips, [chip for chip in chips if chip.process_index == 0])


def is_block(places):
    return math.prod(np.ptp(places, axis=0) + 1) == len(places)


@pytest.mark.parametrize("name", SLICES)
def test_every_power_of_two_up_to_the_slice_can_share_a_model(name):
    chips = make_slice(name)
    for num_model in 2 ** np.arange(int(math.log2(len(chips))) + 1):
        mesh = t5x_mesh(partitioning.model_parallel_submesh(num_model, chips), chips)
        assert dict(mesh.shape) == {"data": len(chips) // num_model, "model": num_model}
        assert set(mesh.devices.flat) == set(chips)
        # Or T5X could not tell which part of an array a process holds.
        process = np.vectorize(lambda chip: chip.process_index)(mesh.devices)
        assert all(is_block(np.argwhere(process == i)) for i in np.unique(process))


@pytest.mark.parametrize(
    ("name", "num_model", "tile"),
    [
        ("v5e:4x8", 2, (2, 1, 1, 1)),
        ("v5e:4x8", 4, (2, 2, 1, 1)),
        ("v5e:4x8", 8, (4, 2, 1, 1)),
        ("v5p:4x4x4", 8, (2, 2, 2, 1)),
        ("v5p:2x2x4", 16, (2, 2, 4, 1)),
        # These are T5X's own.
        ("v3:4x4", 2, (1, 1, 1, 2)),
        ("v3:4x4", 4, (2, 1, 1, 2)),
        ("v3:4x4", 8, (2, 2, 1, 2)),
        ("v3:4x4", 16, (4, 2, 1, 2)),
    ],
)
def test_those_that_share_a_model_are_near_each_other(name, num_model, tile):
    assert partitioning.model_parallel_submesh(num_model, make_slice(name)) == tile


def test_gpus_are_left_to_t5x():
    gpu = Chip(0, (0,), 0, platform="gpu")
    assert partitioning.model_parallel_submesh(4, [gpu]) is None


@pytest.mark.parametrize("num_model", [0, 3, 64])
def test_a_number_that_does_not_fill_the_slice_is_refused(num_model):
    wanted = rf"got {num_model} for \(4, 8, 1, 1\) devices, .* one of \[1, 2, 4, 8, 16, 32\]"
    with pytest.raises(ValueError, match=wanted):
        partitioning.model_parallel_submesh(num_model, make_slice("v5e:4x8"))


def make_xxl(encoder="manual", decoder="generated", network=None):
    """T5 1.1 XXL, by default as the paper adapts T5."""
    network = network or config.HypernetworkConfig()
    return model.Model(
        config.TransformerConfig(
            **XXL,
            encoder_adapter=config.AdapterConfig(encoder, hypernetwork=network),
            decoder_adapter=config.AdapterConfig(decoder, hypernetwork=network),
            num_tasks=8,
        )
    )


def mesh_axes(axes, **rules):
    return flax_partitioning.logical_to_mesh_axes(axes, partitioning.logical_axis_rules(**rules))


def whole(made, **rules):
    """What every device holds all of, but for norms: {path: size}."""
    shapes, axes = names.flatten(made.param_shapes()), names.flatten(made.param_axes())
    is_norm = {path for path in axes if path.endswith("norm/scale")}
    kept = {path for path in axes if not any(mesh_axes(axes[path], **rules))}
    return {path: shapes[path].size for path in kept - is_norm}


# 151 MB with AdamW's moments. Cut at their bottleneck, they would make eight devices of a v5e pass
# a third more between them in a layer, says its compiler.
ADAPTER = {f"feed_forward/{part}_{kind}" for part in ("down", "up") for kind in ("kernel", "bias")}
ENCODER = {f"encoder_adapters/{path}" for path in ADAPTER}
# They read the condition and a layer's embedding: 4106 features, which do not divide by four.
HIDDEN = {f"decoder_adapters/hypernetwork/hidden/{kind}" for kind in ("kernel", "bias")}


@pytest.mark.parametrize(
    ("made", "expected", "most_bytes"),
    [
        (
            make_xxl(),
            # Of 24 times 10 numbers.
            {*ENCODER, *HIDDEN, "decoder_adapters/hypernetwork/layer_embedding"},
            160e6,
        ),
        # A network for each layer has a hidden kernel for each.
        (make_xxl(network=config.PerLayerHypernetworkConfig()), {*ENCODER, *HIDDEN}, 310e6),
        # Of eight tasks; see the next test.
        (
            make_xxl("manual_specific", "manual_specific"),
            {*ENCODER, *(f"decoder_adapters/{path}" for path in ADAPTER)},
            2.5e9,
        ),
    ],
    ids=["hyperdecoder", "hyperdecoder_per_layer", "per_task_adapter"],
)
def test_what_every_device_holds_whole_at_xxl(made, expected, most_bytes):
    found = whole(made)
    assert set(found) == expected
    # With AdamW's two moments, in float32.
    assert 3 * 4 * sum(found.values()) < most_bytes


def test_a_rule_cuts_adapters_of_many_tasks():
    made = make_xxl("manual_specific", "manual_specific")
    found = whole(made, additional_rules=[("bottleneck", "model")])
    assert set(found) == {
        f"{side}_adapters/feed_forward/up_bias" for side in ("encoder", "decoder")
    }


def test_axes_that_are_cut_divide_at_xxl():
    made = make_xxl()
    shapes, axes = names.flatten(made.param_shapes()), names.flatten(made.param_axes())
    for path, shape in shapes.items():
        for size, axis in zip(shape.shape, mesh_axes(axes[path]), strict=True):
            assert axis is None or size % NUM_MODEL == 0, path


@pytest.mark.parametrize("decoder", ["manual_specific", "task", "generated"])
def test_parameters_lie_as_under_our_own_runner(decoder):
    made = model.Model(tiny.make_config("manual", decoder, norm_input=True))
    mesh = jax.sharding.AbstractMesh((1, 1), ("data", "model"))
    shardings = own.Partitioner(mesh, own.PartitioningConfig()).param_shardings(
        made.param_shapes(), made.param_axes()
    )
    axes = names.flatten(made.param_axes())
    for path, sharding in names.flatten(shardings).items():
        assert mesh_axes(axes[path]) == sharding.spec, path


def test_a_users_rule_counts_before_ours():
    rules = partitioning.logical_axis_rules(additional_rules=[("hyper_out", None)])
    found = flax_partitioning.logical_to_mesh_axes(("hyper_hidden", "hyper_out"), rules)
    assert found == jax.sharding.PartitionSpec(None, None)


def test_adafactor_has_a_rule_for_every_axis():
    axes = {name for name, _ in own.LOGICAL_AXIS_RULES}
    assert axes <= set(partitioning.logical_factor_rules())


def test_adafactor_factors_the_large_kernels_within_a_layer():
    made = model.Model(
        tiny.make_config("manual", "task", network=config.PerLayerHypernetworkConfig(11))
    )
    flat_axes = names.flatten(made.param_axes())
    optimizer = adafactor.Adafactor(1e-3, logical_factor_rules=partitioning.logical_factor_rules())
    axes = {path: jax.sharding.PartitionSpec(*x) for path, x in flat_axes.items()}
    optimizer.set_param_axes(names.unflatten(axes))
    state = jax.eval_shape(optimizer.init_state, made.param_shapes()).param_states
    kernel = state["encoder_adapters"]["feed_forward"]["down_kernel"]  # [layers, embed, bottleneck]
    assert (kernel.v_row.shape, kernel.v_col.shape) == ((2, 8), (2, 5))
    head = state["decoder_adapters"]["hypernetwork"]["feed_forward"]["up_kernel"]["kernel"]
    assert (head.v_row.shape, head.v_col.shape) == ((3, 11), (3, 24))
