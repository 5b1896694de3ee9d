"""What holds for every grid of gates, in either stack, beside adapters of any source."""

import functools
import os
import pathlib
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import model
from hyperdecoders_jax.modeling import hypergrid
from hyperdecoders_jax.modeling.config import HyperGridConfig
from hyperdecoders_jax.training import partitioning, trainable
from hyperdecoders_jax.training.trainable import TrainableConfig
from tests import tiny, warm_python

ROOT = pathlib.Path(__file__).parents[2]
# float32 rounding: gated products are summed block by block.
ATOL = 2e-5

# For the encoder and the decoder. What makes gates is tested in tests/modeling; here they do their
# work: gates of each kernel, of an example or of all, by what a stack knows.
GRIDS = {
    "both": (
        HyperGridConfig(4, 2, "L2", "first_state", gate="identity", kernels="both"),
        HyperGridConfig(4, 2, "GL", "pooled", gate="identity"),
    ),
    "one-sided": (
        HyperGridConfig(1, 2, "L", "task_embedding", gate="identity", kernels="wi"),
        HyperGridConfig(4, 1, "L", "prefix_mean", prefix_len=3, gate="identity", kernels="both"),
    ),
    "static": (
        HyperGridConfig(4, 2, "GG", gate="identity", kernels="both"),
        HyperGridConfig(4, 2, "GG", gate="identity"),
    ),
    "none": (None, None),
}
GATED = ("both", "one-sided", "static")
# Beside the gated block, and behind it.
ADAPTED = ("feed_forward", "after_feed_forward")


@pytest.mark.parametrize("name", GRIDS)
def test_announced_shapes_are_those_of_a_model_that_is_traced_whole(name):
    """They come of one layer of each stack, and of what adapts both."""
    encoder, decoder = GRIDS[name]
    grids = dict(encoder_hypergrid=encoder, decoder_hypergrid=decoder)
    # "layers_10" is before "layers_2"; that has nothing to do with gates.
    num_layers = 11 if name == "none" else 1
    sizes = dict(num_encoder_layers=2, num_decoder_layers=num_layers, mlp_dim=12)
    found = model.Model(tiny.make_config("none", "task", **sizes, **grids))
    variables = jax.eval_shape(found.init_variables, jax.random.key(0))
    assert model._abstract_variables(found) == variables
    traced = variables["params"]
    assert found.param_shapes() == traced
    assert jax.tree.leaves_with_path(found.param_shapes()) == jax.tree.leaves_with_path(traced)


@functools.cache
def make_model(name):
    """A model with these grids; what gives its logits, and the states that gates read."""
    encoder, decoder = GRIDS[name]
    gated = model.Model(
        tiny.make_config(
            mlp_dim=12,
            num_encoder_layers=1,
            num_decoder_layers=1,
            encoder_sites=ADAPTED,
            decoder_sites=ADAPTED,
            encoder_hypergrid=encoder,
            decoder_hypergrid=decoder,
        )
    )

    def is_read(module, method):
        return module.name == "pre_mlp_layer_norm" or method == "encode"

    def logits_and_states(params, batch):
        logits, found = gated.module.apply(
            {"params": params},
            batch,
            capture_intermediates=is_read,
            mutable=["intermediates"],
        )
        found = found["intermediates"]
        (of_layer,) = found["encoder"]["layers_0"]["pre_mlp_layer_norm"]["__call__"]
        return logits, {"encoder": of_layer, "decoder": found["encode"][0]}

    return gated, jax.jit(logits_and_states)


def without_grids(params):
    return {key: tree for key, tree in params.items() if not key.endswith("_hypergrid")}


def fold(params, side, gates):
    """Multiplies each block of weights by its gate, the slow and obvious way."""
    for name, dense in params[side]["layers_0"]["mlp"].items():
        grid = getattr(gates, name.split("_")[0])
        if grid is not None:
            fan_in, fan_out = dense["kernel"].shape
            of_rows = np.repeat(grid, fan_in // grid.shape[0], axis=0)
            dense["kernel"] = dense["kernel"] * np.repeat(of_rows, fan_out // grid.shape[1], axis=1)


def of_example(gates, example):
    return jax.tree.map(lambda x: x if x.ndim == 2 else x[example], gates)


@pytest.mark.parametrize("name", GATED)
def test_an_examples_gates_are_its_own_weights(name):
    """Also for the adapters, which see what the gates have made of the block."""
    gated, run = make_model(name)
    _, run_plain = make_model("none")
    params, batch = tiny.make_params(gated), tiny.make_batch()
    logits, states = run(params, batch)
    for example in range(3):
        own = jax.tree.map(np.asarray, params)
        for side in ("encoder", "decoder"):
            module = hypergrid.HyperGrid(gated.config, side)
            (layer,) = module.apply({"params": params[f"{side}_hypergrid"]}, batch.task_ids)
            gates = layer.gates(states[side], batch.encoder_input_tokens > 0)
            fold(own, side, of_example(gates, example))
        expected, _ = run_plain(without_grids(own), batch)
        np.testing.assert_allclose(logits[example], expected[example], atol=ATOL)


@pytest.mark.parametrize("name", GATED)
def test_an_example_depends_on_itself_alone(name):
    gated, run = make_model(name)
    params, batch = tiny.make_params(gated), tiny.make_batch()
    logits, _ = run(params, batch)
    # The others change, tasks and lengths included; the second does not notice.
    others = jax.tree.map(lambda x, y: x.at[1].set(y[1]), tiny.make_batch(seed=5), batch)
    found, _ = run(params, others)
    np.testing.assert_allclose(found[1], logits[1], atol=ATOL)
    assert np.max(np.abs(found[0] - logits[0])) > 0.01


def test_examples_of_other_tasks_have_other_gates():
    gated, run = make_model("one-sided")
    params, batch = tiny.make_params(gated), tiny.make_batch()
    logits, _ = run(params, batch.replace(task_ids=jnp.array([2, 0, 1])))
    found, _ = run(params, batch.replace(task_ids=jnp.array([2, 3, 1])))
    np.testing.assert_array_equal(found[::2], logits[::2])
    assert np.max(np.abs(found[1] - logits[1])) > 1e-3


# Gates that scale states, or weights once for all: where they are one, not a bit differs.
@pytest.mark.parametrize(("name", "atol"), [("both", ATOL), ("one-sided", 0), ("static", 0)])
def test_gates_of_one_are_plain_t5(name, atol):
    gated, run = make_model(name)
    _, run_plain = make_model("none")
    params, batch = tiny.make_params(gated), tiny.make_batch()
    ones = {
        key: jax.tree.map(jnp.zeros_like, tree) if key.endswith("_hypergrid") else tree
        for key, tree in params.items()
    }
    logits, _ = run(ones, batch)
    expected, _ = run_plain(without_grids(params), batch)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=atol)


def test_every_factor_gets_a_gradient_from_a_frozen_t5():
    encoder, decoder = GRIDS["both"]
    sizes = dict(mlp_dim=12, num_encoder_layers=1, num_decoder_layers=1)
    grids = dict(encoder_hypergrid=encoder, decoder_hypergrid=decoder)
    gated = model.Model(tiny.make_config("none", "none", **sizes, **grids))
    batch = tiny.make_batch()
    trained, frozen = trainable.split(tiny.make_params(gated), TrainableConfig())
    assert sorted(trained) == ["decoder_hypergrid", "encoder_hypergrid"]

    @jax.jit
    def gradients(trained):
        loss = lambda trained: gated.loss(trainable.merge(trained, frozen), batch)[0]  # noqa: E731
        return jax.grad(loss)(trained)

    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients(trained)):
        assert np.all(np.isfinite(gradient)), path
        assert np.any(gradient != 0), path


