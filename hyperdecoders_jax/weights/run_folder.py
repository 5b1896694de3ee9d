"""The folder of a training run: its description, and its checkpoints as trained models.

    <model_dir>/config.json    what the run trains: see `RunFile`; written at its start
               /spiece.model   of the vocabulary, unless that is of bytes
               /config.gin     how it was made, for people and to train again; never read here
               /checkpoints/   of the package's own runner: what it trains, see `run_checkpoints`
               /checkpoint_*/  of T5X: all parameters
               /scores.json    of a comparison's run: metrics and scores of examples, when finished

Frozen parameters of our runner come from where the run had them; those of no file from its seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.model import BACKBONE_KEYS, Model, share_programs
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import TransformerConfig
from hyperdecoders_jax.types import Params
from hyperdecoders_jax.weights import (
    check_params,
    fingerprints,
    names,
    run_checkpoints,
    t5x_checkpoint,
    trained_model,
)
from hyperdecoders_jax.weights.arrays import Arrays, StoredArray, in_memory
from hyperdecoders_jax.weights.trained_model import Backbone, Description, TrainedModel

CONFIG_FILE = "config.json"
FORMAT = "hyperdecoders_jax run"
VERSION = 1
# What makes a folder of an earlier version a run.
SAVED_GIN = "config.gin"
SCORES_FILE = "scores.json"
OWN_RUNNER, T5X_RUNNER = "embedded", "t5x"
# Of `RunFile`, in the JSON under "start", beside `trained`.
_START_FIELDS = ("initial_checkpoint_path", "random_seed", "frozen_dtype")
_WRITE_AGAIN = (
    "Start the run again with the same command, which writes it, or copy it from the run again."
)


@dataclasses.dataclass(frozen=True)
class RunFile:
    """A run's `config.json`."""

    description: Description  # Of step 0.
    trained: Sequence[str]  # Paths of parameters.
    initial_checkpoint_path: str | None  # Absolute, a hub id or URL; None: random weights.
    random_seed: int  # Of drawn parameters.
    frozen_dtype: str  # Of frozen parameters on the devices.
    data: Mapping[str, Any]  # What it reads and evaluates: `trained.describe.describe_data`.
    runner: str = OWN_RUNNER  # "embedded" or "t5x".


def has_field(file: epath.Path, name: str, value: str) -> bool:
    """Whether a file is JSON whose field `name` has this value; False where there is none."""
    try:
        return file.exists() and files.read_json(file).get(name) == value
    except (OSError, ValueError):
        return False


def is_run(path: str | os.PathLike) -> bool:
    """Whether a folder's `config.json` says that it is a run's."""
    return has_field(epath.Path(path) / CONFIG_FILE, "format", FORMAT)


def is_undescribed(path: str | os.PathLike) -> bool:
    """Whether a folder is a run of an earlier version, which has no `config.json`."""
    folder = epath.Path(path)
    return (folder / SAVED_GIN).exists() and not (folder / CONFIG_FILE).exists()


def to_json(run: RunFile) -> dict[str, Any]:
    """The fields of a run's `config.json`."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "made_by": trained_model.made_by(),
        "runner": run.runner,
        **trained_model.to_json(run.description),
        "start": {name: getattr(run, name) for name in _START_FIELDS}
        | {"trained": list(run.trained)},
        "data": dict(run.data),
    }


def write(folder: str | os.PathLike, run: RunFile) -> None:
    """Writes `config.json` and the vocabulary; replaces those of the run's earlier start."""
    folder = epath.Path(folder)
    for name, content in run.description.vocabulary.files.items():
        files.write_bytes(folder / name, content)
    files.write_text(folder / CONFIG_FILE, json.dumps(to_json(run), indent=1) + "\n")


