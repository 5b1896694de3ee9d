"""A trained model, loaded from its folder, that turns texts into texts.

    import hyperdecoders_jax
    model = hyperdecoders_jax.load("my_adapters")
    print(model.predict(["inflect past: walk", "inflect past: go"]))

Neither TensorFlow nor SeqIO nor gin is imported.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from hyperdecoders_jax import errors, types
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.data.lost_text import LostText
from hyperdecoders_jax.data.tokenizer import Tokenizer
from hyperdecoders_jax.decoding.decoded import Decoded
from hyperdecoders_jax.model import Model, share_programs
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Batch, Params
from hyperdecoders_jax.weights import formats

# No bucket is smaller: a shorter text costs as much.
_SHORTEST = 8


class Row(NamedTuple):
    """A text as a model reads it."""

    tokens: Sequence[int]  # EOS included.
    task_id: int
    is_cut: bool  # Whether the text is longer.


class ScoredText(NamedTuple):
    """A predicted text."""

    text: str
    log_likelihood: float  # Sum of its tokens' log probabilities, EOS included.
    is_cut: bool  # Whether the input was longer than the model reads.


@dataclasses.dataclass(frozen=True)
class TextReader:
    """Converts texts to the batches of a model, and back."""

    config: TransformerConfig
    tokenizer: Tokenizer
    task_names: Sequence[str]  # In the order that numbers tasks.
    max_len: int  # Most tokens of an input, EOS included.

    def row(self, text: str, task: str | None = None) -> Row:
        """Tokenizes a text; ValueError if the model needs a task, and was not trained on it."""
        tokens = self.tokenizer.encode(text)
        is_cut = len(tokens) >= self.max_len
        tokens = [*tokens[: self.max_len - 1], types.EOS_ID]
        if task in self.task_names:
            return Row(tokens, list(self.task_names).index(task), is_cut)
        if not self.config.accepts_unseen_tasks:
            raise unknown_task(task, self.task_names)
        return Row(tokens, types.UNSEEN_TASK_ID, is_cut)

    def rows(self, texts: Sequence[tuple[str, str | None]]) -> list[Row]:
        """Tokenizes texts with their tasks; warns once of what the vocabulary cannot write."""
        if not self._lost.count:
            self._lost.add(text for text, _ in texts)
            self._lost.warn("texts")
        return [self.row(text, task) for text, task in texts]

    @functools.cached_property
    def _lost(self) -> LostText:
        return LostText(self.tokenizer)

    def batch(self, rows: Sequence[Row], num_rows: int, length: int) -> Batch:
        """The inputs of a batch, filled up to `num_rows` of `length` tokens."""
        inputs = np.zeros((num_rows, length), np.int32)
        # A row without a real token may divide by nothing; those that fill up hold an EOS.
        inputs[:, 0] = types.EOS_ID
        task_ids = np.zeros(num_rows, np.int32)
        for i, row in enumerate(rows):
            inputs[i, : len(row.tokens)] = row.tokens
            task_ids[i] = row.task_id
        nothing = np.zeros((num_rows, 1), np.int32)  # Predicting reads no targets.
        return Batch(inputs, nothing, nothing, nothing, task_ids)

    def texts(self, rows: Sequence[Row], decoded: Decoded) -> list[ScoredText]:
        """The best text for each row."""
        best = np.asarray(decoded.tokens)[:, 0], np.asarray(decoded.log_likelihoods)[:, 0]
        return [
            ScoredText(self.tokenizer.decode(tokens.tolist()), float(log_likelihood), row.is_cut)
            for row, tokens, log_likelihood in zip(rows, *best, strict=False)
        ]


def unknown_task(task: str | None, task_names: Sequence[str]) -> ValueError:
    """The error for a task that a model was not trained on, or for none."""
    return ValueError(
        "This model has parameters for each task, so task must be one of "
        f"{tuple(task_names)}; got {task!r}.{errors.suggestion(task or '', task_names)}"
    )


@dataclasses.dataclass(frozen=True)
class TextModel:
    """A model that reads and writes text."""

    model: Model
    params: Params
    tokenizer: Tokenizer
    task_names: tuple[str, ...]  # In the order that numbers tasks.
    task_feature_lengths: Mapping[str, int]  # Most tokens of inputs and targets, EOS included.

    def predict(
        self, texts: Sequence[str], task: str | None = None, batch_size: int = 32, seed: int = 0
    ) -> list[str]:
        """The likeliest text for each text, as the model's way of decoding finds it.

        Texts are as the tasks of training write their inputs, all of one `task` if the model is
        adapted by task. `batch_size` changes what is sampled, nothing else, and `seed` is of
        sampling. Raises ValueError if a needed task is missing or unknown, or an argument invalid.
        Cost: compiles once for each power of two of lengths and of batch sizes.
        """
        if isinstance(texts, str):
            raise ValueError(
                f"texts must be a list of texts; got the text {texts[:40]!r}. Put it in brackets."
            )
        if task is None and self.model.config.reads_tasks:
            raise unknown_task(task, self.task_names)
        predicted = self.predict_scored([(text, task) for text in texts], batch_size, seed)
        if num_cut := sum(scored.is_cut for scored in predicted):
            logging.warning(
                "%d of %d texts are longer than %d tokens and are cut.",
                num_cut, len(predicted), self.task_feature_lengths["inputs"],
            )  # fmt: skip
        return [scored.text for scored in predicted]

    def predict_scored(
        self, texts: Sequence[tuple[str, str | None]], batch_size: int = 32, seed: int = 0
    ) -> list[ScoredText]:
        """Predicts as `predict` does, for texts that each have a task, or None, beside them."""
        for text, _ in texts:
            if not isinstance(text, str):
                raise ValueError(
                    f"Every text must be a string; got {text!r:.40} of type "
                    f"{type(text).__name__}. Decode bytes, and leave out what is missing."
                )
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}. Leave it out.")
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed must be from 0 to {2**32 - 1}; got {seed}. Leave it out.")
        rows = self.reader.rows(texts)
        # Texts of one length share a batch, so that few positions are padding.
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].tokens))
        predicted = {}
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            group = [rows[i] for i in indices]
            num_rows = _bucket(len(group), 1, batch_size)
            length = _bucket(len(group[-1].tokens), _SHORTEST, self.reader.max_len)
            batch = self.reader.batch(group, num_rows, length)
            sample_rng = jax.random.fold_in(jax.random.key(seed), start)
            decoded = self._predict(self.params, batch, sample_rng)
            predicted |= zip(indices, self.reader.texts(group, decoded), strict=True)
        return [predicted[i] for i in range(len(rows))]

    @functools.cached_property
    def reader(self) -> TextReader:
        """Converts texts to batches of this model."""
        max_len = self.task_feature_lengths["inputs"]
        return TextReader(self.model.config, self.tokenizer, self.task_names, max_len)

    @functools.cached_property
    def _predict(self):
        return _predict_program(self.model, self.task_feature_lengths["targets"])


@share_programs
def _predict_program(model: Model, max_len: int) -> Callable[..., Decoded]:
    return jax.jit(functools.partial(model.predict, max_len=max_len))


def _bucket(size: int, smallest: int, largest: int) -> int:
    """The next power of two, from `smallest` to `largest`.

    >>> [_bucket(size, 8, 48) for size in (3, 9, 33)]
    [8, 16, 48]
    """
    return min(largest, max(smallest, 1 << (size - 1).bit_length()))


def load(
    path: str | os.PathLike, backbone: str | None = None, step: str | None = None
) -> TextModel:
    """Loads a trained model; runs no code of its folder.

    `path` is a training run's model directory, an adapter folder, an exported folder, or any
    Hugging Face folder of a T5 and its tokenizer. `backbone` of an adapter folder is its frozen T5
    in any format, by default where the run had it; `step` of a run is "best" (the default), "last"
    or a checkpoint's number. FileNotFoundError if it, or a part such as the backbone, is missing;
    ValueError if it is something else, damaged, or the backbone is another.
    """
    if not os.fspath(path):
        raise ValueError("load must be given a folder or a hub id; got an empty path. Name one.")
    found = formats.read_text(os.path.expanduser(path), step=step, backbone=backbone).as_predicted()
    description, vocabulary = found.description, found.description.vocabulary
    return TextModel(
        model=Model(description.model, decoding=description.decoding),
        params=jax.tree.map(jnp.asarray, found.params()),
        tokenizer=tokenizer.make(vocabulary.model, vocabulary.num_sentinels),
        task_names=description.task_names,
        task_feature_lengths=description.task_feature_lengths,
    )
