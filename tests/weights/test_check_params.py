"""Arrays are exactly the parameters of a model, or the message names what differs."""

import re

import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.weights import names
from hyperdecoders_jax.weights.check_params import check_params
from tests import tiny

CONFIG = tiny.make_config("manual", "generated")
BIAS = "encoder_adapters/feed_forward/up_bias"
KERNEL = "encoder/layers_0/mlp/wo/kernel"


@pytest.fixture
def arrays():
    """Shapes of all parameters, which may be changed."""
    return dict(names.flatten(model.Model(CONFIG).param_shapes()))


def part(arrays, key):
    """Paths of one part of the tree."""
    return [path for path in arrays if path.split("/")[0] == key]


def without(arrays, *keys):
    return {path: x for path, x in arrays.items() if path.split("/")[0] not in keys}


def refused(message, *arguments, **options):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_params(*arguments, **options)


def test_what_fits_lacks_nothing(arrays):
    assert check_params(arrays, CONFIG, "X") == []
    assert check_params(arrays, dict(arrays), "X", may_lack=("encoder",), is_start=True) == []


@pytest.mark.parametrize("wanted", ["model", "shapes"])
def test_what_is_missing_unexpected_or_of_another_shape_is_in_one_message(arrays, wanted):
    wanted = CONFIG if wanted == "model" else dict(arrays)
    del arrays[BIAS]
    arrays["encoder/more"] = np.zeros(3)
    arrays[KERNEL] = np.zeros((14, 9))
    refused(
        f"X/t5 must hold exactly the parameters of the model; missing: {BIAS}; unexpected: "
        f"encoder/more; of another shape: {KERNEL} is (14, 9) there and (14, 8) in the model. "
        "Choose the files of gin_configs/models and gin_configs/adapters that fit these weights",
        arrays,
        wanted,
        "X/t5",
    )


def test_what_does_not_differ_is_none(arrays):
    less = {path: x for path, x in arrays.items() if path != BIAS}
    for changed, missing, unexpected, shape in (
        (less, BIAS, "none", "none"),
        (arrays | {"more": np.zeros(3)}, "none", "more", "none"),
        (
            arrays | {KERNEL: np.zeros(14)},
            "none",
            "none",
            f"{KERNEL} is (14,) there and (14, 8) in the model",
        ),
    ):
        message = f"missing: {missing}; unexpected: {unexpected}; of another shape: {shape}. Do so."
        refused(message, changed, CONFIG, "X", advice="Do so.")


def test_long_lists_are_abridged(arrays):
    missing = len(part(arrays, "decoder"))
    others = {path: np.zeros(9) for path in part(arrays, "encoder")}
    with pytest.raises(ValueError, match="the model; missing: ") as caught:
        check_params({**without(arrays, "decoder"), **others}, CONFIG, "X")
    assert f" and {missing - 5} more; unexpected: none;" in str(caught.value)
    assert f" and {len(others) - 3} more. Choose" in str(caught.value)
    assert str(caught.value).count(" is (9,) there and ") == 3


def test_parts_that_may_be_missing_are_listed_in_the_order_of_the_model(arrays):
    lacked = part(arrays, "encoder") + part(arrays, "decoder_adapters")
    keys = ("encoder", "decoder_adapters")
    expected = [path for path in arrays if path in lacked]
    assert check_params(without(arrays, *keys), CONFIG, "X", may_lack=keys) == expected
    # Of such a part some may be there, and all else must be.
    (first, *rest), others = part(arrays, "encoder"), without(arrays, "encoder")
    others[first] = arrays[first]
    assert check_params(others, CONFIG, "X", may_lack=keys) == rest
    del others[BIAS]
    refused(f"missing: {BIAS}; unexpected: none", others, CONFIG, "X", may_lack=keys)
    others[first] = np.zeros(99)
    refused(f"{first} is (99,) there and", others, CONFIG, "X", may_lack=keys)


def test_a_run_may_start_without_whole_parts_that_adapt_the_t5(arrays):
    adapted = {path.split("/")[0] for path in arrays} - set(model.BACKBONE_KEYS)
    assert len(adapted) > 1
    for keys in [(key,) for key in adapted] + [tuple(adapted)]:
        expected = [path for path in arrays if path.split("/")[0] in keys]
        assert check_params(without(arrays, *keys), CONFIG, "X", is_start=True) == expected
    del arrays[BIAS]
    refused(f"missing: {BIAS}; unexpected: none", arrays, CONFIG, "X", is_start=True)


@pytest.mark.parametrize("key", model.BACKBONE_KEYS)
def test_a_run_may_not_start_without_a_part_of_the_t5(arrays, key):
    missing = sorted(part(arrays, key))[0]
    refused(f"missing: {missing}", without(arrays, key), CONFIG, "X", is_start=True)


def test_what_is_missing_or_unexpected_is_called_as_in_the_files(arrays):
    called = {BIAS: "block.0.up.bias", "unexpected/a": "a", KERNEL: "block.0.wo.weight"}
    del arrays[BIAS]
    arrays |= {"unexpected/a": np.zeros(3), KERNEL: np.zeros((8, 9))}
    refused(
        # Shapes are those of our layout, so they go with our path.
        f"missing: block.0.up.bias; unexpected: a; of another shape: {KERNEL} is (8, 9) there",
        arrays,
        CONFIG,
        "X",
        called=called,
    )