def read_file(folder: str | os.PathLike) -> RunFile:
    """Reads a run's `config.json`; FileNotFoundError if its vocabulary is missing.

    UsageError if there is no run, or an earlier version's; ValueError if damaged or of a later one.
    """
    folder = epath.Path(folder)
    file = folder / CONFIG_FILE
    if not file.exists() and is_undescribed(folder):
        raise errors.UsageError(
            f"A run must describe itself in {CONFIG_FILE}; {folder}, of an earlier version, has "
            f"{SAVED_GIN} alone, which is a program. If you trust it, write the {CONFIG_FILE} "
            f"once: hyperdecoders upgrade --model_dir={folder}"
        )
    if not file.exists():
        raise errors.UsageError(
            f"A training run must have left its {CONFIG_FILE}; there is no {file}. Name the "
            "--model_dir of the run."
        )
    fields = files.read_json(file, _WRITE_AGAIN)
    if fields.get("format") != FORMAT:
        raise errors.UsageError(
            f"{file} must say format {FORMAT!r}; it belongs to something else. Name the model "
            "directory of a training run."
        )
    check_version(fields, VERSION, file)
    with trained_model.fields_of(file, "what a run trains", _WRITE_AGAIN):
        description, start = read_description(folder, fields, "the run"), fields["start"]
        drawn = [start[name] for name in _START_FIELDS]
        run = RunFile(
            description,
            trained_model.to_texts("start.trained", start["trained"]),
            *drawn,
            data=dict(fields["data"]),
            runner=fields["runner"],
        )
        _check_start(run)
    return run


def fields_of_data(folder: str | os.PathLike) -> contextlib.AbstractContextManager[None]:
    """Tells, as ValueError, what is wrong with `RunFile.data` of a run that is read inside."""
    file = epath.Path(folder) / CONFIG_FILE
    return trained_model.fields_of(file, "what its run reads and evaluates", _WRITE_AGAIN)


def _check_start(run: RunFile) -> None:
    """Raises FieldError for what `RunFile` may not hold."""
    check, dtypes = errors.check_value, tuple(trained_model.DTYPES)
    path, seed, dtype = run.initial_checkpoint_path, run.random_seed, run.frozen_dtype
    is_path = isinstance(path, str | None)
    check("start.initial_checkpoint_path", path, is_path, "be a path or null")
    is_seed = errors.is_whole(seed, -(2**63), 2**63 - 1)
    check("start.random_seed", seed, is_seed, "be an integer of 64 bits")
    check("start.frozen_dtype", dtype, dtype in dtypes, f"be one of {dtypes}")
    runners = (OWN_RUNNER, T5X_RUNNER)
    check("runner", run.runner, run.runner in runners, f"be one of {runners}")


def check_version(fields: Mapping[str, Any], version: int, file: epath.Path) -> None:
    """Raises ValueError if a file is not of this version."""
    if fields.get("version") != version:
        raise ValueError(
            f"A file must be of version {version}; {file} is of {fields.get('version')!r:.80}, "
            f"made by {fields.get('made_by')!s:.80}. Update this package."
        )


def read_description(folder: epath.Path, fields: Mapping[str, Any], owner: str) -> Description:
    """The description in a `config.json`'s fields, with the vocabulary beside it, of `owner`.

    Raises like `trained_model.from_json`; FileNotFoundError or ValueError for the vocabulary.
    """
    is_bytes = fields["vocabulary"]["file"] is None
    model = modeling_config.from_dict(fields["model"])
    content = tokenizer.BYTES_MODEL if is_bytes else trained_model.read_vocabulary(folder)
    description = trained_model.from_json(fields, model, content)
    wanted, found = fields["vocabulary"]["fingerprint"], description.vocabulary.fingerprints
    if wanted not in found:
        raise ValueError(
            f"{folder / trained_model.VOCABULARY_FILE} must be the vocabulary that {owner} was "
            f"trained with, of fingerprint {str(wanted)[:12]}; it has {found[0][:12]}. Copy the "
            "folder again."
        )
    return description


