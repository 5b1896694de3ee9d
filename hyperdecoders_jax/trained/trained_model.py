"""A trained model in, from any of its folders; what it is and its parameters out.

    run           the model directory of a training run, under T5X, too
    adapters      an adapter folder, and the T5 that it adapts
    hugging_face  an exported folder, or any T5 with the files of its tokenizer

Only a run needs gin, SeqIO and TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import cli
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.model import BACKBONE_KEYS
from hyperdecoders_jax.training import trainable
from hyperdecoders_jax.types import Params
from hyperdecoders_jax.weights import (
    adapter_folder,
    arrays,
    conversion,
    exported_folder,
    fingerprints,
    generation_fields,
    hugging_face,
    names,
)
from hyperdecoders_jax.weights import backbone as backbone_lib
from hyperdecoders_jax.weights.adapter_folder import Description, Vocabulary
from hyperdecoders_jax.weights.arrays import Arrays
from hyperdecoders_jax.weights.conversion import Weights

if TYPE_CHECKING:
    from etils import epath

    from hyperdecoders_jax.modeling.config import TransformerConfig
    from hyperdecoders_jax.trained.preparation import TrainedConfig

RUN, ADAPTERS, HUGGING_FACE = "run", "adapters", "hugging_face"
# Binds `open_run`.
RUN_FILE = "runs/embedded/convert.gin"
# Files beside a T5 that say how it reads and writes text.
GENERATION_FILE = "generation_config.json"
TOKENIZER_FILE = "tokenizer_config.json"
# A longer length is what tokenizers say where nobody set one.
_MOST_TOKENS = 1_000_000
# What is read of the first, and what changes no text.
_GENERATION_FIELDS = {
    *generation_fields.LENGTHS,
    *generation_fields.OF_BEAMS,
    *generation_fields.OF_SAMPLING,
    *("pad_token_id", "eos_token_id", "decoder_start_token_id", "bos_token_id"),
    *("_from_model_config", "transformers_version", "use_cache"),
}


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model.

    Attributes:
      weights: all parameters.
      description: what they belong to.
      own: paths of the parameters that an adapter folder of it holds.
    """

    weights: Weights
    description: Description
    own: Collection[str] = ()

    @property
    def arrays(self) -> Arrays:
        """All parameters as the run predicts with them: its frozen T5 in the type it had there."""
        backbone = self.description.backbone
        dtype = np.dtype(np.float32) if backbone is None else conversion.DTYPES[backbone.dtype]
        return {
            path: array if path in self.own else array.cast(dtype)
            for path, array in self.weights.arrays.items()
        }

    def params(self) -> Params:
        """The same, read, as a tree."""
        return names.unflatten({path: array.read() for path, array in self.arrays.items()})


def detect(path: str) -> str:
    """The name of the format that is at `path`; see `conversion.detect`."""
    if adapter_folder.is_adapter_folder(path):
        return ADAPTERS
    if (conversion.to_place(path) / cli.SAVED_CONFIG).exists():
        return RUN
    return conversion.detect(path)


def read(path: str, step: str | None = None, backbone: str | None = None) -> TrainedModel:
    """Opens a trained model, whichever folder it is in.

    Args:
      path: of the folder, or a hub id.
      step: of a run: "best", "last" or a number; None: best.
      backbone: of an adapter folder: where the T5 is that it adapts; None: where its run had it.

    Raises:
      FileNotFoundError: nothing is there, or a part of it is missing.
      ValueError: it does not hold all that texts need, is damaged, or an argument is of no use.
    """
    found = detect(path)
    for name, value, kind in (("step", step, RUN), ("backbone", backbone, ADAPTERS)):
        if value is not None and found != kind:
            what = {RUN: "a training run", ADAPTERS: "an adapter folder"}[kind]
            raise ValueError(
                f"Only {what} has a {name} to choose; {path} is of the format {found}, and got "
                f"{name} {value!r}. Leave it out."
            )
    if found == RUN:
        return read_run(path, step or "best")
    if found == ADAPTERS:
        return read_adapters(path, backbone)
    if found == HUGGING_FACE:
        return _read_hugging_face(path)
    raise ValueError(
        "A model that reads and writes text must be a training run, an adapter folder or an "
        f"exported folder; {path} is of the format {found}, which has no vocabulary. Name the "
        f"model directory of its run, which has a {cli.SAVED_CONFIG}, or another folder."
    )


# ---------------------------------------------------------------- runs