def test_gates_are_made_once_and_serve_every_step_and_beam():
    gated, run = make_model("both")
    params, batch = tiny.make_params(gated), tiny.make_batch()
    context = jax.jit(gated.context)(params, batch)
    assert context.layers[0].gates.wo.shape == (3, 4, 2)

    def step(params, context, tokens, cache, index):
        variables = {"params": params}
        return gated.module.apply(variables, context, tokens, cache, index, method="decode_step")

    beams, dec_len = 2, batch.decoder_input_tokens.shape[1]
    cache = gated.module.apply({"params": params}, 3, beams, dec_len, method="make_cache")
    # The second hypothesis reads other tokens, and must not disturb the first.
    tokens = jnp.stack([batch.decoder_input_tokens, (batch.decoder_input_tokens * 7) % 31], 1)
    traced = jax.make_jaxpr(step)(params, context, tokens[..., 0], cache, 0)
    assert "logistic" not in str(traced)
    run_step, steps = jax.jit(step), []
    for index in range(dec_len):
        logits, cache = run_step(params, context, tokens[:, :, index], cache, index)
        steps.append(logits)
    steps = jnp.stack(steps, axis=2)  # [batch, beams, dec_len, vocab]
    for beam in range(beams):
        expected, _ = run(params, batch.replace(decoder_input_tokens=tokens[:, beam]))
        np.testing.assert_allclose(steps[:, beam], expected, atol=ATOL)


@pytest.mark.parametrize("name", GATED)
def test_gates_lie_whole_on_every_device(name):
    gated, _ = make_model(name)
    mesh = jax.sharding.AbstractMesh((4, 2), ("data", "model"))
    partitioner = partitioning.Partitioner(mesh, partitioning.PartitioningConfig(2))
    shapes, axes = (
        {key: tree[key] for key in tree if key.endswith("_hypergrid")}
        for tree in (gated.param_shapes(), gated.param_axes())
    )
    shardings = partitioner.param_shardings(shapes, axes)
    assert len(partitioning.list_replicated(shardings)) == len(jax.tree.leaves(shapes))


def test_each_stacks_gates_have_a_switch():
    shapes = make_model("both")[0].param_shapes()
    no_adapters = dict(encoder_adapters=False, decoder_adapters=False)
    for side, other in (("encoder", "decoder"), ("decoder", "encoder")):
        switches = TrainableConfig(**{f"{other}_hypergrid": False}, **no_adapters)
        assert sorted(trainable.split(shapes, switches)[0]) == [f"{side}_hypergrid"]
    _, frozen = trainable.split(shapes, TrainableConfig(backbone=True))
    assert not frozen


def main():
    """On four devices: the loss and the gradients of a gated model do not depend on the mesh."""
    gated, _ = make_model("both")
    params, batch = tiny.make_params(gated), tiny.make_batch(batch=4)

    def loss(params, batch):
        return gated.loss(params, batch)[0]

    rules = (("vocab", None), *partitioning.LOGICAL_AXIS_RULES)  # 31 do not divide by two.
    found = []
    for shape in ((1, 1), (2, 2)):
        partitioner = partitioning.make_partitioner(
            partitioning.PartitioningConfig(shape[1], rules),
            jax.devices()[: shape[0] * shape[1]],
        )
        placements = partitioner.param_shardings(params, gated.param_axes())
        placed = partitioner.put_params(params, placements), partitioner.put_batch(batch)
        value, gradients = jax.jit(jax.value_and_grad(loss))(*placed)
        found.append(jax.device_get((value, gradients)))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=ATOL), *found)


def test_a_mesh_changes_neither_loss_nor_gradients():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [*warm_python.COMMAND, "-m", "tests.contracts.test_hypergrid"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    main()
