"""Registration of tasks and mixtures with SeqIO, the last one under a name counts.

SeqIO refuses a name that it knows. A task file may well be imported twice in one process, by gin
and by name, or reloaded in a notebook; here the later import replaces the earlier.
"""

from collections.abc import Mapping

import seqio

from hyperdecoders_jax.tasks.features import OUTPUT_FEATURES


def add_task(
    name: str, output_features: Mapping[str, seqio.Feature] = OUTPUT_FEATURES, **arguments
) -> seqio.Task:
    """`seqio.TaskRegistry.add`, except that a task of this name is replaced."""
    seqio.TaskRegistry.remove(name)
    return seqio.TaskRegistry.add(name, output_features=output_features, **arguments)


def add_mixture(name: str, tasks, **arguments) -> seqio.Mixture:
    """`seqio.MixtureRegistry.add`, except that a mixture of this name is replaced."""
    seqio.MixtureRegistry.remove(name)
    return seqio.MixtureRegistry.add(name, tasks, **arguments)
