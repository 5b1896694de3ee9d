"""A task file may be imported as often as anyone likes."""

import importlib

import seqio

from hyperdecoders_jax.tasks import demo, glue, mixtures


def test_reloading_the_task_files_changes_nothing():
    before = (sorted(seqio.TaskRegistry.names()), sorted(seqio.MixtureRegistry.names()))
    for module in (demo, glue, mixtures):
        importlib.reload(module)
    assert (sorted(seqio.TaskRegistry.names()), sorted(seqio.MixtureRegistry.names())) == before
    tasks = seqio.MixtureRegistry.get("demo").tasks
    assert all(task is seqio.TaskRegistry.get(task.name) for task in tasks)
