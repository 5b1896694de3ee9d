import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import model as model_lib
from hyperdecoders_jax.analysis import conditions
from hyperdecoders_jax.modeling.config import HyperFormerConfig, HyperGridConfig
from tests import tiny

L2 = HyperGridConfig(2, 4, "L2", "first_state")
BY_TASK = HyperGridConfig(2, 2, "LG", "task_embedding", kernels="both")
# What is adapted by what: fields of a configuration.
MODELS = {
    "generated": {"encoder": "manual", "decoder": "generated"},
    "HyperFormer and HyperGrid": {"encoder": "none", "decoder": "task"}
    | {"network": HyperFormerConfig(5, 4, 6), "encoder_hypergrid": L2, "decoder_hypergrid": L2},
    "all": {"encoder": "generated", "decoder": "task", "encoder_hypergrid": BY_TASK},
}


def make_model(name):
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 2}
    model = model_lib.Model(tiny.make_config(**MODELS[name], **layers))
    return model, tiny.make_params(model), tiny.make_batch()


def read(model, params, batch):
    return reader(model)(params, batch)


@functools.cache
def reader(model):
    return jax.jit(functools.partial(conditions.read, model))


def logits(model, params, batch, given=None):
    """Logits of a model that is adapted by these conditions, or by its examples' own."""
    return program(model)(params, batch, given or {})


@functools.cache
def program(model):
    def run(params, batch, given):
        with conditions.given(given):
            return model.logits(params, batch)

    return jax.jit(run)


@functools.cache
def generated():
    """What several tests ask of one model: itself, its parameters, a batch, what is read of it."""
    model, params, batch = make_model("generated")
    return model, params, batch, read(model, params, batch)


@pytest.mark.parametrize("name", MODELS)
def test_conditions_are_read_and_given_back(name):
    model, params, batch = make_model(name)
    reading = read(model, params, batch)
    keys = set(conditions.readers(model.config))
    assert set(reading.conditions) == set(reading.inputs) == set(reading.written) == keys
    assert set(reading.hidden) == {key for key in keys if key.endswith("adapters")}
    num_layers = {"encoder": 1, "decoder": 2}
    for key in keys:
        layers = num_layers[key.split("_")[0]]
        assert reading.written[key].shape[:2] == (3, layers)
        if key in reading.hidden:
            assert reading.hidden[key].shape[:2] == (3, layers)
    assert {side: x.shape for side, x in reading.delta_norms.items()} == {
        "encoder": (3, 1),
        "decoder": (3, 2),
    }
    expected = logits(model, params, batch)
    found = logits(model, params, batch, reading.conditions)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_other_conditions_change_a_model():
    model, params, batch = make_model("HyperFormer and HyperGrid")
    batch = batch.replace(task_ids=jnp.array([0, 1, 2]))
    own = read(model, params, batch).conditions
    assert set(own) == {"decoder_adapters", "encoder_hypergrid", "decoder_hypergrid"}
    for key, condition in own.items():
        others = {**own, key: jnp.roll(condition, 1, axis=0)}
        difference = logits(model, params, batch, others) - logits(model, params, batch)
        assert jnp.all(jnp.abs(difference).max(axis=(1, 2)) > 1e-3), key


def test_conditions_in_float32_leave_a_model_in_bfloat16():
    config = tiny.make_config("none", "task", dtype="bfloat16", decoder_hypergrid=BY_TASK)
    model = model_lib.Model(config)
    given = {key: jnp.ones((3, 8)) for key in conditions.readers(config)}

    def context(params, batch):
        with conditions.given(given):
            return model.context(params, batch)

    [layer, *_] = jax.eval_shape(context, model.param_shapes(), tiny.make_batch()).layers
    written = jax.tree.leaves((layer.adapters, layer.gates.replace(groups=None)))
    assert {x.dtype for x in written} == {jnp.dtype("bfloat16")}


