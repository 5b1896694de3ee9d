import dataclasses
import json

import jaxtyping
import pytest

from hyperdecoders_jax.modeling import config, sites
from tests import tiny


def test_a_misspelt_source_is_refused_with_the_nearest_name():
    with pytest.raises(
        ValueError, match=r"AdapterConfig\.source must be one of .*Did you mean 'generated'"
    ):
        config.AdapterConfig(source="generate")


def test_a_site_on_the_wrong_side_is_refused():
    with pytest.raises(
        ValueError, match=r"encoder_adapter\.sites must be one of .*cross_attention_query"
    ):
        tiny.make_config(encoder_sites=("cross_attention_query",))


@pytest.mark.parametrize("sites", [(), ("feed_forward", "feed_forward")])
def test_sites_are_named_once_each(sites):
    with pytest.raises(ValueError, match=r"at least one site, and each once"):
        config.AdapterConfig(sites=sites)


def test_a_single_site_may_be_a_string():
    assert config.AdapterConfig(sites="feed_forward").sites == ("feed_forward",)


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


def test_every_site_of_the_configuration_has_its_arrays():
    assert tuple(sites.SITES) == config.SITES


@pytest.mark.parametrize(
    "network",
    [config.HypernetworkConfig, config.PerLayerHypernetworkConfig, config.HyperFormerConfig],
)
def test_a_configuration_survives_json(network):
    grid = config.HyperGridConfig(7, 4, "GL", "pooled")
    tiny_config = tiny.make_config("task", "generated", network=network(), decoder_hypergrid=grid)
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


def test_the_former_name_of_sites_is_taken_and_stays_in_files():
    former = config.AdapterConfig("manual", targets=["cross_attention_key", "feed_forward"])
    assert former == config.AdapterConfig("manual", sites=("feed_forward", "cross_attention_key"))
    assert dataclasses.replace(former, bottleneck_dim=3).sites == former.sites
    tiny_config = tiny.make_config("none", decoder_adapter=former)
    fields = json.loads(json.dumps(config.to_dict(tiny_config)))
    names = list(fields["decoder_adapter"])
    assert names[4] == "targets"
    assert "sites" not in names
    fields["decoder_adapter"]["sites"] = fields["decoder_adapter"].pop("targets")
    assert config.from_dict(fields) == tiny_config
    with pytest.raises(ValueError, match=r"under one name; .*Rename targets to sites"):
        config.AdapterConfig(sites=("after_feed_forward",), targets=("feed_forward",))


def test_sites_have_one_order():
    two = ("self_attention_value", "feed_forward")
    assert config.AdapterConfig(sites=two) == config.AdapterConfig(sites=two[::-1])


@pytest.mark.parametrize("field", ["hypernetwork", "lora"])
def test_a_part_of_the_wrong_class_is_refused(monkeypatch, field):
    # Outside tests nothing else checks types.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match=rf"AdapterConfig.{field} must be a .*; got 3"):
        config.AdapterConfig(**{field: 3})


@pytest.mark.parametrize(
    ("field", "value", "near"),
    [
        ("variant", "gg", "Did you mean 'GG'"),
        ("condition", "first_token", "Did you mean 'first_state'"),
        ("gate", "sigmod", "Did you mean 'sigmoid'"),
        ("kernels", "w_i", "Did you mean 'wi'"),
        ("unseen_tasks", "first", "Use one of error, mean"),
    ],
)
def test_a_grids_choices_are_checked(field, value, near):
    with pytest.raises(ValueError, match=rf"HyperGridConfig\.{field} must be one of .*{near}"):
        config.HyperGridConfig(4, 2, **{field: value})


@pytest.mark.parametrize("field", ["rows", "cols", "prefix_len"])
def test_a_grids_sizes_are_positive_integers(field):
    with pytest.raises(ValueError, match=rf"HyperGridConfig\.{field} must be an integer of at"):
        config.HyperGridConfig(**{"rows": 4, "cols": 2, field: 0})


