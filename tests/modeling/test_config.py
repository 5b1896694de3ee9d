import pytest

from hyperdecoders_jax.modeling import adapter_sources, config
from tests import tiny


def test_a_misspelt_source_is_refused_with_the_nearest_name():
    with pytest.raises(
        ValueError, match=r"AdapterConfig\.source must be one of .*Did you mean 'generated'"
    ):
        config.AdapterConfig(source="generate")


def test_a_source_on_the_wrong_side_is_refused():
    with pytest.raises(
        ValueError, match=r"encoder_adapter\.source must be one of \('none', 'manual'\)"
    ):
        tiny.make_config(encoder="generated")


@pytest.mark.parametrize("bad", [0, -1, True])
def test_sizes_are_positive_integers(bad):
    with pytest.raises(
        ValueError, match=r"TransformerConfig\.emb_dim must be an integer of at least 1"
    ):
        tiny.make_config(emb_dim=bad)
    with pytest.raises(ValueError, match=r"HypernetworkConfig\.bottleneck_dim must be an integer"):
        config.HypernetworkConfig(bottleneck_dim=bad)


def test_rates_types_and_activations_are_checked():
    with pytest.raises(ValueError, match=r"dropout_rate must be in \[0, 1\); got 1.0"):
        tiny.make_config(dropout_rate=1.0)
    with pytest.raises(ValueError, match=r"dtype must be one of .*Did you mean 'bfloat16'"):
        tiny.make_config(dtype="bfloat")
    with pytest.raises(ValueError, match=r"mlp_activations must be one of .*Did you mean 'gelu'"):
        tiny.make_config(mlp_activations=["geglu"])


def test_lists_from_gin_become_tuples():
    assert tiny.make_config(mlp_activations=["relu"]).mlp_activations == ("relu",)


def test_every_source_of_the_configuration_has_a_class():
    assert tuple(adapter_sources.SOURCES) == config.SOURCES
