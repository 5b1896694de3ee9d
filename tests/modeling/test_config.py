import json

import jaxtyping
import pytest

from hyperdecoders_jax.modeling import adapter_sources, config, targets
from tests import tiny


def test_a_misspelt_source_is_refused_with_the_nearest_name():
    with pytest.raises(
        ValueError, match=r"AdapterConfig\.source must be one of .*Did you mean 'generated'"
    ):
        config.AdapterConfig(source="generate")


def test_a_target_on_the_wrong_side_is_refused():
    with pytest.raises(
        ValueError, match=r"encoder_adapter\.targets must be one of .*cross_attention_query"
    ):
        tiny.make_config(encoder_targets=("cross_attention_query",))


@pytest.mark.parametrize("targets", [(), ("feed_forward", "feed_forward")])
def test_targets_are_named_once_each(targets):
    with pytest.raises(ValueError, match=r"at least one target, and each once"):
        config.AdapterConfig(targets=targets)


def test_a_single_target_may_be_a_string():
    assert config.AdapterConfig(targets="feed_forward").targets == ("feed_forward",)


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


def test_every_target_of_the_configuration_has_its_arrays():
    assert tuple(targets.TARGETS) == config.TARGETS


@pytest.mark.parametrize(
    "network",
    [config.HypernetworkConfig, config.PerLayerHypernetworkConfig, config.HyperFormerConfig],
)
def test_a_configuration_survives_json(network):
    tiny_config = tiny.make_config("task", "generated", network=network())
    fields = json.loads(json.dumps(config.to_dict(tiny_config)))
    assert config.from_dict(fields) == tiny_config


def test_fields_that_nobody_knows_are_refused():
    fields = config.to_dict(tiny.make_config())
    with pytest.raises(ValueError, match=r"unknown: \['width'\], missing: \['emb_dim'\]"):
        config.from_dict({**{k: x for k, x in fields.items() if k != "emb_dim"}, "width": 3})


def test_alpha_and_choices_are_checked():
    for alpha in (0.0, float("inf")):
        with pytest.raises(ValueError, match=r"LoraConfig\.alpha must be a number above 0"):
            config.LoraConfig(alpha=alpha)
    with pytest.raises(ValueError, match=r"AdapterConfig\.unseen_tasks must be one of"):
        config.AdapterConfig(unseen_tasks="first")


def test_targets_have_one_order():
    two = ("self_attention_value", "feed_forward")
    assert config.AdapterConfig(targets=two) == config.AdapterConfig(targets=two[::-1])


@pytest.mark.parametrize("field", ["hypernetwork", "lora"])
def test_a_part_of_the_wrong_class_is_refused(monkeypatch, field):
    # Outside tests nothing else checks types.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match=rf"AdapterConfig.{field} must be a .*; got 3"):
        config.AdapterConfig(**{field: 3})