def read(model_dir: str, which: str | int, read_start: Callable[..., TrainedModel]) -> TrainedModel:
    """Opens a checkpoint of a run; `read_start` (`formats.read`) opens what it started from.

    `which` is "best" (the last, where none was evaluated), "last" or a step. ValueError if the
    checkpoint or its frozen part is damaged or of another model, FileNotFoundError if missing.
    """
    run = read_file(model_dir)
    step = find_step(model_dir, which)
    if t5x_steps(model_dir):
        folder = t5x_checkpoint.steps(model_dir)[step]
        stored = t5x_checkpoint.open(folder)
        check_params.check_params(stored, run.description.model, str(folder))
        return _of_t5x(run, stored, step, read_start)
    checkpoints = run_checkpoints.of_run(model_dir)
    checkpoints.check_usable(step)
    where, saved = checkpoints.folder(step), checkpoints.read_run(step)
    _check_sizes(saved, run.description.model, epath.Path(model_dir) / CONFIG_FILE)
    shapes = names.flatten(Model(run.description.model).param_shapes())
    trained = t5x_checkpoint.open_item(where / run_checkpoints.TRAINABLE)
    frozen = {path: shapes[path] for path in shapes if path not in trained}
    held, drawn = _read_frozen(run, frozen, read_start)
    stored = {**trained, **held, **drawn}
    check_params.check_params(stored, shapes, str(where))
    _check_frozen({**held, **drawn}, saved, run, str(where))
    description = dataclasses.replace(run.description, step=step)
    named = _of_backbone(held) if description.backbone else set()
    # The rest of the frozen part is stored as the run computed with it.
    dtype = trained_model.DTYPES[run.frozen_dtype]
    stored |= {p: stored[p].cast(dtype) for p in frozen if p not in named}
    own = tuple(path for path in shapes if path not in named)
    return trained_model.of_text(description, {path: stored[path] for path in shapes}, own)


def _check_sizes(saved: Mapping[str, Any], model: TransformerConfig, file: epath.Path) -> None:
    """ValueError if a `config.json` has other sizes than its checkpoint, before they are used."""
    theirs, ours = saved["identity"]["model"], dataclasses.asdict(model)
    sizes = [name for name, x in ours.items() if isinstance(x, int) and name in theirs]
    if others := [name for name in sizes if theirs[name] != ours[name]]:
        named = ", ".join(f"{x} is {theirs[x]!r:.40} there and {ours[x]} here" for x in others)
        raise ValueError(
            f"{file} must describe the model of the run's checkpoints; {named}. {_WRITE_AGAIN}"
        )


def find_step(model_dir: str, which: str | int) -> int:
    """The step that "best", "last" or a number means; UsageError or ValueError if there is none."""
    if which not in ("best", "last") and not str(which).isdecimal():
        raise errors.UsageError(
            f"--step must be best, last or the number of a checkpoint's step; got {which!r}."
            f"{errors.suggestion(str(which), ('best', 'last'))} Leave it out for best."
        )
    checkpoints = run_checkpoints.of_run(model_dir)
    theirs, ours = t5x_steps(model_dir), checkpoints.steps()
    if theirs and ours:
        raise ValueError(
            f"A model directory must hold the run of one runner; {model_dir} has checkpoints of "
            f"T5X, of steps {theirs}, and of the package's own runner, of steps {ours}. Move one "
            f"run to a directory of its own, with a copy of its {CONFIG_FILE}."
        )
    known, step = theirs or ours, None
    if str(which).isdecimal():
        step = int(which) if int(which) in known else None
    elif theirs:
        step = t5x_checkpoint.best_or_newest(model_dir) if which == "best" else theirs[-1]
    else:
        step = checkpoints.best_step() if which == "best" else None
        step = checkpoints.newest_step() if step is None else step
    if step is None:
        raise ValueError(
            f"CHECKPOINT_STEP must be 'best', 'last', None or the step of a checkpoint; got "
            f"{which!r}, and {model_dir if theirs else checkpoints.directory} holds those of steps "
            f"{known}. Train first, or name the --model_dir of another run."
        )
    return step


def t5x_steps(model_dir: str) -> list[int]:
    """Steps of the checkpoints that T5X wrote into a model directory."""
    return list(t5x_checkpoint.steps(model_dir))


def _of_backbone(paths: Collection[str]) -> set[str]:
    return {path for path in paths if path.split("/")[0] in BACKBONE_KEYS}


