"""Puts tasks and mixtures into SeqIO's registries, once per name.

SeqIO refuses a name that it knows. A task file may well be imported twice in one process, by gin
and by name, or reloaded in a notebook; here the later import replaces the earlier.
"""

import seqio


def add_task(name: str, **arguments) -> seqio.Task:
    """`seqio.TaskRegistry.add`, except that a task of this name is replaced."""
    seqio.TaskRegistry.remove(name)
    return seqio.TaskRegistry.add(name, **arguments)


def add_mixture(name: str, tasks, **arguments) -> seqio.Mixture:
    """`seqio.MixtureRegistry.add`, except that a mixture of this name is replaced."""
    seqio.MixtureRegistry.remove(name)
    return seqio.MixtureRegistry.add(name, tasks, **arguments)
