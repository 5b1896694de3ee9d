"""Majority baseline: a task's metrics if every prediction is the most frequent training target."""

import collections

import seqio

from hyperdecoders_jax.data import mixtures


def majority_baseline(task_name: str, split: str = "validation") -> dict[str, float]:
    """The task's metrics if every prediction is the most frequent target of `train`.

    The first in the alphabet wins a draw. The run's vocabulary must be set, since SeqIO's tasks
    tokenise what they read.
    """
    task = seqio.get_mixture_or_task(task_name)
    counts = collections.Counter(_targets(task, "train"))
    guess = min(counts, key=lambda target: (-counts[target], target))
    targets = [task.postprocess_fn(text, is_target=True) for text in _targets(task, split)]
    guesses = [task.postprocess_fn(guess, is_target=False)] * len(targets)
    return {
        name: value
        for metric_fn in task.predict_metric_fns
        for name, value in metric_fn(targets, guesses).items()
    }


def _targets(task: seqio.Task, split: str) -> list[str]:
    mixtures.check_data_are_there(task, split)
    dataset = task.get_dataset(sequence_length=None, split=split, shuffle=False)
    return [example["targets_pretokenized"].decode() for example in dataset.as_numpy_iterator()]
