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
NETWORKS = [
    config.HypernetworkConfig(bottleneck_dim=11, layer_embedding_dim=10),
    config.PerLayerHypernetworkConfig(bottleneck_dim=11),
    config.HyperFormerConfig(embedding_dim=4, hidden_dim=7, joint_dim=6),
]
# The networks that write a source's adapters; the others are tried with the first alone.
WRITTEN = {"task": NETWORKS[::2], "generated": NETWORKS}
LEARNED = ("manual", "manual_specific")
SHIPPED = ("none", *LEARNED, *WRITTEN)


def networks_of(source):
    return WRITTEN.get(source, NETWORKS[:1])


# What a fresh adapter adds to states of ones, at most: LoRA nothing; learned ones 1e-4 squared;
# written ones a few times 1e-3; HyperFormer's serial ones are normed, and scaled by about 0.1.
LEARNED_START, WRITTEN_START, HYPERFORMER_START = 1e-5, 1e-2, 0.5


OF_NETWORKS = [(source, network) for source in SOURCES for network in networks_of(source)]
ADAPTING = [case for case in OF_NETWORKS if case[0] != "none"]
# Where arrays have other shapes, or other initial values.
PLAIN = tiny.make_config()
_SITE_OF_KIND = {
    sites.SITES[x](PLAIN, PLAIN.encoder_adapter).kind: x for x in reversed(sites.SITES)
}
ONE_OF_EACH_KIND = dict.fromkeys(config.SITES_OF_SIDE, tuple(_SITE_OF_KIND.values()))
BATCH = tiny.make_batch(batch=tiny.NUM_TASKS).replace(task_ids=jnp.arange(tiny.NUM_TASKS))


def make_config(encoder, decoder, network=None, adapted=config.SITES_OF_SIDE, **sizes):
    """A config with these sources, at every site that a side may adapt unless told otherwise."""
    layers = dict(num_encoder_layers=1, num_decoder_layers=1)
    side_sites = {f"{side}_sites": found for side, found in adapted.items()}
    return tiny.make_config(encoder, decoder, network=network, **side_sites, **(layers | sizes))


@functools.cache
def abstract(source, network):
    """A model that is not computed, with this source on both sides at one site of each kind."""
    # What four or eight devices divide.
    sizes = dict(vocab_size=32, num_heads=4, mlp_dim=12, num_encoder_layers=2)
    return model.Model(make_config(source, source, network, ONE_OF_EACH_KIND, **sizes))


@pytest.mark.parametrize("side", config.SITES_OF_SIDE)
@pytest.mark.parametrize("source", SOURCES)
def test_new_parameters_stand_under_keys_of_their_own(side, source):
    found = model.Model(make_config(**{"encoder": "none", "decoder": "none", side: source}))
    keys = set(found.param_shapes()) - set(model.BACKBONE_KEYS)
    expected = set() if source == "none" else {f"{side}_adapters"}
    if adapter_sources.SOURCES[source] and adapter_sources.SOURCES[source].reads_pooled:
        expected |= {"encoder_first_pass_adapters"} if side == "encoder" else set()
    assert keys == expected


@pytest.mark.parametrize(("source", "network"), OF_NETWORKS)
def test_every_parameter_has_an_axis_name_for_each_dimension(source, network):
    found = abstract(source, network)
    shapes, axes = found.param_shapes(), found.param_axes()
    jax.tree.map(lambda shape, names: None, shapes, axes, is_leaf=lambda x: isinstance(x, tuple))
    flat_axes = jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, tuple))
    for shape, names in zip(jax.tree.leaves(shapes), flat_axes, strict=True):
        assert len(shape.shape) == len(names)
        assert all(isinstance(name, str) for name in names)


@pytest.mark.parametrize(("source", "network"), OF_NETWORKS)
def test_announced_shapes_are_those_of_a_model_that_is_traced_whole(source, network):
    """They come of one layer of each stack, and of what adapts both."""
    found = abstract(source, network)
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


