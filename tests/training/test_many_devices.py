"""Runs on eight virtual devices, and in two processes: each test starts processes of its own."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import warm_python

ROOT = pathlib.Path(__file__).parents[2]
NUM_STEPS = 60  # Of two processes: more than they make before they agree to stop.


def start(kind, model_dir, *arguments, num_devices):
    """Starts this file as a program; see `main`."""
    devices = f"--xla_force_host_platform_device_count={num_devices}"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {devices}",
        "PYTHONPATH": str(ROOT),
    }
    command = [*warm_python.COMMAND, "-m", "tests.training.test_many_devices", kind, str(model_dir)]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    outputs = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)


def losses(model_dir):
    text = (pathlib.Path(model_dir) / "metrics.jsonl").read_text()
    return [json.loads(line)["loss"] for line in text.splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of runs on several meshes of eight devices."""
    folder = tmp_path_factory.mktemp("meshes")
    finish(start("meshes", folder, num_devices=8))
    return folder


def test_data_and_model_parallel_runs_have_the_losses_of_one_device(runs):
    expected = losses(runs / "1x1")
    assert len(expected) == 4
    # Sums over devices are in another order. What one mesh saved, another continued.
    np.testing.assert_allclose(losses(runs / "4x2"), expected, rtol=1e-5)
    np.testing.assert_allclose(losses(runs / "8x1 then 4x2"), expected, rtol=1e-5)

    # Two examples in a row. Dropout falls elsewhere than without packing, so only meshes are equal.
    packed = losses(runs / "packed 1x1")
    np.testing.assert_allclose(losses(runs / "packed 2x2"), packed, rtol=1e-5)


def test_what_several_devices_saved_loads_on_one(runs):
    # In a process of its own, which has fewer devices than the one that saved.
    finish(start("load", runs, num_devices=1))


def test_two_processes_stop_together_and_continue(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    finish(*[start("worker", tmp_path / "runs", port, i, num_devices=1) for i in range(2)])
    stopped, unbroken = losses(tmp_path / "runs/stopped"), losses(tmp_path / "runs/unbroken")
    assert len(unbroken) == NUM_STEPS
    assert stopped == unbroken


def placed_shapes(partitioner, model, shapes):
    """Where a partitioner puts what is trained."""
    import jax

    placements = partitioner.param_shardings(shapes, model.param_axes())
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        placements,
    )


def main():
    """Trains on several meshes one after another, or as one of two processes; or loads."""
    import jax

    from hyperdecoders_jax.training import optimizer, partitioning, schedules, trainer
    from tests.training import tiny

    kind, model_dir, *arguments = sys.argv[1:]
    if kind == "load":
        model = tiny.make_model()
        before, _ = tiny.make_params(model)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), before)
        partitioner = partitioning.make_partitioner()
        checkpoints = trainer.RunDirectory(os.path.join(model_dir, "4x2")).checkpoints()
        for wanted in (shapes, placed_shapes(partitioner, model, shapes)):
            after = checkpoints.load_trainable(wanted, step=4)
            moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), before, after)
            assert max(jax.tree.leaves(moved)) > 0
        return
    if kind == "worker":
        port, index = map(int, arguments)
        jax.distributed.initialize(f"localhost:{port}", 2, index)

    def run(name, num_devices, model_parallel, num_train_steps=4, act=None, is_packed=False):
        partitioner = partitioning.make_partitioner(
            partitioning.PartitioningConfig(model_parallel), jax.devices()[:num_devices]
        )
        index, count = partitioner.data_shard()

        class Share(tiny.Batches):
            def __next__(self):
                batch = super().__next__()
                if act is not None:
                    act(self.count)
                size = len(batch.task_ids) // count
                return jax.tree.map(lambda x: x[index * size : (index + 1) * size], batch)

            def position(self):
                return {"count": self.count, "share": [index] * (1 + index)}

        loop = trainer.Trainer(
            trainer.TrainingRecipe(
                tiny.make_model(),
                optimizer.AdamWConfig(),
                schedules.ConstantConfig(1e-2),
                trainer.TrainerConfig(num_train_steps, log_every_steps=1),
            ),
            partitioner,
            trainer.RunDirectory(os.path.join(model_dir, name)),
            evaluate=lambda params, step: {},
        )
        loop.start(*tiny.make_params(tiny.make_model()), Share(is_packed=is_packed))
        return loop.run()

    if kind == "worker":

        def stop(count):
            if count == 2 and index == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)  # The processes take a while to agree.

        run("unbroken", 2, 1, NUM_STEPS)
        assert not run("stopped", 2, 1, NUM_STEPS, act=stop).is_finished
        assert run("stopped", 2, 1, NUM_STEPS).is_finished
        return
    run("1x1", 1, 1)
    run("4x2", 8, 2)
    run("8x1 then 4x2", 8, 1, num_train_steps=2)
    run("8x1 then 4x2", 8, 2)
    run("packed 1x1", 1, 1, is_packed=True)
    run("packed 2x2", 4, 2, is_packed=True)


if __name__ == "__main__":
    main()
