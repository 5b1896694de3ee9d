"""T5X lays our parameters out as our own runner does, and factors them as it should."""

import jax
import pytest
from flax.linen import partitioning as flax_partitioning

pytest.importorskip("t5x", reason="T5X is not installed")

from t5x import adafactor

from hyperdecoders_jax import model
from hyperdecoders_jax.interop import names
from hyperdecoders_jax.modeling import config
from hyperdecoders_jax.t5x import partitioning
from hyperdecoders_jax.training import partitioning as own
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


def make_xxl():
    """T5 1.1 XXL as the paper adapts T5: manual adapters in the encoder, generated ones behind."""
    return model.Model(
        config.TransformerConfig(
            **XXL,
            encoder_adapter=config.AdapterConfig("manual"),
            decoder_adapter=config.AdapterConfig("generated"),
        )
    )


def new_parameters(tree):
    flat = names.flatten(tree)
    return {path: x for path, x in flat.items() if path.split("/")[0] not in model.BACKBONE_KEYS}


def mesh_axes(axes):
    return flax_partitioning.logical_to_mesh_axes(axes, partitioning.logical_axis_rules())


def test_the_new_parameters_that_are_replicated_at_xxl_are_these():
    made = make_xxl()
    shapes, axes = new_parameters(made.param_shapes()), new_parameters(made.param_axes())
    replicated = {path for path in shapes if not any(mesh_axes(axes[path]))}
    encoder, decoder = "encoder_adapters/feed_forward", "decoder_adapters"
    network = f"{decoder}/hypernetwork"
    assert replicated == {
        *(f"{encoder}/{part}_{kind}" for part in ("down", "up") for kind in ("kernel", "bias")),
        *(f"{decoder}/pooled_mlp/dense_{i}/{kind}" for i in (0, 1) for kind in ("kernel", "bias")),
        *(f"{network}/{name}" for name in ("layer_embedding", "hidden/kernel", "hidden/bias")),
    }
    is_cut = {path: x.size for path, x in shapes.items() if path not in replicated}
    assert sum(is_cut.values()) > 0.5 * sum(x.size for x in shapes.values())


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
