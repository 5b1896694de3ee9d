import jax
import jax.numpy as jnp
import numpy as np

from hyperdecoders_jax.modeling import adapters
from hyperdecoders_jax.types import AdapterParams


def make(*lead, seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    shapes = [(8, 5), (5,), (5, 8), (8,)]
    return AdapterParams(
        *[jax.random.normal(k, (*lead, *s)) for k, s in zip(keys, shapes, strict=True)]
    )


def test_shared_and_own_adapters_compute_the_same():
    x = jax.random.normal(jax.random.key(1), (3, 6, 8))
    shared = make()
    own = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), shared)
    np.testing.assert_allclose(
        adapters.apply_adapters(shared, x), adapters.apply_adapters(own, x), atol=1e-5
    )


def test_each_example_meets_its_own_adapter():
    x = jax.random.normal(jax.random.key(1), (3, 6, 8))
    own = make(3)
    found = adapters.apply_adapters(own, x)
    for row in range(3):
        adapter = jax.tree.map(lambda leaf, row=row: leaf[row], own)
        expected = adapters.apply_adapter(adapter, x[row])
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