def _of_t5x(
    run: RunFile, stored: Arrays, step: int, read_start: Callable[..., TrainedModel]
) -> TrainedModel:
    """A checkpoint of T5X, which holds the frozen part, too."""
    named, backbone = _of_backbone(stored.keys() - set(run.trained)), None
    if named and run.initial_checkpoint_path is not None:
        source = files.absolute_source(run.initial_checkpoint_path)
        exact = {p: stored[p] for p in named}
        if run.frozen_dtype != "float32":
            exact = _before_rounding(run, exact, read_start)
        if exact is not None:
            print_of = fingerprints.fingerprint(_read_tree(exact))
            backbone = Backbone(source, print_of, run.frozen_dtype)
    description = dataclasses.replace(run.description, backbone=backbone, step=step)
    own = tuple(path for path in stored if backbone is None or path not in named)
    arrays = {path: array.cast(np.dtype(np.float32)) for path, array in stored.items()}
    return trained_model.of_text(description, arrays, own)


def _before_rounding(
    run: RunFile, stored: Arrays, read_start: Callable[..., TrainedModel]
) -> Arrays | None:
    """The start's arrays before they were rounded to `stored`; None, and a warning, without them.

    Reads both in full, to compare them.
    """
    dtype = trained_model.DTYPES[run.frozen_dtype]
    try:
        found = read_start(run.initial_checkpoint_path, config=run.description.model).arrays
        exact = {path: found[path] for path in stored}
        is_same = all(
            np.array_equal(x.cast(dtype).read(), stored[path].cast(dtype).read())
            for path, x in exact.items()
        )
    except (OSError, KeyError, ValueError):
        is_same = False
    if is_same:
        return exact
    logging.warning(
        "The weights that the run started from, %s, are not there as they were. The model is read "
        "from the checkpoint alone; adapters exported from it hold all of its parameters.",
        run.initial_checkpoint_path,
    )
    return None


def _read_frozen(
    run: RunFile, frozen: Mapping[str, Any], read_start: Callable[..., TrainedModel]
) -> tuple[dict[str, StoredArray], dict[str, StoredArray]]:
    """Frozen parameters of the start's files, and those that are drawn again."""
    backbone, held = run.description.backbone, {}
    source = backbone.source if backbone else run.initial_checkpoint_path
    if frozen and source is not None:
        found = read_start(source, config=run.description.model).arrays
        read = {p: found[p].read() for p in frozen if p in found}
        # In memory: their fingerprint is computed, then they are used.
        held = in_memory({p: x.astype(np.float32, copy=False) for p, x in read.items()})
    drawn = [path for path in frozen if path not in held]
    return held, in_memory(draw(Model(run.description.model), run.random_seed, drawn))


def draw(model: Model, seed: int, paths: Sequence[str]) -> dict[str, np.ndarray]:
    """Draws some of the parameters of `model.init` with the same seed."""
    if not paths:
        return {}
    rng, wanted = jax.random.key(seed), frozenset(paths)
    if _of_backbone(paths):
        flat = names.flatten(model.init(rng))
        return jax.device_get({p: x for p, x in flat.items() if p in wanted})
    return jax.device_get(_draw_program(Model(model.config), wanted)(rng))


@share_programs
def _draw_program(model: Model, wanted: frozenset[str]) -> Callable[..., dict[str, Any]]:
    # Compiled as a whole, so that XLA drops the backbone instead of drawing it.
    @jax.jit
    def draw_wanted(rng):
        return {p: x for p, x in names.flatten(model.init(rng)).items() if p in wanted}

    return draw_wanted


def _check_frozen(frozen: Arrays, saved: Mapping[str, Any], run: RunFile, where: str) -> None:
    identity = saved["identity"]
    wanted, found = identity["frozen_fingerprint"], fingerprints.fingerprint(_read_tree(frozen))
    if wanted is not None and wanted != found:
        raise ValueError(
            "The frozen part must be the one that the run was trained with; the checkpoint of "
            f"{where} belongs to one of fingerprint {wanted} from {identity['frozen_source']!r}, "
            f"and {run.initial_checkpoint_path or 'the seed'} has {found}. Put its weights back."
        )


def _read_tree(arrays: Arrays) -> Params:
    return names.unflatten({p: x.cast(np.dtype(np.float32)).read() for p, x in arrays.items()})