def read_run(model_dir: str, step: str) -> TrainedModel:
    """Loads a checkpoint of a training run, as its own configuration says.

    Raises:
      ValueError: there is no run or no such checkpoint, or it is damaged.
    """
    import gin

    from hyperdecoders_jax.config import gin_binding, gin_files

    saved = os.path.join(model_dir, cli.SAVED_CONFIG)
    if not gin_files.is_file(saved):
        raise errors.UsageError(
            f"A training run must have left its {cli.SAVED_CONFIG}; there is no {saved}. Name the "
            "--model_dir of the run."
        )
    if step not in ("best", "last") and not step.isdecimal():
        raise errors.UsageError(
            f"--step must be best, last or the number of a checkpoint's step; got {step!r}."
            f"{errors.suggestion(step, ('best', 'last'))} Leave it out for best."
        )
    which = int(step) if step.isdecimal() else step
    cli.start_tensorflow()  # The run's vocabulary needs it.
    text = gin_files.read(
        [RUN_FILE, files.absolute(saved)],
        [f"MODEL_DIR = {model_dir!r}", f"CHECKPOINT_STEP = {which!r}"],
    )
    gin_binding.parse(
        text,
        open_run,
        are_macros_checked=False,
        is_all_bound=False,
        readers=cli.TRAIN_FILES,
    )
    return gin.get_configurable(open_run)()


def open_run(*, trained: TrainedConfig, task_feature_lengths: Mapping[str, int]) -> TrainedModel:
    """Loads a run's parameters; bound by gin_configs/runs/embedded/convert.gin.

    Args:
      trained: which run, and which of its checkpoints.
      task_feature_lengths: tokens of inputs and targets.
    """
    import jax

    from hyperdecoders_jax.data import vocabulary
    from hyperdecoders_jax.trained import preparation

    loaded = preparation.load_trained(trained)
    model = trained.model.for_tasks(loaded.task_names)
    # The rest of the frozen part is drawn, and cast as in the run.
    given = {key: x for key, x in loaded.frozen.items() if key in BACKBONE_KEYS}
    drawn = {key: x for key, x in loaded.frozen.items() if key not in BACKBONE_KEYS}
    has_backbone = bool(given) and trained.initial_checkpoint_path is not None
    own = trainable.merge(
        loaded.trainable,
        trainable.cast_frozen(drawn if has_backbone else loaded.frozen, trained.frozen_dtype),
    )
    params = trainable.merge(own, given) if has_backbone else own
    flat = {path: np.asarray(x) for path, x in names.flatten(jax.device_get(params)).items()}
    description = Description(
        model=model.config,
        decoding=model.decoding,
        backbone=adapter_folder.Backbone(
            _from_anywhere(trained.initial_checkpoint_path),
            fingerprints.fingerprint(given),
            trained.frozen_dtype,
        )
        if has_backbone
        else None,
        vocabulary=Vocabulary(*vocabulary.content(vocabulary.RUN_VOCABULARY)),
        task_names=loaded.task_names or (),
        task_feature_lengths=task_feature_lengths,
        step=loaded.step or 0,
    )
    return _make(description, arrays.in_memory(flat), tuple(names.flatten(own)))


def _from_anywhere(path: str) -> str:
    """A path of this folder that means the same in others; hub ids and URLs do already."""
    return os.path.abspath(path) if os.path.exists(path) else path


def _make(description: Description, stored: Arrays, own: Collection[str] = ()) -> TrainedModel:
    weights = Weights(
        description.model,
        stored,
        files=conversion.vocabulary_files(description.vocabulary.model),
        metadata={conversion.VOCABULARY_KEY: description.vocabulary.fingerprint},
        task_names=description.task_names or None,
        step=description.step,
    )
    return TrainedModel(weights, description, own)


# ---------------------------------------------------------------- adapter folders


def read_adapters(folder: str, backbone: str | None = None) -> TrainedModel:
    """Opens an adapter folder, and the T5 that it adapts.

    Args:
      folder: that `hyperdecoders convert --to=adapters:FOLDER` made.
      backbone: where the frozen T5 is, in any format; None: where the run had it.

    Raises:
      FileNotFoundError: the backbone is not there.
      ValueError: there is no adapter folder, it is damaged, or the backbone is another.
    """
    description, stored = adapter_folder.read(folder)
    lacking = adapter_folder.check_arrays(folder, description, stored)
    frozen = _read_frozen(description, lacking, backbone) if lacking else {}
    return _make(description, {**stored, **frozen}, tuple(stored))


