import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperdecoders_jax import types
from hyperdecoders_jax.modeling import config, hypergrid
from hyperdecoders_jax.modeling.config import HyperGridConfig
from tests import tiny

VARIANTS = [
    HyperGridConfig(rows=4, cols=1, variant="L"),
    HyperGridConfig(rows=1, cols=2, variant="L"),
    *(HyperGridConfig(rows=4, cols=2, variant=variant) for variant in ("L2", "LG", "GL", "GG")),
]
BATCH, LENGTH, EMB, LAYERS = 3, 5, 8, 2


def of_variant(grid):
    return f"{grid.variant}-{grid.rows}x{grid.cols}"


def make(grid, **sizes):
    """The grid of an encoder."""
    model = tiny.make_config(encoder_hypergrid=grid, **{"mlp_dim": 12, **sizes})
    return hypergrid.HyperGrid(model, "encoder")


def shapes_of(module):
    init = lambda: module.init(jax.random.key(0), jnp.zeros(1, int))["params"]  # noqa: E731
    return jax.eval_shape(init)


def draw(grid, task_ids=None):
    """What makes the gates of each layer, and parameters of them far from their initial values."""
    module = make(grid)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes_of(module)
    )
    return module.apply({"params": params}, task_ids), params


def draw_states():
    states = np.random.default_rng(1).normal(size=(BATCH, LENGTH, EMB))
    mask = np.arange(LENGTH) < np.array([[LENGTH], [2], [3]])
    return jnp.asarray(states, jnp.float32), jnp.asarray(mask)


@pytest.mark.parametrize("grid", VARIANTS, ids=of_variant)
def test_gates_are_the_sigmoid_of_the_factors_outer_product(grid):
    stack, params = draw(grid)
    states, mask = draw_states()
    assert len(stack) == LAYERS
    for layer in range(LAYERS):
        gates = stack[layer].gates(states, mask)
        assert gates.wi is None
        is_static = grid.variant == "GG"
        assert gates.wo.shape == (() if is_static else (BATCH,)) + (grid.rows, grid.cols)

        def factor(side, example, layer=layer):
            learned = params["wo"]
            if f"{side}_kernel" in learned:
                return states[example, 0] @ learned[f"{side}_kernel"][layer]
            return learned[f"{side}_vector"][layer] if f"{side}_vector" in learned else [1.0]

        for example in range(BATCH):
            logits = np.outer(factor("rows", example), factor("cols", example))
            found = gates.wo if is_static else gates.wo[example]
            np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-6)


def count(grid, **sizes):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(make(grid, **sizes))))


@pytest.mark.parametrize("variant", config.VARIANTS)
def test_parameters_are_as_many_as_the_closed_forms_say(variant):
    rows, cols = 8, 1 if variant == "L" else 4
    per_layer = tiny.GATE_COUNTS[variant](16, rows, cols)
    sizes = dict(emb_dim=16, mlp_dim=24, num_encoder_layers=LAYERS)
    grid = HyperGridConfig(rows, cols, variant)
    assert count(grid, **sizes) == LAYERS * per_layer
    both = dataclasses.replace(grid, kernels="both", condition="task_embedding")
    table = 0 if variant == "GG" else tiny.NUM_TASKS * 16
    assert count(both, **sizes) == 2 * LAYERS * per_layer + table


@pytest.mark.parametrize(
    ("variant", "blocks", "percent"),
    [("L2", 4, 0.066), ("L2", 8, 0.13), ("L2", 16, 0.27), ("LG", 4, 0.033), ("GL", 16, 0.13)],
)
def test_t5_base_gets_a_tenth_of_a_percent_more(variant, blocks, percent):
    base = dict(emb_dim=768, mlp_dim=3072, num_encoder_layers=12)
    both_stacks = 2 * count(HyperGridConfig(blocks, blocks, variant), **base)
    np.testing.assert_allclose(100 * both_stacks / 222_903_552, percent, rtol=0.02)


@pytest.mark.parametrize("grid", [VARIANTS[1], VARIANTS[2], VARIANTS[4]], ids=of_variant)
def test_identity_starts_at_one_and_trains_both_factors(grid):
    module = make(dataclasses.replace(grid, gate="identity"))
    states, mask = draw_states()

    @jax.jit
    def gates_and_gradient(params):
        def loss(params):
            gates = module.apply({"params": params}, None)[0].gates(states, mask).wo
            return jnp.sum(gates * jnp.arange(gates.size).reshape(gates.shape)), gates

        return jax.grad(loss, has_aux=True)(params)

    params = jax.jit(module.init)(jax.random.key(0), None)["params"]
    gradient, gates = gates_and_gradient(params)
    np.testing.assert_array_equal(gates, 1.0)
    is_zero = [not np.any(leaf) for leaf in jax.tree.leaves(params)]
    assert sum(is_zero) == 1
    # What starts at zero moves first, and then all do: two zeros would never move.
    moved = jax.tree.map(lambda x, change: x - 0.1 * change, params, gradient)
    gradient, _ = gates_and_gradient(moved)
    assert all(np.any(leaf[0] != 0) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    ("condition", "read"), [("first_state", 1), ("prefix_mean", 3), ("pooled", LENGTH)]
)
def test_a_condition_is_the_mean_of_the_states_it_names(condition, read):
    grid = HyperGridConfig(EMB, 1, "L", condition, prefix_len=3)
    layer = hypergrid.LayerGrid(grid, {"wi": {"rows_kernel": jnp.eye(EMB)}}, None)
    states, mask = draw_states()
    mask = mask.at[1].set(False)
    gates = layer.gates(states, mask).wi[..., 0]
    for example in range(BATCH):
        real = states[example, :read][mask[example, :read]]
        mean = real.mean(axis=0) if len(real) else np.zeros(EMB)
        np.testing.assert_allclose(gates[example], 1 / (1 + np.exp(-mean)), atol=1e-6)


def test_states_at_padding_are_not_read():
    layer = draw(HyperGridConfig(4, 2, condition="prefix_mean"))[0][1]
    states, mask = draw_states()
    garbage = jnp.where(mask[..., None], states, jnp.nan)
    found, expected = layer.gates(garbage, mask), layer.gates(states, mask)
    np.testing.assert_array_equal(found.wo, expected.wo)


def test_a_tasks_gates_are_its_own():
    grid = HyperGridConfig(4, 2, condition="task_embedding", unseen_tasks="mean")
    states, mask = draw_states()
    task_ids = jnp.array([3, 1, types.UNSEEN_TASK_ID])
    stack, params = draw(grid, task_ids)
    gates = stack[1].gates(states, mask).wo
    table = params["task_embedding"]
    conditions = jnp.stack([table[3], table[1], table.mean(axis=0)])
    u, v = (conditions @ params["wo"][name][1] for name in ("rows_kernel", "cols_kernel"))
    expected = jax.nn.sigmoid(u[:, :, None] * v[:, None, :])
    np.testing.assert_allclose(gates, expected, atol=1e-6)

    strict = dataclasses.replace(grid, unseen_tasks="error")
    gates = draw(strict, task_ids)[0][1].gates(states, mask).wo
    assert np.isnan(gates[2]).all()
    assert np.isfinite(gates[:2]).all()


def test_task_embeddings_need_tasks():
    grid = HyperGridConfig(4, 2, condition="task_embedding")
    with pytest.raises(ValueError, match=r"gates by `task_embedding` need task_ids; got None"):
        draw(grid)
    with pytest.raises(ValueError, match=r"num_tasks must be the number of tasks .*; got None"):
        shapes_of(make(grid, num_tasks=None))
