import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax.modeling import relative_position


def _slow_bucket(distance, bidirectional, num_buckets, max_distance):
    """The definition, in exact arithmetic where a border is exact."""
    offset = 0
    if bidirectional:
        num_buckets //= 2
        offset = num_buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = num_buckets // 2
    if distance < exact:
        return offset + distance
    # bucket exact + k begins where distance**steps * exact**k == exact**steps * max_distance**k
    steps = num_buckets - exact
    k = 0
    while k < steps - 1 and (
        distance**steps * exact ** (k + 1) >= exact**steps * max_distance ** (k + 1)
    ):
        k += 1
    return offset + exact + k


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 20)])
def test_buckets_follow_the_definition(bidirectional, num_buckets, max_distance):
    distances = np.arange(-300, 301)
    args = dict(bidirectional=bidirectional, num_buckets=num_buckets, max_distance=max_distance)
    found = relative_position.bucket(jnp.asarray(distances), **args)
    expected = [_slow_bucket(int(d), *args.values()) for d in distances]
    np.testing.assert_array_equal(found, expected)


def test_one_row_of_the_bias_is_the_bias_of_one_query():
    bias = relative_position.RelativePositionBias(2, 8, 20, bidirectional=False, dtype="float32")
    positions = jnp.arange(9)
    variables = bias.init(jax.random.key(0), positions, positions)
    whole = bias.apply(variables, positions, positions)
    assert whole.shape == (2, 9, 9)
    np.testing.assert_array_equal(bias.apply(variables, positions[4:5], positions), whole[:, 4:5])
    # Exact look-ups of the table.
    assert set(np.asarray(whole).ravel()) <= set(
        np.asarray(variables["params"]["rel_embedding"]).ravel()
    )
