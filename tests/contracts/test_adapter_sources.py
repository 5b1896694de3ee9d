"""What holds for every adapter source on every side where it may stand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.modeling import adapter_sources
from hyperdecoders_jax.modeling.config import SOURCES_OF_SIDE
from tests import tiny

CASES = [(side, source) for side, sources in SOURCES_OF_SIDE.items() for source in sources]


@functools.cache
def make_model(side, source):
    sources = {"encoder": "none", "decoder": "none", side: source}
    return model.Model(tiny.make_config(**sources))


@pytest.mark.parametrize(("side", "source"), CASES)
def test_new_parameters_stand_under_a_key_of_their_own(side, source):
    keys = set(make_model(side, source).param_shapes()) - set(model.BACKBONE_KEYS)
    assert keys == (set() if source == "none" else {f"{side}_adapters"})


@pytest.mark.parametrize(("side", "source"), CASES)
def test_every_parameter_has_an_axis_name_for_each_dimension(side, source):
    shapes, axes = make_model(side, source).param_shapes(), make_model(side, source).param_axes()
    jax.tree.map(lambda shape, names: None, shapes, axes, is_leaf=lambda x: isinstance(x, tuple))
    flat_axes = jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, tuple))
    for shape, names in zip(jax.tree.leaves(shapes), flat_axes, strict=True):
        assert len(shape.shape) == len(names)
        assert all(isinstance(name, str) for name in names)


@pytest.mark.parametrize(("side", "source"), [case for case in CASES if case[1] != "none"])
def test_adapters_come_for_all_layers_and_fit_their_shapes(side, source):
    config = make_model(side, source).config
    condition = adapter_sources.Condition(jnp.ones((3, config.emb_dim)), jnp.arange(3))
    module = adapter_sources.SOURCES[source](config, side)
    adapters, _ = module.init_with_output(jax.random.key(0), condition)
    num_layers = getattr(config, f"num_{side}_layers")
    bottleneck = getattr(config, f"{side}_adapter").bottleneck_dim
    lead = adapters.down_kernel.shape[:-2]
    assert lead in ((num_layers,), (num_layers, 3))
    assert adapters.down_kernel.shape == (*lead, config.emb_dim, bottleneck)
    assert adapters.down_bias.shape == (*lead, bottleneck)
    assert adapters.up_kernel.shape == (*lead, bottleneck, config.emb_dim)
    assert adapters.up_bias.shape == (*lead, config.emb_dim)


@pytest.mark.parametrize(("side", "source"), CASES)
def test_a_fresh_model_is_almost_plain_t5(side, source):
    fresh, plain = make_model(side, source), make_model(side, "none")
    params = fresh.init(jax.random.key(0))
    backbone = {key: params[key] for key in model.BACKBONE_KEYS}
    batch = tiny.make_batch()
    # Adapters start at 1e-3 of the residual stream or less.
    np.testing.assert_allclose(
        fresh.logits(params, batch), plain.logits(backbone, batch), atol=2e-2
    )


@pytest.mark.parametrize(("side", "source"), CASES)
def test_every_parameter_gets_a_gradient(side, source):
    tiny_model = make_model(side, source)
    batch = tiny.make_batch()
    gradients = jax.jit(jax.grad(lambda p: tiny_model.loss(p, batch)[0]))(
        tiny.make_params(tiny_model)
    )
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.all(np.isfinite(gradient)), path
        assert np.any(gradient != 0), path