def condition_of(num_examples, task_ids=None):
    """What sources read, each example its own."""
    states = np.random.default_rng(0).normal(size=(num_examples, PLAIN.emb_dim))
    task_ids = jnp.arange(num_examples) if task_ids is None else task_ids
    return adapter_sources.Condition(jnp.asarray(states, jnp.float32), task_ids)


@pytest.mark.parametrize("side", config.SITES_OF_SIDE)
@pytest.mark.parametrize(("source", "network"), ADAPTING)
def test_adapters_fit_every_site(source, network, side):
    tiny_config = make_config(source, source, network, num_encoder_layers=2)
    module = adapter_sources.SOURCES[source](tiny_config, side)
    adapters, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), condition_of(3))
    assert set(adapters) == set(config.SITES_OF_SIDE[side])
    num_layers = getattr(tiny_config, f"num_{side}_layers")
    for site, found in sites.of_side(tiny_config, side).items():
        arrays = {
            x.name: getattr(adapters[site], x.name) for x in dataclasses.fields(adapters[site])
        }
        assert set(arrays) == set(found.specs), site
        for name, spec in found.specs.items():
            lead = arrays[name].shape[: -len(spec.shape)]
            assert arrays[name].shape == (*lead, *spec.shape), (site, name)
            assert lead in ((num_layers,), (num_layers, 3)), (site, name)


@functools.cache
def own_module(source, network):
    """A source by itself, for the encoder and one site of each kind."""
    return adapter_sources.SOURCES[source](abstract(source, network).config, "encoder")


@pytest.mark.parametrize(("source", "network"), ADAPTING)
def test_fresh_adapters_change_almost_nothing(source, network):
    module = own_module(source, network)
    ones = condition_of(3).replace(pooled=jnp.ones((3, PLAIN.emb_dim)))

    @jax.jit
    def changes(rng):
        adapters, _ = module.init_with_output(rng, ones)
        first_layer = jax.tree.map(lambda x: x[0], adapters)
        states = lambda adapter: jnp.ones((3, 2, adapter.down_kernel.shape[-2]))  # noqa: E731
        return {
            site: adapters_lib.apply_adapters(adapter, states(adapter))
            for site, adapter in first_layer.items()
        }

    for site, change in changes(jax.random.key(0)).items():
        atol = start_of(source, site, network)
        np.testing.assert_allclose(change, 0.0, atol=atol, err_msg=site)


def assert_no_gradient_is_zero(gradients):
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.all(np.isfinite(gradient)), path
        assert np.any(gradient != 0), path


def weigh(x):
    """A sum in which no two numbers count alike."""
    return jnp.sum(x * jnp.cos(jnp.arange(x.size)).reshape(x.shape))


@pytest.mark.parametrize(("source", "network"), ADAPTING)
def test_every_parameter_of_a_source_gets_a_gradient_from_its_adapters(source, network):
    module, condition = own_module(source, network), condition_of(tiny.NUM_TASKS)
    key = f"{module.side}_adapters"
    params = tiny.make_params(abstract(source, network))[key]

    @jax.jit
    def gradients(params, pooled):
        def loss(params, pooled):
            adapters = module.apply({"params": params}, condition.replace(pooled=pooled))
            return sum(map(weigh, jax.tree.leaves(adapters)))

        return jax.grad(loss, argnums=(0, 1))(params, pooled)

    of_params, of_pooled = gradients(params, condition.pooled)
    assert_no_gradient_is_zero(of_params)
    assert np.all(np.any(of_pooled != 0, axis=1)) == module.reads_pooled


# Each source in a whole model; on either side adapters that examples share, that each has, and that
# pooled states make. The second adapts every site. What networks make for them is tested above.
WHOLE = [
    ("none", "none"),
    ("manual", "generated"),
    ("generated", "manual"),
    ("task", "manual_specific"),
    *((source, source) for source in SOURCES if source not in SHIPPED),
]


