import jax
import jax.numpy as jnp
import numpy as np

from hyperdecoders_jax.modeling import hypernetwork, initializers, sites
from hyperdecoders_jax.modeling.config import HypernetworkConfig, PerLayerHypernetworkConfig
from tests import tiny

LAYERS, BATCH, EMB, BOTTLENECK, HIDDEN = 4, 3, 8, 3, 11
SHAPES = {
    "down_kernel": (EMB, BOTTLENECK),
    "down_bias": (BOTTLENECK,),
    "up_kernel": (BOTTLENECK, EMB),
    "up_bias": (EMB,),
}


def make(seed=0, network_class=hypernetwork.Hypernetwork, config_class=HypernetworkConfig):
    network = network_class(
        config_class(bottleneck_dim=HIDDEN),
        sites.of_side(tiny.make_config(), "decoder"),
        LAYERS,
        jnp.float32,
    )
    condition = jax.random.normal(jax.random.key(seed), (BATCH, EMB))
    # One program, where op by op would be many.
    return network, jax.jit(network.init)(jax.random.key(1), condition)["params"], condition


def test_every_layer_and_example_is_the_plain_formula():
    network, params, condition = make()
    params = jax.tree.map(lambda x: np.asarray(x) + 0.1, params)
    condition = np.asarray(condition)
    adapters = jax.jit(network.apply)({"params": params}, condition)
    for layer in range(LAYERS):
        for row in range(BATCH):
            u = np.concatenate([condition[row], params["layer_embedding"][layer]])
            r = np.maximum(u @ params["hidden"]["kernel"] + params["hidden"]["bias"], 0)
            for name, shape in SHAPES.items():
                head = params["feed_forward"][name]
                expected = (r @ head["kernel"] + head["bias"]).reshape(shape)
                found = adapters["feed_forward"][name][layer, row]
                np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_network_per_layer_is_the_plain_formula():
    network, params, condition = make(
        network_class=hypernetwork.PerLayerHypernetwork, config_class=PerLayerHypernetworkConfig
    )
    params = jax.tree.map(lambda x: np.asarray(x) + 0.1, params)
    condition = np.asarray(condition)
    adapters = jax.jit(network.apply)({"params": params}, condition)
    for layer in range(LAYERS):
        own = jax.tree.map(lambda x, layer=layer: x[layer], params)
        r = np.maximum(condition @ own["hidden"]["kernel"] + own["hidden"]["bias"], 0)
        for name, shape in SHAPES.items():
            head = own["feed_forward"][name]
            expected = (r @ head["kernel"] + head["bias"]).reshape(BATCH, *shape)
            found = adapters["feed_forward"][name][layer]
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_initial_values_are_the_originals():
    _, params, _ = make()
    fan_in = EMB + 10
    bounds = {
        ("hidden", "kernel"): 1 / np.sqrt(fan_in),
        ("hidden", "bias"): 1 / np.sqrt(fan_in),
        ("up_kernel", "kernel"): 1e-3 * np.sqrt(3 / (HIDDEN * BOTTLENECK)),
        ("down_kernel", "kernel"): 1e-3 * np.sqrt(3 / (HIDDEN * EMB)),
        ("up_bias", "kernel"): 1e-3 * np.sqrt(3 / HIDDEN),
        ("down_bias", "kernel"): 1e-3 * np.sqrt(3 / HIDDEN),
    }
    heads = params.pop("feed_forward")
    for (module, name), bound in bounds.items():
        largest = np.max(np.abs((params | heads)[module][name]))
        assert 0.7 * bound < largest <= bound, (module, name)
    for head in ("up_kernel", "down_kernel", "up_bias", "down_bias"):
        np.testing.assert_array_equal(heads[head]["bias"], 0.0)
    assert 0.6 < np.std(params["layer_embedding"]) < 1.4


def test_a_condition_writes_its_own_adapters_alone():
    network, params, condition = make()
    together = jax.jit(network.apply)({"params": params}, condition)
    alone = jax.jit(network.apply)({"params": params}, condition[1:2])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x[:, 1], y[:, 0], atol=1e-6), together, alone
    )


def test_learned_adapters_start_as_the_originals():
    key = jax.random.key(0)
    for num_tasks, shape, fans in ((None, (2, 40, 7), 40 + 7), (5, (2, 5, 40, 7), 7 * (40 + 5))):
        kernel = initializers.adapter_kernel(40, 7, num_tasks)(key, shape)
        bound = 1e-4 * np.sqrt(6 / fans)
        assert 0.98 * bound < np.max(np.abs(kernel)) <= bound
