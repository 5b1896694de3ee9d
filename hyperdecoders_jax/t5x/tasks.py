"""Registered mixtures and tasks get the numbers of their tasks, for T5X reads them by name."""

from collections.abc import Sequence

import seqio

from hyperdecoders_jax.data import feature_converter, mixtures


def register_task_ids(mixture_or_task_name: str, task_names: Sequence[str] | None = None) -> str:
    """Replaces a registered mixture, and the tasks in it, by copies that carry `task_ids`.

    T5X would train on an object, but it evaluates what is registered under each task's name. The
    copies keep their names, which those of metrics, predictions and caches are made of.

    Args:
      mixture_or_task_name: of the mixture or task.
      task_names: the ordered list that numbers tasks; None: the mixture's own, sorted. See
        `mixtures.resolve_task_names`.

    Returns:
      The name, for gin: `utils.DatasetConfig.mixture_or_task_name = @tasks.register_task_ids()`.
    """
    task_names = mixtures.resolve_task_names(mixture_or_task_name, task_names)
    numbered = feature_converter.with_task_ids(mixture_or_task_name, task_names)
    for provider in {numbered, *seqio.get_subtasks(numbered)}:
        is_task = isinstance(provider, seqio.Task)
        registry = seqio.TaskRegistry if is_task else seqio.MixtureRegistry
        registry.remove(provider.name)
        registry.add_provider(provider.name, provider)
    return mixture_or_task_name
