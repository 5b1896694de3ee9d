import jax
import jax.numpy as jnp
import numpy as np

from hyperdecoders_jax.modeling import hypernetwork
from hyperdecoders_jax.modeling.config import HypernetworkConfig

LAYERS, BATCH, EMB, BOTTLENECK, HIDDEN = 4, 3, 8, 5, 11


def make(seed=0):
    network = hypernetwork.Hypernetwork(
        HypernetworkConfig(bottleneck_dim=HIDDEN), LAYERS, EMB, BOTTLENECK, jnp.float32
    )
    condition = jax.random.normal(jax.random.key(seed), (BATCH, EMB))
    return network, network.init(jax.random.key(1), condition)["params"], condition


def test_every_layer_and_example_is_the_plain_formula():
    network, params, condition = make()
    params = jax.tree.map(lambda x: x + 0.1, params)
    adapters = network.apply({"params": params}, condition)
    for layer in range(LAYERS):
        for row in range(BATCH):
            u = np.concatenate([condition[row], params["layer_embedding"][layer]])
            r = np.maximum(u @ params["hidden"]["kernel"] + params["hidden"]["bias"], 0)
            for name, shape in [
                ("down_kernel", (EMB, BOTTLENECK)),
                ("down_bias", (BOTTLENECK,)),
                ("up_kernel", (BOTTLENECK, EMB)),
                ("up_bias", (EMB,)),
            ]:
                expected = (r @ params[name]["kernel"] + params[name]["bias"]).reshape(shape)
                np.testing.assert_allclose(getattr(adapters, name)[layer, row], expected, atol=1e-5)


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
    for (module, name), bound in bounds.items():
        largest = np.max(np.abs(params[module][name]))
        assert 0.7 * bound < largest <= bound, (module, name)
    for head in ("up_kernel", "down_kernel", "up_bias", "down_bias"):
        np.testing.assert_array_equal(params[head]["bias"], 0.0)
    assert 0.6 < np.std(params["layer_embedding"]) < 1.4


def test_a_condition_writes_its_own_adapters_alone():
    network, params, condition = make()
    together = network.apply({"params": params}, condition)
    alone = network.apply({"params": params}, condition[1:2])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x[:, 1], y[:, 0], atol=1e-6), together, alone
    )
