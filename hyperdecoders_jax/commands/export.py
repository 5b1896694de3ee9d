"""`hyperdecoders export`: a trained model as a folder that Hugging Face's libraries load.

    hyperdecoders export --checkpoint=my_run --output=my_model
    hyperdecoders export --checkpoint=my_run --output=my_t5 --fold --task=rte --format=safetensors

A T5 that nothing adapts becomes one of Hugging Face's own, as does one whose gates are the same for
all examples (kernels can hold them), anything else a `hyperdecoder`: see `weights.exported_folder`.
Writing is atomic.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import convert, flags, main

if TYPE_CHECKING:
    from etils import epath

    from hyperdecoders_jax.weights.trained_model import Description

SUMMARY = "write a trained model as a folder of Hugging Face, ready to publish"
EPILOG = """\
Writes config.json, weights, the files of a tokenizer, generation_config.json and a model card. A
model that nothing adapts is a plain T5; others need the classes of hyperdecoders_jax.interop.
"""
TAKES_GIN = False
# In an unfinished export, as JSON: the names of the files that a user's folder gets.
_NAMES = ".names.json"
# Gates are folded where a plain T5 comes of it.
UNCHANGED = convert.Changes(dtype="float32", fold=None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    text = "a training run's model directory, under T5X, too; an adapter folder; an exported folder"
    parser.add_argument("--checkpoint", metavar="FOLDER", required=True, help=text)
    text = (
        "where nothing is yet; a README.md and hidden files, as in a clone of the hub's "
        "repository, may be there and stay"
    )
    parser.add_argument("--output", metavar="FOLDER", required=True, help=text)
    parser.add_argument(
        "--format",
        dest="formats",
        type=lambda text: list(dict.fromkeys(text.split(","))),
        default=["flax"],
        metavar="NAMES",
        help="of the weights: flax (the default), safetensors for PyTorch, or both with a comma",
    )
    text = (
        "add the model's PyTorch code, so that AutoModelForSeq2SeqLM.from_pretrained(FOLDER, "
        "trust_remote_code=True) needs no other package; for safetensors"
    )
    parser.add_argument("--with_code", action="store_true", help=text)
    flags.add_trained(parser)
    text = (
        "make gates a part of the kernels that they scale (default: if they are the same for all "
        "examples and all that adapts the T5)"
    )
    flags.add_fold(parser, action=argparse.BooleanOptionalAction, help=text)
    text = "of the weights: float32 (the default) or bfloat16"
    parser.add_argument("--dtype", default="float32", help=text)
    flags.add_source_module(parser)
    convert.add_verbose(parser)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    flags.import_modules(args.module)
    paths = {
        name: files.at_home(getattr(args, name)) for name in ("checkpoint", "output", "backbone")
    }
    changes = convert.Changes(dtype=args.dtype, fold=args.fold, task=args.task)
    options = {name: getattr(args, name) for name in ("formats", "step", "verbose", "with_code")}
    return export(**paths, **options, changes=changes)


def export(
    checkpoint: str,
    output: str,
    *,
    formats: Sequence[str] = ("flax",),
    step: str | None = None,
    backbone: str | None = None,
    changes: convert.Changes = UNCHANGED,
    with_code: bool = False,
    verbose: bool = False,
) -> int:
    """Writes a trained model for Hugging Face and says what it is now; returns the exit code.

    `checkpoint` is the model directory of a run, an adapter folder (whose `backbone` is by default
    where its run had it), or an exported folder; `step` of a run is "best" (the default), "last" or
    a number. `output` is not there yet, is empty, or holds only a README.md, which stays, and
    hidden files, such as those of git. `formats` are "flax", "safetensors" or both. Of `changes`,
    `vocab_size` is not for exports; `fold=None` folds gates if a plain T5 comes of it. `with_code`
    adds PyTorch code to a model that something adapts. Raises ValueError or FileNotFoundError if
    the model is not all there, damaged, or has no such form; nothing was written.
    """
    # Files are converted on the host; the accelerator may be another process's.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from hyperdecoders_jax.hub import export_folder, model_card, remote_code
    from hyperdecoders_jax.trained import evaluated
    from hyperdecoders_jax.weights import conversion, exported_folder
    from hyperdecoders_jax.weights import formats as formats_lib

    fold, task = changes.fold, changes.task
    exported_folder.check_formats(formats)
    flags.check_fold(fold, task)
    place = formats_lib.to_path(output if "://" in output else os.path.realpath(output))
    remove_killed(place)
    check_output(place)
    checkpoint = files.resolve(checkpoint)
    trained = formats_lib.read_text(checkpoint, step=step, backbone=backbone)
    # As its run predicts with them, be it with a T5 in bfloat16; then all in one type.
    weights = trained.as_predicted()
    if fold or (fold is None and export_folder.are_gates_alone(weights.config)):
        weights = conversion.fold_gates(weights, task)
    weights = conversion.cast(weights, changes.dtype)
    if with_code:
        remote_code.check(weights.config, formats)
    description = export_folder.describe(trained, weights)
    card = None
    if not (place / model_card.FILE).exists():
        card = export_folder.render_card(
            place.name,
            description,
            checkpoint,
            trained,
            formats=formats,
            with_code=with_code,
            folded_task=task,
            num_parameters=sum(math.prod(array.shape) for array in weights.arrays.values()),
            **evaluated.find(checkpoint, description),
        )
    with filled(place) as folder:
        export_folder.write(folder, description, weights, formats, card, with_code)
    print(f"Wrote {export_folder.kind(description.model, formats)}: {output}")
    _warn_of_scores(description)
    if card is None:
        print(f"Left {model_card.FILE} as it was.")
    else:
        print(f"{model_card.FILE} may show an example of the data: read it before you publish.")
    print(f"Read {checkpoint}, step {description.step}.")
    print(convert.report(weights, {}, {}, verbose))
    return 0


def _warn_of_scores(description: Description) -> None:
    """Says that texts of a plain T5 may differ where transformers cannot score beams as its run."""
    from hyperdecoders_jax.decoding.beam_search import T5XScoring
    from hyperdecoders_jax.weights import exported_folder

    scoring = getattr(description.decoding, "scoring", None)
    if exported_folder.is_plain(description.model) and isinstance(scoring, T5XScoring):
        print(f"Texts may differ: the run scored beams by {scoring}, which transformers cannot.")


def check_output(place: epath.Path) -> None:
    """Raises UsageError unless an export would leave what there is as it is."""
    if not _is_of_a_user(place):
        convert.check_free(place, "--output")


def _is_of_a_user(place: epath.Path) -> bool:
    """Whether a folder holds nothing but a README.md, or hidden files, or both."""
    from hyperdecoders_jax.hub import model_card

    names = [file.name for file in place.iterdir()] if place.is_dir() else []
    return bool(names) and all(name == model_card.FILE or name.startswith(".") for name in names)


@contextlib.contextmanager
def filled(place: epath.Path) -> Iterator[epath.Path]:
    """A folder to write, which becomes `place` or whose files join a user's; or OSError."""
    from hyperdecoders_jax.weights import hugging_face

    if not _is_of_a_user(place):
        with convert.atomic(place) as folder:
            folder.mkdir()
            yield folder
        return
    with convert.atomic(_beside(place)) as folder:
        folder.mkdir()
        yield folder
        # Nothing takes a folder without its config.json for a model.
        names = sorted(
            (x.name for x in folder.iterdir()), key=lambda name: name == hugging_face.CONFIG_FILE
        )
        files.write_text(folder / _NAMES, json.dumps(names))
        try:
            for name in names:
                (folder / name).rename(place / name)
        except OSError as error:
            _take_back(place, folder)
            raise OSError(
                f"The files of an export must be able to join those in {place}; one could not: "
                f"{errors.message_of(error)}. Mend its rights, or name a new folder (in it, where "
                "it is a disk of its own) and move the files."
            ) from error
    _beside(place).rmtree()


def remove_killed(place: epath.Path) -> None:
    """Removes the part of an export that was killed while its files joined a user's."""
    from hyperdecoders_jax.weights import hugging_face

    for left in convert.left_by_killed(_beside(place)) if place.is_dir() else ():
        # The last of the files: with it the export is complete.
        if not (place / hugging_face.CONFIG_FILE).exists():
            _take_back(place, left)
        left.rmtree()


def _beside(place: epath.Path) -> epath.Path:
    """A hidden folder, in which all is written before it joins a user's files in `place`."""
    return place.parent / f".{place.name}-export"


def _take_back(place: epath.Path, folder: epath.Path) -> None:
    """Removes those files from `place` that came from the unfinished `folder`."""
    names = folder / _NAMES
    for name in json.loads(names.read_text()) if names.exists() else ():
        if not (folder / name).exists() and (place / name).is_file():
            (place / os.path.basename(name)).unlink()


if __name__ == "__main__":
    main.leave(main.main(["export", *sys.argv[1:]]))
