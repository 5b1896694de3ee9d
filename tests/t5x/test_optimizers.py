"""Under T5X the frozen part costs nothing, and a run continues where it stopped, on any mesh."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax.core import unfreeze

pytest.importorskip("t5x", reason="T5X is not installed")

from t5x import adafactor
from t5x import optimizers as t5x_optimizers

from hyperdecoders_jax import model
from hyperdecoders_jax.modeling.config import HyperGridConfig
from hyperdecoders_jax.t5x import checkpoints, optimizers, partitioning
from hyperdecoders_jax.training import optimizer, schedules
from hyperdecoders_jax.training.trainable import TrainableConfig
from hyperdecoders_jax.weights import names
from tests import tiny
from tests.t5x import runs

pytestmark = pytest.mark.t5x

ROOT = pathlib.Path(__file__).parents[2]
# Two thirds, were there no adapters: the forward pass and the gradients of states are left.
MOST_FLOPS = 0.75
NUM_STEPS = 4


def t5x_adafactor():
    return adafactor.Adafactor(1e-2, logical_factor_rules=partitioning.logical_factor_rules())


def our_adamw():
    schedule = schedules.LinearConfig(1e-2, warmup_steps=1)
    return optimizers.make_optimizer(optimizer.AdamWConfig(weight_decay=0.1), schedule, NUM_STEPS)


def our_adafactor():
    schedule = schedules.ConstantConfig(1e-2)
    return optimizers.make_optimizer(optimizer.AdafactorConfig(), schedule, NUM_STEPS)


def t5x_adamw():
    return t5x_optimizers.adamw(1e-2)


OPTIMIZERS = {f.__name__: f for f in (t5x_adafactor, our_adamw, our_adafactor, t5x_adamw)}


def trained_only(name):
    return optimizers.TrainableOnly(OPTIMIZERS[name](), TrainableConfig())


def flatten(params):
    return {path: np.asarray(x) for path, x in names.flatten(unfreeze(params)).items()}


def num_bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def flops(run):
    lowered = run.step.lower(run.shapes, runs.make_features())
    compiled = lowered.compile({"xla_backend_optimization_level": 0})
    return compiled.cost_analysis()["flops"]


def test_only_trainable_parameters_move():
    run = runs.Run(trained_only("t5x_adafactor"))
    before = run.from_scratch()
    old = flatten(before.params)  # The step may reuse the buffers.
    new = flatten(run.train(before, [0, 1]).params)
    moved = {path for path in old if not np.array_equal(old[path], new[path])}
    assert moved == {path for path in old if path.startswith("decoder_adapters/")}


def test_gates_of_a_frozen_t5_move_alone_whatever_the_microbatches():
    grids = dict(
        encoder_hypergrid=HyperGridConfig(4, 2, "L2", gate="identity", kernels="both"),
        decoder_hypergrid=HyperGridConfig(4, 2, "LG", "task_embedding"),
    )
    sizes = dict(mlp_dim=12, num_encoder_layers=1, num_decoder_layers=1, dropout_rate=0.0)
    gated = model.Model(tiny.make_config("none", "none", **sizes, **grids))
    after = []
    for num_microbatches in (None, 2):
        run = runs.Run(trained_only("t5x_adafactor"), gated, num_microbatches=num_microbatches)
        before = run.from_scratch()
        old = flatten(before.params)  # The step may reuse the buffers.
        # A factor that multiplies one of zeros moves in the second step.
        after.append(flatten(run.train(before, [0, 1]).params))
        moved = {path for path in old if not np.array_equal(old[path], after[-1][path])}
        assert moved == {path for path in old if "_hypergrid/" in path}
        assert len(moved) == 4 + 3
    for path, x in after[0].items():
        np.testing.assert_allclose(after[1][path], x, atol=1e-4, err_msg=path)


@pytest.mark.parametrize(("name", "num_microbatches"), [("t5x_adafactor", 2), ("our_adamw", None)])
def test_gradients_of_frozen_parameters_cost_nothing(name, num_microbatches):
    sizes = dict(num_encoder_layers=1, num_decoder_layers=1, dropout_rate=0.0)
    adapted = model.Model(tiny.make_config("manual", "generated", **sizes))
    ours = runs.Run(trained_only(name), adapted, num_microbatches=num_microbatches)
    full = runs.Run(OPTIMIZERS[name](), adapted, num_microbatches=num_microbatches)
    assert flops(ours) <= MOST_FLOPS * flops(full)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_there_is_no_state_of_frozen_parameters(name):
    inner = OPTIMIZERS[name]()
    made = model.Model(tiny.make_config("manual", "generated"))
    shapes, axes = made.param_shapes(), names.flatten(made.param_axes())
    wrapped = optimizers.TrainableOnly(inner, TrainableConfig())
    axes = {path: jax.sharding.PartitionSpec(*x) for path, x in axes.items()}
    wrapped.set_param_axes(names.unflatten(axes))
    state = jax.eval_shape(wrapped.init_state, shapes)
    trained = {path: x for path, x in shapes.items() if path.endswith("_adapters")}
    expected = jax.eval_shape(inner.init_state, trained)
    assert num_bytes(state) <= 1.05 * num_bytes(expected)
    stored = wrapped.state_dict({}, state)["state"]
    assert not [path for path in names.flatten(stored) if "token_embedder" in path]


def test_the_rate_that_is_logged_is_the_one_that_is_used():
    schedule = schedules.LinearConfig(0.5, warmup_steps=2)
    rate = optimizers.learning_rate(schedule, NUM_STEPS)
    run = optimizers.make_optimizer(optimizer.AdafactorConfig(clip_norm=None), schedule, NUM_STEPS)
    params = {"x": np.full(3, 1.0, np.float32)}
    state = run.init_state(params)
    for step in range(NUM_STEPS):
        new, state = run.apply_gradient(run.hyper_params, params, state, params)
        # Equal gradients: each update of Adafactor's is 1, times the rate.
        np.testing.assert_allclose(params["x"] - new["x"], rate(step), atol=1e-6)


def test_a_stopped_run_continues_as_if_unbroken_also_on_another_mesh(tmp_path):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    finished = subprocess.run(
        [sys.executable, "-m", "tests.t5x.test_optimizers", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    differences = json.loads(finished.stdout.splitlines()[-1])
    assert set(differences) == {"t5x_adafactor", "our_adamw"}
    for same_mesh, other_mesh in differences.values():
        assert same_mesh == 0
        assert other_mesh < 1e-5  # Sums over devices are in another order.


def largest_difference(state, other):
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True)
    return max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)))) for x, y in pairs)


def main(folder):
    """On eight devices: an unbroken run against one that stopped, on its mesh and on another."""
    differences = {}
    for name in ("t5x_adafactor", "our_adamw"):
        run = runs.Run(trained_only(name))
        half = run.train(run.from_scratch(), [0])
        path = run.save(f"{folder}/{name}", half)
        unbroken = run.train(half, [1]).state_dict()
        restore = checkpoints.own_checkpoint(folder)
        continued = run.train(run.resume(path, restore), [1]).state_dict()
        other = runs.Run(trained_only(name), num_model=2)
        moved = other.train(other.resume(path, restore), [1]).state_dict()
        differences[name] = [largest_difference(unbroken, x) for x in (continued, moved)]
    print(json.dumps(differences))


if __name__ == "__main__":
    main(sys.argv[1])
