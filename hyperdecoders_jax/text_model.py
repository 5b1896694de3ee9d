"""A trained model's folder in; an object that turns texts into texts out.

    import hyperdecoders_jax
    model = hyperdecoders_jax.load("my_adapters")
    print(model.predict(["inflect past: walk", "inflect past: go"]))

Neither TensorFlow nor SeqIO is imported.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from hyperdecoders_jax import nearest, types
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.data.tokenizer import Tokenizer
from hyperdecoders_jax.interop import adapter_folder, names
from hyperdecoders_jax.interop import backbone as backbone_lib
from hyperdecoders_jax.interop.adapter_folder import Description
from hyperdecoders_jax.interop.arrays import Arrays
from hyperdecoders_jax.model import Model
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.training import checkpoint, trainable
from hyperdecoders_jax.types import Batch, Params

# No bucket is smaller: a shorter text costs as much.
_SHORTEST = 8


@dataclasses.dataclass(frozen=True)
class TextModel:
    """A model that reads and writes text.

    Attributes:
      model: sizes, adapters and way of decoding.
      params: all of them.
      tokenizer: of the vocabulary that it was trained with.
      task_names: the ordered list that numbers tasks.
      task_feature_lengths: most tokens of `inputs` and `targets`, EOS included.
    """

    model: Model
    params: Params
    tokenizer: Tokenizer
    task_names: tuple[str, ...]
    task_feature_lengths: Mapping[str, int]

    def predict(
        self, texts: Sequence[str], task: str | None = None, batch_size: int = 32, seed: int = 0
    ) -> list[str]:
        """The likeliest text for each text, as the model's way of decoding finds it.

        Args:
          texts: as the tasks of training write their inputs.
          task: the name of their task; models that are adapted by task need it.
          batch_size: texts that are predicted together; changes what is sampled, nothing else.
          seed: of decoding by sampling.

        Raises:
          ValueError: the task is missing or unknown and the model depends on it, what is given are
            no texts, or the batch size is no good.

        Cost: compiles once for each power of two of lengths and of batch sizes.
        """
        if isinstance(texts, str):
            raise ValueError(
                f"texts must be a list of texts; got the text {texts[:40]!r}. Put it in brackets."
            )
        texts = list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(
                    f"Every text must be a string; got {text!r:.40} of type "
                    f"{type(text).__name__}. Decode bytes, and leave out what is missing."
                )
        if batch_size < 1:
            raise ValueError(
                f"batch_size must be at least 1; got {batch_size}. Leave it out for 32."
            )
        task_id = self._task_id(task)
        rows = [self.tokenizer.encode(text) for text in texts]
        max_len = self.task_feature_lengths["inputs"]
        if num_cut := sum(len(row) >= max_len for row in rows):
            logging.warning(
                "%d of %d texts are longer than %d tokens and are cut.", num_cut, len(rows), max_len
            )
        rows = [[*row[: max_len - 1], types.EOS_ID] for row in rows]
        # Texts of one length share a batch, so that few positions are padding.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        predicted = {}
        for start in range(0, len(order), batch_size):
            group = order[start : start + batch_size]
            batch = self._make_batch([rows[i] for i in group], task_id, batch_size)
            sample_rng = jax.random.fold_in(jax.random.key(seed), start)
            tokens = np.asarray(self._predict(self.params, batch, sample_rng).tokens[:, 0])
            predicted |= {i: self.tokenizer.decode(tokens[row]) for row, i in enumerate(group)}
        return [predicted[i] for i in range(len(rows))]

    @functools.cached_property
    def _predict(self):
        max_len = self.task_feature_lengths["targets"]
        return jax.jit(functools.partial(self.model.predict, max_len=max_len))

    def _task_id(self, task: str | None) -> int:
        config = self.model.config
        if task in self.task_names:
            return self.task_names.index(task)
        if task is None and not config.reads_tasks:
            return 0
        if task is not None and config.accepts_unseen_tasks:
            return types.UNSEEN_TASK_ID
        raise ValueError(
            "This model has parameters for each task, so task must be one of "
            f"{self.task_names}; got {task!r}.{nearest.hint(task or '', self.task_names)}"
        )

    def _make_batch(self, rows: Sequence[Sequence[int]], task_id: int, batch_size: int) -> Batch:
        num_rows = _bucket(len(rows), 1, batch_size)
        length = _bucket(len(rows[-1]), _SHORTEST, self.task_feature_lengths["inputs"])
        inputs = np.zeros((num_rows, length), np.int32)
        for i, row in enumerate(rows):
            inputs[i, : len(row)] = row
        nothing = jnp.zeros((num_rows, 1), jnp.int32)  # Predicting reads no targets.
        task_ids = jnp.full(num_rows, task_id, jnp.int32)
        return Batch(jnp.asarray(inputs), nothing, nothing, nothing, task_ids)


def _bucket(size: int, smallest: int, largest: int) -> int:
    """The next power of two, from `smallest` to `largest`.

    >>> [_bucket(size, 8, 48) for size in (3, 9, 33)]
    [8, 16, 48]
    """
    return min(largest, max(smallest, 1 << (size - 1).bit_length()))


def load(folder: str | os.PathLike, backbone: str | None = None) -> TextModel:
    """Loads the model of an adapter folder.

    Args:
      folder: that `hyperdecoders convert --to=adapters:FOLDER` made.
      backbone: where the frozen T5 is, in any format; None: where the run had it.

    Raises:
      FileNotFoundError: the backbone is not there.
      ValueError: there is no adapter folder, it is damaged, or the backbone is another.
    """
    folder = os.path.expanduser(folder)
    description, stored = adapter_folder.read(folder)
    return TextModel(
        model=Model(description.model, decoding=description.decoding),
        params=jax.tree.map(jnp.asarray, load_params(folder, description, stored, backbone)),
        tokenizer=tokenizer.make(
            description.vocabulary.model, description.vocabulary.num_sentinels
        ),
        task_names=description.task_names,
        task_feature_lengths=description.task_feature_lengths,
    )


def load_params(
    folder: str | os.PathLike, description: Description, stored: Arrays, backbone: str | None = None
) -> Params:
    """All parameters of an adapter folder's model; see `load`.

    Raises:
      FileNotFoundError: the backbone is not there.
      ValueError: the folder is damaged, or the backbone is another.
    """
    lacking = adapter_folder.check_arrays(folder, description, stored)
    params = {path: array.read() for path, array in stored.items()}
    if lacking:
        params |= _load_frozen(description.backbone, description.model, lacking, backbone)
    return names.unflatten(params)


def _load_frozen(
    wanted: adapter_folder.Backbone,
    config: TransformerConfig,
    paths: Sequence[str],
    path: str | None,
) -> dict[str, np.ndarray]:
    where = path or wanted.source
    try:
        loaded = names.flatten(backbone_lib.load(where, config).params)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"These adapters need the T5 that they were trained with, {wanted.source}: {error} "
            "Pass its place here as backbone=…."
        ) from error
    frozen = names.unflatten({path: loaded[path] for path in paths})
    how = "Pass the place of the right one as backbone=…."
    adapter_folder.check_backbone(wanted, checkpoint.fingerprint(frozen), where, how)
    return names.flatten(trainable.cast_frozen(frozen, wanted.dtype))
