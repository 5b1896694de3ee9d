"""A comparison: methods × seeds, each pair a run in a folder of its own.

    OUTPUT/METHOD/seed-3/     a run, as `train` leaves it, and scores.json once it is finished

A run is finished when its scores stand. So the same call, whatever killed the last one, repeats no
finished run and continues the one that was begun.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hyperdecoders_jax import errors
from hyperdecoders_jax.data import mixtures

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig

# A name is a folder, and a column.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared, and how."""

    methods: Mapping[str, RunConfig]  # Their seeds and folders are set here.
    seeds: Sequence[int]
    output: str  # The folder that gets all runs and tables.
    baseline: str | None = None  # The method that others are compared with; None: the first.
    # Split that checkpoints, settings and early stops are chosen on; None: the last checkpoint.
    select_on: str | None = "validation"
    split: str = "test"  # Read at the end only.
    config_texts: Mapping[str, str] = dataclasses.field(default_factory=dict)  # Of gin, for people.
    is_corrected: bool = False  # Whether intervals are simultaneous (Bonferroni).
    choices: Sequence[str] = ()  # Widths and settings that were chosen, in words, for the tables.

    def __post_init__(self):
        errors.check_bools(self)
        names = list(self.methods)
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    "A method's name must be of letters, digits and _.+-, for it names a folder; "
                    f"got {name!r}. Write --method=NAME=FILE.gin with another."
                )
        if not names or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                "A comparison needs a method at least, and seeds that differ; got methods "
                f"{names} and seeds {list(self.seeds)}. Give --method=NAME and --seeds=1-5."
            )
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(
                f"The baseline must be one of the methods {names}; got {self.baseline!r}."
                f"{errors.suggestion(self.baseline, names)} Correct --baseline."
            )
        if self.select_on == self.split:
            raise ValueError(
                "What is reported must not have chosen anything; got the split "
                f"{self.split!r} for both. Change --select_on, or give --select_on=none: the last "
                "checkpoint."
            )
        for name, run in self.methods.items():
            if run.trainer is None:
                raise ValueError(
                    f"A method must be trained; got {name!r} with RunConfig.trainer = None. Set it "
                    "to TrainerConfig(num_train_steps=…)."
                )

    @property
    def mixture(self) -> mixtures.MixtureOrTask:
        """What all methods read."""
        run = next(iter(self.methods.values()))
        return mixtures.get_mixture_or_task(run.data.mixture_or_task_name)

    @property
    def first(self) -> str:
        """The baseline."""
        return self.baseline or next(iter(self.methods))

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """All runs. Seeds of a method follow each other, since they share compiled programs."""
        return [(name, seed) for name in self.methods for seed in self.seeds]

    def folder(self, name: str, seed: int) -> str:
        return f"{self.output}/{name}/seed-{seed}"

    def run(self, name: str, seed: int) -> RunConfig:
        """The run of a method and a seed."""
        return seeded(self.methods[name], seed, self.folder(name, seed), self.select_on)

    def config_text(self, name: str, seed: int) -> str:
        """The gin text of a run; the last of equal bindings holds."""
        text = self.config_texts.get(name, "")
        own = f"\nRANDOM_SEED = {seed}\nMODEL_DIR = {self.folder(name, seed)!r}\n"
        return text and text + own


def on_same_data(methods: Mapping[str, RunConfig]) -> dict[str, RunConfig]:
    """The methods with one mixture object, so that data are read once.

    ValueError unless all methods read the same examples with the same shares, and are evaluated on
    the same, cut alike.
    """
    first = next(iter(methods))
    described = {name: _describe_data(run, methods[first]) for name, run in methods.items()}
    for name, data in described.items():
        if data != described[first]:
            raise ValueError(
                f"Methods must be compared on the same data, cut alike; {first} has "
                f"{described[first]} and {name} has {data}. Set mixture, rates, lengths and "
                "EVAL_EXAMPLES in the common --gin_file, or by --gin.NAME=VALUE."
            )
    mixture = methods[first].data.mixture_or_task_name
    return {
        name: dataclasses.replace(
            run, data=dataclasses.replace(run.data, mixture_or_task_name=mixture)
        )
        for name, run in methods.items()
    }


def _describe_data(run: RunConfig, first: RunConfig) -> tuple:
    mixture = mixtures.get_mixture_or_task(run.data.mixture_or_task_name)
    tasks = mixtures.leaf_tasks(mixture)
    described = [(x.name, getattr(x.source, "describe", lambda: None)()) for x in tasks]
    read = {
        "split": run.data.split,
        "EVAL_EXAMPLES": run.evaluation.num_examples,
        # Files of the first are read, since that is what all will read.
        "shares": mixtures.known_shares(
            mixture, run.data.split, run.data.use_cached, first.data.mixture_or_task_name
        ),
    }
    return mixture.name, dict(run.data.task_feature_lengths), read, described


def seeded(run: RunConfig, seed: int, model_dir: str, select_on: str | None) -> RunConfig:
    """A run with another seed, in another folder, evaluated on another split as it learns."""
    return dataclasses.replace(
        run,
        model_dir=model_dir,
        start=dataclasses.replace(run.start, random_seed=seed),
        data=dataclasses.replace(run.data, seed=seed),
        trainer=dataclasses.replace(run.trainer, seed=seed),
        evaluation=dataclasses.replace(run.evaluation, split=select_on),
    )
