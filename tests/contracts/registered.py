"""Every task that the package registers: its family, its data, and the first of each kind."""

import ast
import importlib
import pathlib
import pkgutil

import seqio

from hyperdecoders_jax import tasks
from hyperdecoders_jax.tasks import mixtures

# They name tasks that other files register.
LISTS_OF_NAMES = {"generation", "mixing", "mixtures", "splits"}


def names_in(module):
    """The registered tasks whose names stand in a module's code, each once."""
    tree = ast.parse(pathlib.Path(module.__file__).read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return sorted(texts & set(seqio.TaskRegistry.names()))


FAMILIES = {
    name: names_in(importlib.import_module(f"{tasks.__name__}.{name}"))
    for _, name, _ in pkgutil.iter_modules(tasks.__path__)
    if name not in LISTS_OF_NAMES
}
FAMILIES = {family: names for family, names in FAMILIES.items() if names}
NAMES = sorted(name for names in FAMILIES.values() for name in names)
# Their records come with the package; what they make of them is shown in their docstrings.
PACKAGED = set(FAMILIES["demo"])


def leaf_sources(source):
    """The sources that a source is made of."""
    for part in getattr(source, "sources", ()):
        yield from leaf_sources(part)
    if not hasattr(source, "sources"):
        yield source


def tfds_loaders(task):
    return [
        source.tfds_dataset
        for source in leaf_sources(task.source)
        if isinstance(source, seqio.TfdsDataSource)
    ]


def stored_splits(source, split):
    """The data sets that hold a split of a source, and what they call it."""
    for leaf in leaf_sources(source):
        if isinstance(leaf, seqio.TfdsDataSource):
            yield leaf.tfds_dataset.name.partition(":")[0], leaf.tfds_dataset._map_split(split)
        else:
            path = pathlib.Path(*leaf.list_shards(split))
            yield path.parent.name, path.stem


def tasks_of(mixture):
    return {task.name for task in seqio.get_subtasks(seqio.get_mixture_or_task(mixture))}


def mixtures_of(name):
    return [mixture for mixture in mixtures.TASK_FEATURE_LENGTHS if name in tasks_of(mixture)]


def shown_example(name):
    """The record and the rendering that the docstring of a task's first step shows."""
    step = seqio.TaskRegistry.get(name).preprocessors[0]
    record, text = next(x for x in step.__doc__.split("\n\n") if "->" in x).split("->")
    return ast.literal_eval(record.strip()), ast.literal_eval(text.strip())


def kind(name):
    """All that makes a task's text and metrics, but the configuration of its data set."""
    task = seqio.TaskRegistry.get(name)
    loaders = tfds_loaders(task)
    builder = loaders[0].name.partition("/")[0] if loaders else name
    steps = (
        step for step in task.preprocessors if not isinstance(step, seqio.CacheDatasetPlaceholder)
    )
    return builder, *steps, *task.metric_fns


# The first of each kind: reading all of MRQA's sets, which differ in nothing else, takes long.
READ = sorted({kind(name): name for name in reversed(NAMES)}.values())
