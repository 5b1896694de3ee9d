import jax.numpy as jnp
import numpy as np

from hyperdecoders_jax.weights.fingerprints import fingerprint


def test_a_fingerprint_knows_path_shape_type_and_bytes():
    tree = {"a": {"b": np.arange(6, dtype=np.float32)}, "c": np.ones((2, 3), np.float32)}
    same = {"c": jnp.ones((2, 3)), "a": {"b": jnp.arange(6, dtype=jnp.float32)}}
    assert fingerprint(tree) == fingerprint(same)
    others = [
        {"a": {"x": tree["a"]["b"]}, "c": tree["c"]},
        {**tree, "c": tree["c"].T},
        {**tree, "c": tree["c"].astype("bfloat16")},
        {**tree, "c": tree["c"] * -1},
        {"c": tree["c"]},
    ]
    prints = {fingerprint(other) for other in others}
    assert len(prints - {fingerprint(tree)}) == len(others)
