import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdecoders_jax.modeling import hypergrid


@settings(deadline=None, max_examples=10)
@given(rows=st.sampled_from([1, 2, 4]), cols=st.sampled_from([1, 3, 6]), seed=st.integers(0, 99))
def test_gating_is_multiplying_the_kernel_by_the_repeated_gates(rows, cols, seed):
    rng = np.random.default_rng(seed)
    x, kernel = rng.normal(size=(3, 5, 8)), rng.normal(size=(8, 12))
    gates = rng.uniform(size=(3, rows, cols))
    repeated = gates.repeat(8 // rows, axis=1).repeat(12 // cols, axis=2)
    expected = np.stack([x[b] @ (kernel * repeated[b]) for b in range(3)])
    found = hypergrid.gated_matmul(*(jnp.asarray(a, jnp.float32) for a in (x, kernel, gates)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
