"""Configuration of a run's data, which `train_batches`, `eval_batches` and `preflight` follow."""

from __future__ import annotations

import dataclasses
import functools
import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hyperdecoders_jax import errors, types

if TYPE_CHECKING:
    from hyperdecoders_jax.data.mixtures import MixtureOrTask

# Field -> least and most: memory is taken for the sizes, and JAX drops seeds above 32 bits.
_LIMITS = {
    "batch_size": (1, 2**20),
    "seed": (0, 2**32 - 1),
    "shuffle_buffer_size": (1, 2**30),
    "examples_per_turn": (0, 2**40),
    "max_segments": (1, 2**10),
}


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """The data of a run and their order."""

    mixture_or_task_name: MixtureOrTask  # A registered name (or a SeqIO object).
    # Tokens of `inputs` and of `targets`, EOS included; no other keys.
    task_feature_lengths: Mapping[str, int]
    split: str = "train"  # Read from every task that has it.
    batch_size: int = 128  # Examples of one step, over all processes.
    seed: int = 0  # Fixes the order, the mixing and what random preprocessors draw.
    shuffle: bool = True  # False reads each task in its own order; the mixing stays random.
    # Examples among which one is drawn; a task with no more is shuffled completely in memory.
    shuffle_buffer_size: int = 16384
    # Length of an epoch block: a task in memory is read anew, and its random preprocessors draw
    # anew, after this many examples, rounded up to whole epochs. 0: each epoch.
    examples_per_turn: int = 65536
    truncate_targets: bool = False  # Cuts too long targets, as the original does; False: raises.
    task_names: Sequence[str] | None = None  # Numbers tasks in this order; None: sorted by name.
    # Accepts a vocabulary without ids for 128 or more rows of the embedding: another model's, else.
    is_small_vocabulary_allowed: bool = False
    use_cached: bool = False  # Reads SeqIO's caches (`seqio.add_global_cache_dirs`), not the data.
    pack: bool = False  # Several examples in a row; `batch_size` counts rows.
    row_lengths: Mapping[str, int] | None = None  # Of a packed row; None: `task_feature_lengths`.
    max_segments: int = 8  # Most examples of a packed row.
    # Packed: target number of examples per step; sets `batch_size`. None: `batch_size` is used.
    examples_per_step: int | None = None

    def __post_init__(self):
        _check_lengths(self.task_feature_lengths)
        errors.check_bools(self)
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise TypeError(
                    f"PipelineConfig.{name} must be a whole number; got {value!r}, a "
                    f"{type(value).__name__}. Set {name} = {least} or more."
                )
            must = f"be at least {least} and at most {most:,}"
            is_valid = least <= value <= most
            errors.check_field(self, name, is_valid, must, f"Set {name} to such a number.")
        if self.pack and self.row_lengths is not None:
            _check_lengths(self.row_lengths)
            longest = self.task_feature_lengths
            must = f"have room for one example, {dict(longest)}"
            is_valid = all(self.row_lengths[name] >= longest[name] for name in longest)
            errors.check_field(self, "row_lengths", is_valid, must, "Raise ROW_LENGTHS, or None.")
        if self.examples_per_step is not None:
            check = functools.partial(errors.check_field, self, "examples_per_step")
            check(self.pack, "be None unless rows are packed", "Set PACK = True, or BATCH_SIZE.")
            advice = "Set EXAMPLES_PER_STEP to the batch size of the unpacked recipe."
            errors.check_whole(self, "examples_per_step", 1, 2**30, advice)
        if isinstance(self.task_names, str):
            raise TypeError(
                f"PipelineConfig.task_names must be a list of names; got {self.task_names!r}, one "
                f"text. Write task_names = ({self.task_names!r},)."
            )

    @property
    def packed_lengths(self) -> dict[str, int]:
        """Tokens of a packed row."""
        lengths = self.row_lengths or self.task_feature_lengths
        return {name: lengths[name] for name in types.FEATURES}


def _check_lengths(task_feature_lengths: Mapping[str, int]) -> None:
    """Raises ValueError unless inputs and targets, and nothing else, have a length."""
    for name in task_feature_lengths:
        if name not in types.FEATURES:
            raise ValueError(
                f"Only inputs and targets have a length in task_feature_lengths; got {name!r}, too."
                f"{errors.suggestion(str(name), types.FEATURES)} Leave it out of "
                "TASK_FEATURE_LENGTHS."
            )
    for feature in types.FEATURES:
        length = task_feature_lengths.get(feature)
        is_whole = isinstance(length, int) and not isinstance(length, bool)
        if not is_whole or not 1 <= length <= types.MAX_LEN:
            raise ValueError(
                "The task_feature_lengths must give inputs and targets a number of tokens, at "
                f"least 1; got {dict(task_feature_lengths)}. Set TASK_FEATURE_LENGTHS = "
                f"{{'inputs': 512, 'targets': 64}} or what the tasks need, {types.MAX_LEN:,} at "
                "most."
            )
