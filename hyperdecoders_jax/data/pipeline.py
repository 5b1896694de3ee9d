"""PipelineConfig: which data a run reads, how long its texts are, and in which order they come.

The readers that follow it: `train_batches` (an endless, resumable stream), `eval_batches` (a split,
once, in order) and `preflight` (checks before a run). gin files bind `pipeline.PipelineConfig`.
"""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence

from hyperdecoders_jax.data import feature_converter, mixtures

_LEAST = {"batch_size": 1, "seed": 0, "shuffle_buffer_size": 1, "examples_per_turn": 0}


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """The data of a run and their order.

    Attributes:
        mixture_or_task_name: a registered name (or a SeqIO object).
        task_feature_lengths: tokens of `inputs` and of `targets`, EOS included; other keys are
            ignored.
        split: read from every task that has it.
        batch_size: examples of one step, over all processes.
        seed: fixes the order, the mixing and what random preprocessors draw.
        shuffle: False reads each task in its own order; the mixing stays random.
        shuffle_buffer_size: examples among which one is drawn; a task with no more than these is
            shuffled completely and kept in memory.
        examples_per_turn: length of an epoch block: a task in memory is read anew, and its random
            preprocessors draw anew, after this many examples, rounded up to whole epochs. 0: each
            epoch.
        truncate_targets: cuts a target that is too long, as the original does, instead of raising.
        task_names: the ordered list that numbers tasks; None: the mixture's tasks sorted by name.
        is_small_vocabulary_allowed: accepts a vocabulary that leaves 128 or more rows of the
            model's embedding unused, which otherwise counts as another model's.
        use_cached: reads text from SeqIO's caches (`seqio.add_global_cache_dirs`), not from the
            data.
        pack: must be False.
    """

    mixture_or_task_name: mixtures.MixtureOrTask
    task_feature_lengths: Mapping[str, int]
    split: str = "train"
    batch_size: int = 128
    seed: int = 0
    shuffle: bool = True
    shuffle_buffer_size: int = 16384
    examples_per_turn: int = 65536
    truncate_targets: bool = False
    task_names: Sequence[str] | None = None
    is_small_vocabulary_allowed: bool = False
    use_cached: bool = False
    pack: bool = False

    def __post_init__(self):
        feature_converter.check_not_packed(self.pack)
        mixtures.check_lengths(self.task_feature_lengths)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise TypeError(
                    f"PipelineConfig.{name} must be a whole number; got {value!r}, a "
                    f"{type(value).__name__}. Set {name} = {least} or more."
                )
            if value < least:
                raise ValueError(
                    f"PipelineConfig.{name} must be at least {least}; got {value}. "
                    f"Set {name} = {least} or more."
                )
        if isinstance(self.task_names, str):
            raise TypeError(
                f"PipelineConfig.task_names must be a list of names; got {self.task_names!r}, one "
                f"text. Write task_names = ({self.task_names!r},)."
            )