def test_own_conditions_by_task_change_no_bit():
    """Or a shuffle within a task would seem to matter in bfloat16."""
    config = tiny.make_config(
        *("none", "task"),
        dtype="bfloat16",
        encoder_hypergrid=BY_TASK,
        num_encoder_layers=1,
        num_decoder_layers=1,
    )
    model = model_lib.Model(config)
    params, batch = tiny.make_params(model), tiny.make_batch(batch=5)
    batch = batch.replace(task_ids=jnp.full(5, 2))
    own = read(model, params, batch).conditions
    assert set(own) == {"encoder_hypergrid", "decoder_adapters"}
    others = jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), own)
    found = logits(model, params, batch, others)
    np.testing.assert_array_equal(found, logits(model, params, batch))


def test_anothers_condition_gives_anothers_adapters():
    """As a model has them that learned these adapters for all examples."""
    model, params, batch, reading = generated()
    own = reading.conditions
    others = jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), own)
    found = logits(model, params, batch, others)
    config = model.config
    manual = dataclasses.replace(
        model,
        config=dataclasses.replace(
            config, decoder_adapter=dataclasses.replace(config.decoder_adapter, source="manual")
        ),
    )
    context = jax.jit(model.context)(params, batch)
    for example in range(3):
        written = [layer.adapters["feed_forward"] for layer in context.layers]
        of_all = jax.tree.map(lambda *x: jnp.stack(x, axis=1), *written)  # [batch, layers, ...]
        of_other = jax.tree.map(operator.itemgetter(example - 1), of_all)
        fields = {name: getattr(of_other, name) for name in of_other.__dataclass_fields__}
        learned = {**params, "decoder_adapters": {"feed_forward": fields}}
        expected = logits(manual, learned, batch)
        np.testing.assert_allclose(found[example], expected[example], atol=1e-5)


def test_what_is_written_is_what_adapts():
    model, params, batch, reading = generated()
    written = reading.written["decoder_adapters"]
    context = jax.jit(model.context)(params, batch)
    for i, layer in enumerate(context.layers):
        leaves = [x.reshape(3, -1) for x in jax.tree.leaves(layer.adapters)]
        np.testing.assert_allclose(written[:, i], jnp.concatenate(leaves, axis=1), atol=1e-6)


def test_the_condition_is_the_mean_of_the_encoders_states():
    model, params, batch, reading = generated()
    np.testing.assert_array_equal(reading.conditions["decoder_adapters"], reading.pooled)
    # The network reads it behind an MLP.
    behind = reading.inputs["decoder_adapters"]
    assert behind.shape == reading.pooled.shape
    assert jnp.abs(behind - reading.pooled).max() > 0.1
    pooled = jax.jit(functools.partial(conditions.pool, model))(params, batch)
    np.testing.assert_allclose(pooled, reading.pooled, atol=1e-6)


def test_a_delta_is_what_an_adapter_adds_to_a_layer():
    """Nothing where it adds nothing."""
    model, params, batch, reading = generated()
    heads = params["decoder_adapters"]["hypernetwork"]["feed_forward"]
    nothing = {name: jax.tree.map(jnp.zeros_like, heads[name]) for name in ("up_kernel", "up_bias")}
    network = {**params["decoder_adapters"]["hypernetwork"], "feed_forward": {**heads, **nothing}}
    silent = {**params, "decoder_adapters": {**params["decoder_adapters"], "hypernetwork": network}}
    assert jnp.all(reading.delta_norms["decoder"] > 0)
    silenced = read(model, silent, batch).delta_norms
    assert jnp.all(silenced["decoder"] == 0)
    assert jnp.all(silenced["encoder"] > 0)


def test_a_delta_is_also_what_adapters_change_of_what_is_attended_to():
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    sites = ("cross_attention_value",)
    model = model_lib.Model(tiny.make_config("none", "generated", decoder_sites=sites, **layers))
    reading = read(model, tiny.make_params(model), tiny.make_batch())
    assert jnp.all(reading.delta_norms["decoder"] > 0.01)


def test_models_that_adapt_all_examples_alike_have_no_readers():
    static = HyperGridConfig(2, 4, "GG")
    layers = {"num_encoder_layers": 1, "num_decoder_layers": 1}
    config = tiny.make_config("manual", "none", decoder_hypergrid=static, **layers)
    assert conditions.readers(config) == ()
    model = model_lib.Model(config)
    assert not read(model, tiny.make_params(model), tiny.make_batch()).conditions