def _read_frozen(description: Description, paths: Sequence[str], backbone: str | None) -> Arrays:
    wanted, where = description.backbone, backbone or description.backbone.source
    try:
        loaded = names.flatten(backbone_lib.load(where, description.model).params)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"These adapters need the T5 that they were trained with, {wanted.source}: {error} "
            "Pass its place here as backbone=…."
        ) from error
    frozen = {path: loaded[path] for path in paths}
    how = "Pass the place of the right one as backbone=…."
    found = fingerprints.fingerprint(names.unflatten(frozen))
    adapter_folder.check_backbone(wanted, found, where, how)
    return arrays.in_memory(frozen)


# ---------------------------------------------------------------- Hugging Face's folders


def _read_hugging_face(path: str) -> TrainedModel:
    folder = hugging_face.find(path)
    if exported_folder.is_hyperdecoder(folder):
        return _make(*exported_folder.read(folder))
    weights = conversion.read(folder, HUGGING_FACE)
    return _make(_describe_t5(folder, weights.config), weights.arrays)


def field(path: str) -> Any:
    """What a folder of Hugging Face's says of what the gin scope names.

    Bound by gin_configs/runs/init.gin: the value of `@emb_dim/trained_model.field()` is the size of
    that name. A model that does not tell tasks apart has no `task_names`: it may read any.

    Args:
      path: of the folder, or a hub id.

    Raises:
      FileNotFoundError: nothing is there, or a part of it is missing.
      ValueError: it is something else, or damaged.
    """
    import gin

    if (found := detect(path)) != HUGGING_FACE:
        raise ValueError(
            "A model that is taken as it is (--init, --checkpoint) must be an exported folder, or "
            f"another folder of Hugging Face's; {path} is of the format {found}. Make one of it: "
            f"hyperdecoders export --checkpoint={path} --output=FOLDER"
        )
    folder = hugging_face.find(path)
    if exported_folder.is_hyperdecoder(folder):
        description = exported_folder.read_description(folder)
    else:
        config = hugging_face.config_from_json(hugging_face.read_config(folder))
        description = _describe_t5(folder, config)
    fields = {**vars(description.model), **vars(description)}
    fields["is_plain"] = exported_folder.is_plain(description.model)
    if not description.model.reads_tasks:
        fields["task_names"] = None
    return fields[gin.current_scope()[-1]]


def _describe_t5(folder: epath.Path, config: TransformerConfig) -> Description:
    """What the files beside a plain T5 say, and what transformers does where they say nothing."""
    generation = _read_json(folder / GENERATION_FILE)
    tokenizer_fields = _read_json(folder / TOKENIZER_FILE)
    if ignored := sorted(set(generation) - _GENERATION_FIELDS):
        listed = ", ".join(f"{name}={generation[name]!r}" for name in ignored)
        logging.warning("Not done here: %s.", listed)
    input_len = tokenizer_fields.get("model_max_length", _MOST_TOKENS)
    return Description(
        model=config,
        decoding=generation_fields.from_fields(generation),
        backbone=None,
        vocabulary=_read_vocabulary(folder, tokenizer_fields),
        task_names=(),
        task_feature_lengths={
            "inputs": input_len if input_len < _MOST_TOKENS else 512,
            "targets": generation_fields.max_len(generation),
        },
        step=0,
    )


def _read_vocabulary(folder: epath.Path, fields: Mapping[str, Any]) -> Vocabulary:
    file = folder / adapter_folder.VOCABULARY_FILE
    if fields.get("tokenizer_class") == "ByT5Tokenizer":
        model = tokenizer.BYTES_MODEL
    elif file.exists():
        model = file.read_bytes()
    else:
        raise FileNotFoundError(
            f"A model that reads and writes text must come with its vocabulary; {folder} has no "
            f"{file.name}. Copy it from where the weights are (a tokenizer.json alone does not do)."
        )
    num_sentinels = fields.get("extra_ids")
    if num_sentinels is None:
        num_sentinels = tokenizer.default_sentinels(model)
    return Vocabulary(model, num_sentinels)


def _read_json(file: epath.Path) -> dict[str, Any]:
    """The fields of a file; none where there is no such file."""
    try:
        return json.loads(file.read_text()) if file.exists() else {}
    except ValueError as error:
        raise ValueError(f"{file} must be JSON: {error}. Copy or download it again.") from error
