"""Token ids as a `Batch`: `task_batch` for numpy, `TaskIdFeatureConverter` for SeqIO and T5X."""

from collections.abc import Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf
from jaxtyping import Int

from hyperdecoders_jax import types
from hyperdecoders_jax.data import mixtures

TASK_IDS = "task_ids"
# SeqIO's packing takes 0 for padding: numbers are counted from 1 there, that of an unseen task too.
_PACKED_OFFSET = 1 - types.UNSEEN_TASK_ID


def task_batch(
    inputs: Int[np.ndarray, "batch enc_len"],
    targets: Int[np.ndarray, "batch dec_len"],
    task_ids: Int[np.ndarray, "*batch"],
) -> types.Batch:
    """Makes a batch of padded ids; the decoder reads the targets shifted right.

    >>> batch = task_batch(np.array([[5, 1, 0]]), np.array([[7, 8, 1, 0]]), np.array([2]))
    >>> batch.decoder_input_tokens
    array([[0, 7, 8, 1]])
    >>> batch.decoder_loss_weights
    array([[1, 1, 1, 0]], dtype=int32)
    """
    shifted = np.roll(targets, 1, axis=1)  # A copy; the last id, mostly padding, is overwritten.
    shifted[:, 0] = types.DECODER_START_ID
    return types.Batch(
        encoder_input_tokens=inputs,
        decoder_input_tokens=shifted,
        decoder_target_tokens=targets,
        decoder_loss_weights=(targets != types.PAD_ID).astype(np.int32),
        task_ids=task_ids,
    )


class TaskIdFeatureConverter(seqio.EncDecFeatureConverter):
    """SeqIO's encoder-decoder converter, plus one task number per example.

    `task_ids` is a list of one number in a task, because `seqio.Evaluator` measures the length of
    every feature, and `[batch]` in a model's batch. `task_feature_lengths` need not mention it.
    With `pack`, rows hold up to `max_segments` examples, and `task_ids` are `[batch, segments]`.
    (The macros MAX_SEGMENTS and ROW_LENGTHS are our own pipeline's, and not read here.)
    """

    TASK_FEATURES = {  # noqa: RUF012 (SeqIO's interface)
        **seqio.EncDecFeatureConverter.TASK_FEATURES,
        TASK_IDS: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32, rank=1),
    }
    MODEL_FEATURES = {  # noqa: RUF012
        **seqio.EncDecFeatureConverter.MODEL_FEATURES,
        TASK_IDS: seqio.FeatureConverter.FeatureSpec(dtype=tf.int32, rank=0),
    }

    def __init__(self, pack: bool = False, max_segments: int = 8, **kwargs):
        super().__init__(pack=pack, **kwargs)
        self._num_ids = max_segments if pack else 1
        if pack:
            rank_1 = seqio.FeatureConverter.FeatureSpec(dtype=tf.int32, rank=1)
            self.MODEL_FEATURES = {**self.MODEL_FEATURES, TASK_IDS: rank_1}

    def __call__(self, ds: tf.data.Dataset, task_feature_lengths) -> tf.data.Dataset:
        if TASK_IDS not in ds.element_spec:
            raise ValueError(
                f"Examples must carry {TASK_IDS!r}, the number of their task; got "
                f"{sorted(ds.element_spec)}. Under T5X, take its files through "
                "gin_configs/runs/t5x/finetune.gin, which numbers tasks, or bind "
                "MIXTURE_OR_TASK_NAME = @tasks.register_task_ids() of hyperdecoders_jax.t5x; in "
                "Python, read hyperdecoders_jax.data.feature_converter.with_task_ids("
                "mixture_or_task_name, task_names)."
            )
        if self.pack:
            ds = ds.map(lambda x: {**x, TASK_IDS: x[TASK_IDS] + _PACKED_OFFSET})
        # SeqIO packs task numbers as it packs tokens, so their length bounds a row's examples.
        return super().__call__(ds, {**task_feature_lengths, TASK_IDS: self._num_ids})

    def _convert_example(self, features: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        task_ids = features[TASK_IDS][0]
        if self.pack:
            # Slots without an example are 0, as they are in our own packed rows.
            is_example = features[TASK_IDS] > 0
            task_ids = tf.where(is_example, features[TASK_IDS] - _PACKED_OFFSET, 0)
        return {**super()._convert_example(features), TASK_IDS: task_ids}

    def get_model_feature_lengths(self, task_feature_lengths) -> Mapping[str, int]:
        return {**super().get_model_feature_lengths(task_feature_lengths), TASK_IDS: self._num_ids}


class AnyTaskFeatureConverter(TaskIdFeatureConverter):
    """For models that do not read `task_ids`: examples may lack them, and then have task 0."""

    def __call__(self, ds: tf.data.Dataset, task_feature_lengths) -> tf.data.Dataset:
        if TASK_IDS not in ds.element_spec:
            ds = ds.map(lambda x: {**x, TASK_IDS: tf.zeros(1, tf.int32)})
        return super().__call__(ds, task_feature_lengths)


def with_task_ids(
    mixture_or_task: mixtures.MixtureOrTask, task_names: Sequence[str], accepts_unseen: bool = False
) -> seqio.Task | seqio.Mixture:
    """Copies a task or mixture, unregistered, so that its examples carry `task_ids`.

    A mixture's copy is flat: its leaves with the rates that SeqIO gives them. A task's number is
    its index in `task_names`, which may hold more tasks; `accepts_unseen` gives others
    `UNSEEN_TASK_ID` instead of raising a ValueError that suggests a name.
    """
    provider = mixtures.get_mixture_or_task(mixture_or_task)
    if isinstance(provider, seqio.Task):
        return _numbered(provider, task_names, accepts_unseen)
    tasks = []
    for task in provider.tasks:
        copy = _numbered(task, task_names, accepts_unseen)
        # A rate may need the data's size, so it is asked for only when data are read.
        tasks.append((copy, lambda _, task=task: provider.get_rate(task)))
    return seqio.Mixture(provider.name, tasks, sample_fn=provider._sample_fn)


def _numbered(task: seqio.Task, task_names: Sequence[str], accepts_unseen: bool) -> seqio.Task:
    number = mixtures.task_number(task.name, task_names, accepts_unseen)
    numbers = seqio.PassThroughVocabulary(size=len(task_names))
    feature = seqio.Feature(vocabulary=numbers, add_eos=False, dtype=tf.int32, rank=1)

    @seqio.map_over_dataset
    def add_task_ids(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {**example, TASK_IDS: tf.constant([number], tf.int32)}

    return task.replace(
        output_features={**task.output_features, TASK_IDS: feature},
        preprocessors=[*task.preprocessors, add_task_ids],
    )
