"""The files of an exported folder: weights, tokenizer, decoding config and model card."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from etils import epath

from hyperdecoders_jax.hub import model_card, remote_code, tokenizer_files
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.weights import exported_folder, generation_fields, run_folder, text_files
from hyperdecoders_jax.weights.trained_model import Description, TrainedModel


def describe(trained: TrainedModel, weights: TrainedModel) -> Description:
    """What the exported model is: no backbone elsewhere, sentinels as a tokenizer has them.

    `trained` is as its run left it, `weights` are as exported: cast, perhaps folded.
    """
    old = trained.description
    vocabulary = tokenizer_files.with_own_sentinels(old.vocabulary)
    return dataclasses.replace(old, model=weights.config, vocabulary=vocabulary, backbone=None)


def write(
    folder: epath.Path,
    description: Description,
    weights: TrainedModel,
    formats: Sequence[str],
    card: str | None,
    with_code: bool = False,
) -> None:
    """Writes a model that transformers loads into an existing folder.

    `description` is that of `describe`; `formats` are "flax", "safetensors" or both; `card` is the
    text of the model card, None where the user has one; `with_code` adds that of `remote_code`.
    """
    of_code = {}
    if with_code:
        (folder / remote_code.FILE).write_text(remote_code.render(), encoding="utf-8")
        of_code["auto_map"] = remote_code.AUTO_MAP
    exported_folder.write_weights(
        folder, description, weights.arrays, formats, other_fields=of_code
    )
    lengths = description.task_feature_lengths
    tokenizer_files.write(folder, description.vocabulary, lengths["inputs"])
    fields = generation_fields.to_fields(description.decoding, lengths["targets"])
    (folder / text_files.GENERATION_FILE).write_text(json.dumps(fields, indent=2) + "\n")
    if card is not None:
        (folder / model_card.FILE).write_text(card)


def render_card(
    name: str, description: Description, checkpoint: str, trained: TrainedModel, **fields: Any
) -> str:
    """The model card's text; `fields` are others of `model_card.Export`.

    `description` is that of `describe`; `checkpoint`, the exported folder, holds `trained`.
    """
    backbone, mixture, num_frozen = trained.description.backbone, None, None
    if backbone is not None:
        frozen = (x.shape for path, x in trained.arrays.items() if path not in trained.own)
        num_frozen, backbone = sum(map(math.prod, frozen)), backbone.source
    if run_folder.is_run(checkpoint):
        run = run_folder.read_file(checkpoint)
        backbone = run.initial_checkpoint_path
        # One that was made of files or splits has no name that means anything elsewhere.
        mixture = None if any(run.data["tasks"].values()) else run.data["mixture"]
    facts = {"num_frozen": num_frozen, "backbone": backbone, "mixture": mixture, **fields}
    return model_card.render(model_card.Export(name, description, trained=trained.config, **facts))


def are_gates_alone(config: TransformerConfig) -> bool:
    """Whether gates that are the same for all examples are all that adapts the T5."""
    grids = [grid for grid in (config.encoder_hypergrid, config.decoder_hypergrid) if grid]
    without = dataclasses.replace(config, encoder_hypergrid=None, decoder_hypergrid=None)
    are_shared = all(grid.condition_read is None for grid in grids)
    return bool(grids) and are_shared and exported_folder.is_plain(without)


def kind(config: TransformerConfig, formats: Sequence[str]) -> str:
    """What an export is, and the classes that load it, in words."""
    name, where = "Hyperdecoder", " of hyperdecoders_jax.interop"
    if exported_folder.is_plain(config):
        name, where = "plain T5", " of transformers"
    prefixes = {"flax": "Flax", "safetensors": ""}
    classes = [f"{prefixes[x]}{name.split()[-1]}ForConditionalGeneration" for x in formats]
    return f"a {name} for {' and '.join(classes)}{where}"
