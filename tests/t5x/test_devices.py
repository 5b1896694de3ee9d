"""A run under T5X on many devices and in many processes is the run on one device."""

import collections
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

pytest.importorskip("t5x", reason="T5X is not installed")

from t5x import adafactor

from hyperdecoders_jax import model
from hyperdecoders_jax.t5x import checkpoints, optimizers, partitioning
from hyperdecoders_jax.training import optimizer, schedules
from hyperdecoders_jax.training.trainable import TrainableConfig
from tests.t5x import runs
from tests.training import tiny

pytestmark = pytest.mark.t5x

ROOT = pathlib.Path(__file__).parents[2]
NUM_STEPS = 4
RTOL = 1e-5  # Sums over devices are in another order.


def make_model():
    """The tiny model in sizes that eight devices can share."""
    small = tiny.make_model(dropout_rate=0.0, bottleneck_dim=8, emb_dim=16)
    return model.Model(dataclasses.replace(small.config, num_heads=8, head_dim=3, mlp_dim=40))


def adapters_by_adafactor():
    rules = partitioning.logical_factor_rules()
    inner = adafactor.Adafactor(1e-2, logical_factor_rules=rules)
    return optimizers.TrainableOnly(inner, TrainableConfig())


def all_by_adamw():
    schedule = schedules.ConstantConfig(1e-2)
    inner = optimizers.make_optimizer(optimizer.AdamWConfig(), schedule, NUM_STEPS)
    return optimizers.TrainableOnly(inner, TrainableConfig(backbone=True))


OPTIMIZERS = {f.__name__: f for f in (adapters_by_adafactor, all_by_adamw)}


def start(folder, num_devices, meshes, continued=(), port=None, index=0):
    """Starts this file as a program; see `main`."""
    arguments = {"folder": str(folder), "meshes": meshes, "continued": continued}
    arguments |= {"port": port, "index": index}
    devices = f"--xla_force_host_platform_device_count={num_devices}"
    # No pipe: T5X says more than one holds, and the processes wait for each other.
    with (folder / f"log_{index}").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.t5x.test_devices", json.dumps(arguments)],
            cwd=ROOT,
            env={**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {devices}"},
            stdout=log,
            stderr=log,
        )


def losses(folder, *processes):
    """By mesh and optimiser, the same in all processes."""
    try:
        for index, process in enumerate(processes):
            assert process.wait(timeout=600) == 0, (folder / f"log_{index}").read_text()
    finally:
        for process in processes:
            process.kill()
    first, *others = [
        json.loads((folder / f"losses_{index}").read_text()) for index in range(len(processes))
    ]
    assert all(other == first for other in others)
    return first


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The losses of one device."""
    folder = tmp_path_factory.mktemp("one_device")
    return losses(folder, start(folder, 1, [1]))["1"]


def assert_equal_on_meshes(found, expected):
    for of_mesh in found.values():
        assert set(of_mesh) == set(OPTIMIZERS)
        for name, of_run in of_mesh.items():
            np.testing.assert_allclose(of_run, expected[name], rtol=RTOL)


def test_the_losses_tell_of_training(expected):
    first, second = (np.array(expected[name]) for name in OPTIMIZERS)
    np.testing.assert_array_equal(first[0], second[0])
    assert np.all(np.abs(first[1:] / second[1:] - 1) > 1000 * RTOL)


def test_eight_devices_have_the_losses_of_one(expected, tmp_path):
    found = losses(tmp_path, start(tmp_path, 8, [1, 2, 4], continued=[2]))
    assert set(found) == {"1", "2", "4", "1, then 2"}
    assert_equal_on_meshes(found, expected)


def test_two_processes_have_the_losses_of_one_device(expected, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    # Of the last mesh, either process holds a half of the model.
    processes = [start(tmp_path, 4, [1], [2, 4, 8], port, i) for i in range(2)]
    found = losses(tmp_path, *processes)
    assert set(found) == {"1", "1, then 2", "1, then 4", "1, then 8"}
    assert_equal_on_meshes(found, expected)


def main(folder, meshes, continued, port, index):
    """Writes the losses of training on each mesh, and of going on from the first step elsewhere."""
    if port is not None:
        jax.distributed.initialize(f"localhost:{port}", 2, index)
    found = collections.defaultdict(dict)
    for name, make in OPTIMIZERS.items():
        by_mesh = {n: runs.Run(make(), make_model(), n) for n in {*meshes, *continued}}
        for num_model in meshes:
            found[str(num_model)][name] = of_mesh = []
            run = by_mesh[num_model]
            run.train(run.from_scratch(), range(NUM_STEPS), of_mesh)
        if not continued:
            continue
        of_first = []
        run = by_mesh[meshes[0]]
        path = run.save(f"{folder}/{name}", run.train(run.from_scratch(), [0], of_first))
        for num_model in continued:
            found[f"{meshes[0]}, then {num_model}"][name] = of_both = [*of_first]
            run = by_mesh[num_model]
            state = run.resume(path, checkpoints.own_checkpoint(folder))
            run.train(state, range(1, NUM_STEPS), of_both)
    pathlib.Path(folder, f"losses_{index}").write_text(json.dumps(found))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
