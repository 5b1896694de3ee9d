"""SeqIO's registry for T5X: tasks that carry their numbers, and the run's vocabulary."""

from collections.abc import Sequence

import seqio

from hyperdecoders_jax import files
from hyperdecoders_jax.data import feature_converter, mixtures
from hyperdecoders_jax.data import vocabulary as vocabulary_lib
from hyperdecoders_jax.model import Model


def use_vocabulary(path: str) -> seqio.Vocabulary:
    """Makes `path` the vocabulary of the run's tasks, and returns it; see `load_vocabulary`."""
    vocabulary = vocabulary_lib.load_vocabulary(files.resolve(path))
    vocabulary_lib.set_run_vocabulary(vocabulary)
    return vocabulary


def accepts_unseen_tasks(model: Model) -> bool:
    """Whether the model can be evaluated on tasks that it was not trained on."""
    return model.config.accepts_unseen_tasks


def register_task_ids(
    mixture_or_task_name: mixtures.MixtureOrTask,
    task_names: Sequence[str] | None = None,
    splits: Sequence[str | None] = (),
    use_cached: bool = False,
    accepts_unseen: bool = False,
) -> str:
    """Registers a mixture, and the tasks in it, as copies that carry `task_ids`; returns its name.

    T5X would train on an object, but it evaluates what is registered under each task's name. The
    copies keep their names, from which those of metrics, predictions and caches are made, and
    replace what is registered. An object, such as one of `mixing.mixture`, must be made and
    registered once: in gin, by a `gin.singleton`.
    `task_names` is the ordered list that numbers tasks, see `mixtures.resolve_task_names`; only
    with `accepts_unseen` may it lack one. Raises ValueError if it does, or the data of one of the
    `splits` (None is skipped), or its SeqIO cache with `use_cached`, are not on this machine.
    """
    provider = mixtures.get_mixture_or_task(mixture_or_task_name)
    task_names = mixtures.resolve_task_names(provider, task_names, accepts_unseen)
    for split in splits:
        if split is not None:
            mixtures.leaf_tasks(provider, split, use_cached)
    numbered = feature_converter.with_task_ids(provider, task_names, accepts_unseen)
    for copy in {numbered, *seqio.get_subtasks(numbered)}:
        is_task = isinstance(copy, seqio.Task)
        registry = seqio.TaskRegistry if is_task else seqio.MixtureRegistry
        # SeqIO refuses to register a name twice.
        if copy.name in registry.names():
            registry.remove(copy.name)
        registry.add_provider(copy.name, copy)
    return numbered.name
