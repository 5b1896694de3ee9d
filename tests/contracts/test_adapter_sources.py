"""What holds for every adapter source, on every side, at every site that it may adapt.

Registered sources, too: `pytest -p my_adapters tests/contracts/test_adapter_sources.py`.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import model, types
from hyperdecoders_jax.modeling import adapter_sources, config, sites
from hyperdecoders_jax.modeling import adapters as adapters_lib
from hyperdecoders_jax.training import partitioning
from tests import tiny
from tests.modeling import own_source  # noqa: F401 (it registers a source)

SOURCES = tuple(adapter_sources.SOURCES)
ADAPTED = [
    (side, source, site)
    for side, side_sites in config.SITES_OF_SIDE.items()
    for source in SOURCES
    if source != "none"
    for site in side_sites
]
NETWORKS = [
    config.HypernetworkConfig(bottleneck_dim=11, layer_embedding_dim=10),
    config.PerLayerHypernetworkConfig(bottleneck_dim=11),
    config.HyperFormerConfig(embedding_dim=4, hidden_dim=7, joint_dim=6),
]
# Sources whose adapters a hypernetwork writes; the others are tried with the first alone.
WRITTEN = ("task", "generated")
LEARNED = ("manual", "manual_specific")


def networks_of(source):
    return NETWORKS if source in WRITTEN else NETWORKS[:1]


# What a fresh adapter adds to states of ones, at most: LoRA nothing; learned ones 1e-4 squared;
# written ones a few times 1e-3; HyperFormer's serial ones are normed, and scaled by about 0.1.
LEARNED_START, WRITTEN_START, HYPERFORMER_START = 1e-5, 1e-2, 0.5


OF_NETWORKS = [(source, network) for source in SOURCES for network in networks_of(source)]


@functools.cache
def make_model(side, source, *side_sites, network=None):
    return model.Model(
        tiny.make_config(
            **{"encoder": "none", "decoder": "none", side: source},
            **{f"{side}_sites": side_sites},
            network=network,
            num_encoder_layers=2,
            num_decoder_layers=1,
        )
    )


@pytest.mark.parametrize("side", config.SITES_OF_SIDE)
@pytest.mark.parametrize("source", SOURCES)
def test_new_parameters_stand_under_keys_of_their_own(side, source):
    found = make_model(side, source, *config.SITES_OF_SIDE[side])
    keys = set(found.param_shapes()) - set(model.BACKBONE_KEYS)
    expected = set() if source == "none" else {f"{side}_adapters"}
    if adapter_sources.SOURCES[source] and adapter_sources.SOURCES[source].reads_pooled:
        expected |= {"encoder_first_pass_adapters"} if side == "encoder" else set()
    assert keys == expected


@pytest.mark.parametrize(("source", "network"), OF_NETWORKS)
def test_every_parameter_has_an_axis_name_for_each_dimension(source, network):
    found, _ = compiled(source, network)
    shapes, axes = found.param_shapes(), found.param_axes()
    jax.tree.map(lambda shape, names: None, shapes, axes, is_leaf=lambda x: isinstance(x, tuple))
    flat_axes = jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, tuple))
    for shape, names in zip(jax.tree.leaves(shapes), flat_axes, strict=True):
        assert len(shape.shape) == len(names)
        assert all(isinstance(name, str) for name in names)


@pytest.mark.parametrize(("source", "network"), OF_NETWORKS)
def test_announced_shapes_are_those_of_a_model_that_is_traced_whole(source, network):
    """They come of one layer of each stack, and of what adapts both."""
    one_layer, _ = compiled(source, network)
    config_of_two = dataclasses.replace(one_layer.config, num_encoder_layers=2)
    found = model.Model(config_of_two)
    traced = jax.eval_shape(found.init_variables, jax.random.key(0))
    assert model._abstract_variables(found) == traced
    assert found.param_shapes() == traced["params"]


def start_of(source, site, network):
    """The most that a fresh adapter adds."""
    if site in (*config.SELF_ATTENTION, *config.CROSS_ATTENTION):
        return 0.0
    if source in ("none", *LEARNED):
        return LEARNED_START
    is_hyperformer = isinstance(network, config.HyperFormerConfig)
    return HYPERFORMER_START if is_hyperformer and "after" in site else WRITTEN_START


@pytest.mark.parametrize(
    ("case", "network"),
    [
        pytest.param(case, network, id=f"{'-'.join(case)}-{type(network).__name__}")
        for case in ADAPTED
        for network in networks_of(case[1])
    ],
)
def test_adapters_fit_their_site_and_change_almost_nothing_at_first(case, network):
    side, source, site = case
    tiny_config = make_model(*case, network=network).config
    condition = adapter_sources.Condition(jnp.ones((3, tiny_config.emb_dim)), jnp.arange(3))
    module = adapter_sources.SOURCES[source](tiny_config, side)
    adapters, _ = module.init_with_output(jax.random.key(0), condition)
    assert set(adapters) == {site}
    num_layers = getattr(tiny_config, f"num_{side}_layers")
    specs = sites.of_side(tiny_config, side)[site].specs
    for field in dataclasses.fields(adapters[site]):
        array = getattr(adapters[site], field.name)
        shape = specs[field.name].shape
        assert array.shape[-len(shape) :] == shape
        assert array.shape[: -len(shape)] in ((num_layers,), (num_layers, 3))

    first_layer = jax.tree.map(lambda x: x[0], adapters)
    states = jnp.ones((3, 2, specs["down_kernel"].shape[0]))
    change = adapters_lib.apply_adapters(first_layer[site], states)
    np.testing.assert_allclose(change, 0.0, atol=start_of(source, site, network))


@functools.cache
def compiled(source, network):
    """A model with this source on both sides and every site; its logits and gradients."""
    fresh = model.Model(
        tiny.make_config(
            source,
            source,
            network=network,
            num_encoder_layers=1,
            num_decoder_layers=1,
            **{f"{side}_sites": found for side, found in config.SITES_OF_SIDE.items()},
        )
    )

    def loss(params, batch):
        logits = fresh.logits(params, batch)
        return jnp.sum(logits * jnp.cos(jnp.arange(logits.size)).reshape(logits.shape)), logits

    return fresh, jax.jit(jax.grad(loss, has_aux=True))


BATCH = tiny.make_batch(batch=tiny.NUM_TASKS).replace(task_ids=jnp.arange(tiny.NUM_TASKS))


# One of each kind: what every fresh adapter adds is tested above, by itself.
@pytest.mark.parametrize(("source", "network"), [(x, NETWORKS[0]) for x in ("manual", "generated")])
def test_a_fresh_model_is_almost_plain_t5(source, network):
    fresh, grad_and_logits = compiled(source, network)
    params = fresh.init(jax.random.key(0))
    backbone = {key: params[key] for key in model.BACKBONE_KEYS}
    _, plain_grad_and_logits = compiled("none", NETWORKS[0])
    _, logits = grad_and_logits(params, BATCH)
    _, expected = plain_grad_and_logits(backbone, BATCH)
    atol = max(start_of(source, site, network) for site in config.SITES)
    np.testing.assert_allclose(logits, expected, atol=2 * atol)


@pytest.mark.parametrize(("source", "network"), OF_NETWORKS)
def test_every_parameter_of_every_site_gets_a_gradient(source, network):
    tiny_model, grad_and_logits = compiled(source, network)
    gradients, _ = grad_and_logits(tiny.make_params(tiny_model), BATCH)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.all(np.isfinite(gradient)), path
        assert np.any(gradient != 0), path


@pytest.mark.parametrize("source", ["task", "manual_specific"])
def test_an_unseen_task_gets_the_mean_or_is_an_error(source):
    adapter = config.AdapterConfig(source, 3, unseen_tasks="mean")
    layers = dict(num_encoder_layers=1, num_decoder_layers=2)
    mean_model = model.Model(tiny.make_config("none", decoder_adapter=adapter, **layers))
    refusing = dataclasses.replace(adapter, unseen_tasks="error")
    strict = model.Model(tiny.make_config("none", decoder_adapter=refusing, **layers))
    params, batch = tiny.make_params(strict), tiny.make_batch()
    unseen = batch.replace(task_ids=jnp.full(3, types.UNSEEN_TASK_ID))
    # Equal tasks: then the mean is each of them.
    key = "task_embedding" if source == "task" else "feed_forward"
    axis = 0 if source == "task" else 1
    equal = jax.tree.map(
        lambda x: jnp.repeat(jnp.take(x, jnp.array([1]), axis), tiny.NUM_TASKS, axis),
        params["decoder_adapters"][key],
    )
    params = {**params, "decoder_adapters": {**params["decoder_adapters"], key: equal}}
    strict_logits, mean_logits = jax.jit(strict.logits), jax.jit(mean_model.logits)
    expected = strict_logits(params, batch)
    np.testing.assert_allclose(mean_logits(params, unseen), expected, atol=1e-5)
    assert np.all(np.isnan(strict_logits(params, unseen)))
    beyond = batch.replace(task_ids=jnp.full(3, tiny.NUM_TASKS))
    assert np.all(np.isnan(mean_logits(params, beyond)))


def test_rows_of_tasks_to_come_are_not_in_the_mean():
    adapter = config.AdapterConfig("manual_specific", 3, unseen_tasks="mean")
    mean_model = model.Model(tiny.make_config("none", decoder_adapter=adapter))
    params, batch = tiny.make_params(mean_model), tiny.make_batch()
    unseen = batch.replace(task_ids=jnp.full(3, types.UNSEEN_TASK_ID))
    changed = {
        **params,
        "decoder_adapters": jax.tree.map(lambda x: x.at[:, -1].add(5), params["decoder_adapters"]),
    }
    named = mean_model.for_tasks(["a", "b", "c"])
    assert named.config.num_tasks == tiny.NUM_TASKS
    named_logits, mean_logits = jax.jit(named.logits), jax.jit(mean_model.logits)
    np.testing.assert_array_equal(named_logits(params, unseen), named_logits(changed, unseen))
    assert np.any(mean_logits(params, unseen) != mean_logits(changed, unseen))


def test_more_tasks_than_there_are_rows_are_refused():
    with pytest.raises(ValueError, match=r"num_tasks must be at least the number of tasks; got 4"):
        model.Model(tiny.make_config("task")).for_tasks(["a", "b", "c", "d", "e"])


@pytest.mark.parametrize("model_parallel", [2, 4])
@pytest.mark.parametrize(("source", "network"), OF_NETWORKS)
def test_every_parameter_finds_its_place_on_many_devices(source, network, model_parallel):
    adapted, _ = compiled(source, network)
    sizes = dataclasses.replace(adapted.config, vocab_size=32, num_heads=4, head_dim=6, mlp_dim=12)
    adapted = model.Model(sizes)
    mesh = jax.sharding.AbstractMesh((4, model_parallel), ("data", "model"))
    partitioner = partitioning.Partitioner(mesh, partitioning.PartitioningConfig(model_parallel))
    shapes = adapted.param_shapes()
    shardings = partitioner.param_shardings(shapes, adapted.param_axes())
    for shape, sharding in zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True):
        sharding.shard_shape(shape.shape)  # raises where it does not divide


def test_sources_of_tasks_need_their_number():
    with pytest.raises(ValueError, match=r"num_tasks must be the number of tasks"):
        model.Model(tiny.make_config("task", num_tasks=None)).param_shapes()
    task_model = model.Model(tiny.make_config("task"))
    batch = tiny.make_batch().replace(task_ids=None)
    with pytest.raises(ValueError, match=r"need task_ids; got None"):
        task_model.logits(tiny.make_params(task_model), batch)