@functools.cache
def compiled(encoder, decoder):
    """A model with these sources; its logits and gradients."""
    adapted = config.SITES_OF_SIDE if (encoder, decoder) == WHOLE[1] else ONE_OF_EACH_KIND
    fresh = model.Model(make_config(encoder, decoder, adapted=adapted))

    def loss(params, batch):
        logits = fresh.logits(params, batch)
        return weigh(logits), logits

    return fresh, jax.jit(jax.grad(loss, has_aux=True))


# One of each kind: what every fresh adapter adds is tested above, by itself.
def test_a_fresh_model_is_almost_plain_t5():
    fresh, grad_and_logits = compiled("generated", "manual")
    params = fresh.init(jax.random.key(0))
    backbone = {key: params[key] for key in model.BACKBONE_KEYS}
    _, plain_grad_and_logits = compiled("none", "none")
    _, logits = grad_and_logits(params, BATCH)
    _, expected = plain_grad_and_logits(backbone, BATCH)
    np.testing.assert_allclose(logits, expected, atol=2 * WRITTEN_START)


@pytest.mark.parametrize(("encoder", "decoder"), WHOLE)
def test_every_parameter_of_every_site_gets_a_gradient(encoder, decoder):
    tiny_model, grad_and_logits = compiled(encoder, decoder)
    gradients, _ = grad_and_logits(tiny.make_params(tiny_model), BATCH)
    assert_no_gradient_is_zero(gradients)


@pytest.mark.parametrize("source", ["task", "manual_specific"])
def test_an_unseen_task_gets_the_mean_or_is_an_error(source):
    refusing, of_mean = (
        tiny.make_config("none", decoder_adapter=config.AdapterConfig(source, 3, unseen_tasks=x))
        for x in ("error", "mean")
    )
    params = tiny.make_params(model.Model(refusing))["decoder_adapters"]
    # Equal tasks: then the mean is each of them.
    key, axis = ("task_embedding", 0) if source == "task" else ("feed_forward", 1)
    first = jnp.zeros(tiny.NUM_TASKS, int)
    params = {**params, key: jax.tree.map(lambda x: jnp.take(x, first, axis), params[key])}
    condition = condition_of(3, jnp.array([1, types.UNSEEN_TASK_ID, tiny.NUM_TASKS]))

    def adapters_by(tiny_config):
        module = adapter_sources.SOURCES[source](tiny_config, "decoder")
        return jax.tree.leaves(jax.jit(module.apply)({"params": params}, condition))

    for strict, mean in zip(adapters_by(refusing), adapters_by(of_mean), strict=True):
        assert np.all(np.isfinite(strict[:, 0]))
        assert np.all(np.isnan(strict[:, 1:]))
        np.testing.assert_allclose(mean[:, 0], strict[:, 0], atol=1e-5)
        np.testing.assert_allclose(mean[:, 1], strict[:, 0], atol=1e-5)
        assert np.all(np.isnan(mean[:, 2]))


def test_rows_of_tasks_to_come_are_not_in_the_mean():
    adapter = config.AdapterConfig("manual_specific", 3, unseen_tasks="mean")
    layers = dict(num_encoder_layers=1, num_decoder_layers=1)
    mean_model = model.Model(tiny.make_config("none", decoder_adapter=adapter, **layers))
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
    beyond = batch.replace(task_ids=jnp.full(3, tiny.NUM_TASKS))
    assert np.all(np.isnan(mean_logits(params, beyond)))


def test_more_tasks_than_there_are_rows_are_refused():
    with pytest.raises(ValueError, match=r"num_tasks must be at least the number of tasks; got 4"):
        model.Model(tiny.make_config("task")).for_tasks(["a", "b", "c", "d", "e"])


@pytest.mark.parametrize("model_parallel", [2, 4])
@pytest.mark.parametrize(("source", "network"), OF_NETWORKS)
def test_every_parameter_finds_its_place_on_many_devices(source, network, model_parallel):
    adapted = abstract(source, network)
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