def test_a_one_sided_grid_has_one_side():
    with pytest.raises(ValueError, match=r"rows or cols must be 1 .* got rows=4 and cols=2\. Set"):
        config.HyperGridConfig(4, 2, "L")
    assert config.HyperGridConfig(1, 2, "L").factors == {"cols": "local"}
    assert config.HyperGridConfig(1, 1, "L").factors == {"rows": "local"}


def test_a_grid_divides_the_kernels_it_gates():
    grid = config.HyperGridConfig(7, 4)  # of wo [14, 8]
    tiny.make_config(encoder_hypergrid=grid)
    with pytest.raises(ValueError, match=r"encoder_hypergrid\.rows must divide .* Use 2, or"):
        tiny.make_config(encoder_hypergrid=dataclasses.replace(grid, rows=4))
    with pytest.raises(ValueError, match=r"rows must divide emb_dim, .* wi; got rows=7 and emb_di"):
        tiny.make_config(decoder_hypergrid=dataclasses.replace(grid, kernels="both"))


def test_an_encoders_gates_cannot_read_its_output():
    grid = config.HyperGridConfig(7, 4, condition="pooled")
    tiny.make_config(decoder_hypergrid=grid)
    tiny.make_config(encoder_hypergrid=dataclasses.replace(grid, variant="GG"))  # It reads nothing.
    with pytest.raises(ValueError, match=r"encoder_hypergrid\.condition must be one of .*'prefix_"):
        tiny.make_config(encoder_hypergrid=grid)


def test_grids_by_task_read_tasks_as_sources_do():
    grid = config.HyperGridConfig(7, 4, condition="task_embedding")
    plain = tiny.make_config("manual", "generated")
    assert not plain.reads_tasks
    assert plain.accepts_unseen_tasks
    gated = dataclasses.replace(plain, decoder_hypergrid=grid)
    assert gated.reads_tasks
    assert not gated.accepts_unseen_tasks
    mean = dataclasses.replace(grid, unseen_tasks="mean")
    assert dataclasses.replace(plain, encoder_hypergrid=mean).accepts_unseen_tasks
    static = dataclasses.replace(grid, variant="GG")
    assert not dataclasses.replace(plain, decoder_hypergrid=static).reads_tasks


def test_a_grid_of_the_wrong_class_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match=r"decoder_hypergrid must be a HyperGridConfig or None; go"):
        tiny.make_config(decoder_hypergrid="L2")


@pytest.mark.parametrize(
    ("field", "value", "most"),
    [
        ("num_encoder_layers", 10**9, "256"),
        ("emb_dim", 10**9, "131,072"),
        ("vocab_size", 10**15, "16,777,216"),
        ("relpos_max_distance", 10**9, "131,072"),
        ("num_tasks", 10**9, "131,072"),
    ],
)
def test_a_mistyped_size_is_told_before_it_takes_memory_or_hours(field, value, most):
    message = rf"{field} must be an integer of at least 1 and at most {most}; got {value!r}. Set"
    with pytest.raises(ValueError, match=message):
        tiny.make_config(**{field: value})


def test_blocks_of_a_grid_beyond_the_kernel_are_told_at_once():
    grid = config.HyperGridConfig(rows=2**17, cols=2)
    with pytest.raises(ValueError, match=r"rows=131072 and mlp_dim=14. Use 14, or another"):
        tiny.make_config(encoder_hypergrid=grid)


def test_a_model_needs_activations_and_distances_beyond_its_exact_buckets():
    with pytest.raises(ValueError, match=r"must name an activation .* got none. Use \('gelu'"):
        tiny.make_config(mlp_activations=())
    with pytest.raises(ValueError, match=r"relpos_buckets must be an integer of at least 4"):
        tiny.make_config(relpos_buckets=1)
    with pytest.raises(ValueError, match=r"relpos_max_distance must be above half of .*=32; got"):
        tiny.make_config(relpos_max_distance=16)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"logits_via_embedding": "False"}, "logits_via_embedding must be True or False"),
        ({"dropout_rate": "0.1"}, r"dropout_rate must be in \[0, 1\); got '0.1'"),
    ],
)
def test_values_that_would_go_wrong_in_the_step_are_refused(fields, message, monkeypatch):
    # The check of types in tests would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        tiny.make_config(**fields)
