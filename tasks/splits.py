"""Rules that divide a task's examples into splits.

Most of GLUE's test labels are secret, and choosing a checkpoint on the split that is reported
flatters it. The original Hyperdecoders therefore divide the public splits anew: they permute one by
a seed and cut it. The rules need neither data nor SeqIO, so that a configuration that names them is
read fast; `subsets` applies them to a task.

Source: allenai/hyperdecoders, `tasks.py`.
"""

import dataclasses
import numbers

import numpy as np

# Validation is the first half of the permuted validation split, test the other half.
HALVED = frozenset(
    {
        "commonsense_qa",
        "glue_cola_v200",
        "glue_mrpc_v200",
        "glue_rte_v200",
        "glue_stsb_v200",
        "glue_wnli_v200",
        "imdb_v100",
        "sick",
        "superglue_boolq_v102",
        "superglue_cb_v102",
        "trec_v100",
    }
)

# Validation is the first 1000 of the permuted training split, train its rest; test stays.
CARVED = frozenset(
    {
        "art",
        "cosmos_qa_v100",
        "glue_qnli_v200",
        "glue_qqp_v200",
        "glue_sst2_v200",
        "hellaswag_v110",
        "social_i_qa",
        "winogrande_v120",
        "yelp_polarity_v020",
    }
)
_NUM_CARVED = 1000


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Rules that make the splits of tasks from those of their data.

    Attributes:
        split_validation_test: divides the tasks in `HALVED` and `CARVED` so that validation and
            test share no example; other tasks keep their own splits.
        seed: of the permutation that decides which examples are in which part.
        num_train: at most these examples of each task, the first of the permuted ones; None: all.
        num_validation: as `num_train`.
        num_test: as `num_train`.
        drop_last_example: drops the last of the permuted examples of each split that has no limit,
            to repeat the original exactly: its "all" is -1, which it uses as the end of a slice.
    """

    split_validation_test: bool = False
    seed: int = 42
    num_train: int | None = None
    num_validation: int | None = None
    num_test: int | None = None
    drop_last_example: bool = False

    def __post_init__(self):
        if not _is_whole(self.seed) or not 0 <= self.seed < 2**32:
            raise ValueError(
                f"SplitConfig.seed must be a whole number in [0, 2**32); got {self.seed!r}. The "
                "original's is 42."
            )
        for name in ("num_train", "num_validation", "num_test"):
            limit = getattr(self, name)
            if limit is not None and (not _is_whole(limit) or limit < 1):
                raise ValueError(
                    f"SplitConfig.{name} must be None or a whole number of at least 1; got "
                    f"{limit!r}. None keeps all, and with drop_last_example = True all but one, "
                    "which is what the original's -1 does."
                )

    def origin(self, task_name: str, split: str) -> str:
        """The split of a task's data that `split` is taken from.

        >>> SplitConfig(split_validation_test=True).origin("glue_sst2_v200", "validation")
        'train'
        """
        if not self._divides(task_name, split):
            return split
        return "validation" if task_name in HALVED else "train"

    def indices(self, task_name: str, split: str, num_examples: int) -> range:
        """What `split` takes of the permuted `origin`, which has `num_examples`.

        >>> SplitConfig(split_validation_test=True).indices("glue_cola_v200", "test", 1043)
        range(521, 1043)
        >>> SplitConfig(num_validation=1600).indices("glue_cola_v200", "validation", 1043)
        range(0, 1043)

        Raises:
            ValueError: it takes nothing.
        """
        kept = range(num_examples)
        if self._divides(task_name, split):
            end = num_examples // 2 if task_name in HALVED else _NUM_CARVED
            is_first = split == "validation"
            kept = kept[:end] if is_first else kept[end:]
        limit = self._limit(split)
        if limit is None and self.drop_last_example:
            limit = -1
        kept = kept[:limit]
        if not kept:
            raise ValueError(
                f"Every split must keep an example; {split!r} of {task_name!r} keeps none of the "
                f"{num_examples} in {self.origin(task_name, split)!r} with {self}. Give that split "
                "more data, or bind SplitConfig otherwise."
            )
        return kept

    def changes(self, task_name: str, split: str) -> bool:
        """Whether `split` may differ from the one that the task's data have."""
        is_cut = self.drop_last_example or self._limit(split) is not None
        return is_cut or self._divides(task_name, split)

    def _divides(self, task_name: str, split: str) -> bool:
        if not self.split_validation_test:
            return False
        is_halved = task_name in HALVED and split in ("validation", "test")
        return is_halved or (task_name in CARVED and split in ("train", "validation"))

    def _limit(self, split: str) -> int | None:
        return getattr(self, f"num_{split}", None)


def permutation(num_examples: int, seed: int = 42) -> np.ndarray:
    """`torch.randperm(num_examples)` on a CPU, bit for bit, without PyTorch.

    >>> permutation(277)[:5]
    array([207,  84, 253, 243, 190])

    Fisher and Yates's shuffle, drawing from the Mersenne twister. Cost: 0.1 s for 400,000.
    """
    # NumPy's legacy generator and PyTorch's CPU generator are the same twister, seeded alike.
    draws = np.random.RandomState(seed).randint(
        2**32, size=max(num_examples - 1, 0), dtype="uint32"
    )
    steps = draws % np.arange(num_examples, 1, -1)
    order = list(range(num_examples))
    for index, step in enumerate(steps.tolist()):
        other = index + step
        order[index], order[other] = order[other], order[index]
    return np.array(order, np.int64)


def _is_whole(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
