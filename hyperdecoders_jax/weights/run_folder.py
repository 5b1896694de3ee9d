"""The folder of a training run: what it says of itself, and its checkpoints as trained models.

    <model_dir>/config.json    what the run trains: see `RunFile`; written at its start
               /spiece.model   of the vocabulary, unless that is of bytes
               /config.gin     how it was made, for people and to train again; never read here
               /checkpoints/   of the package's own runner: what it trains, see `run_checkpoints`
               /checkpoint_*/  of T5X: all parameters

A checkpoint of our own runner holds what is trained; the frozen part comes from where the run had
it, and what no file has is drawn again from the run's seed.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.data import tokenizer
from hyperdecoders_jax.model import BACKBONE_KEYS, Model
from hyperdecoders_jax.modeling import config as modeling_config
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
from hyperdecoders_jax.weights.trained_model import (
    DTYPES,
    VOCABULARY_FILE,
    Backbone,
    Description,
    TrainedModel,
)

CONFIG_FILE = "config.json"
FORMAT = "hyperdecoders_jax run"
VERSION = 1
# What makes a folder of an earlier version a run.
SAVED_GIN = "config.gin"
OWN_RUNNER, T5X_RUNNER = "embedded", "t5x"


@dataclasses.dataclass(frozen=True)
class RunFile:
    """What a run says of itself in its `config.json`.

    Attributes:
        description: of what it trains; its step is 0.
        trained: paths of the parameters that it trains.
        initial_checkpoint_path: what it started from, as it was named; None: random weights.
        random_seed: of parameters that were drawn.
        frozen_dtype: of the frozen parameters on the devices.
        data: what it reads and evaluates, plain values for people and for `analyze`: `mixture`,
            `eval_split`, `eval_examples`, `batch_size`, `eval_batch_size`, `use_cached`,
            `generation`, `own_data`, `modules`.
        runner: "embedded" or "t5x".
    """

    description: Description
    trained: Sequence[str]
    initial_checkpoint_path: str | None
    random_seed: int
    frozen_dtype: str
    data: Mapping[str, Any]
    runner: str = OWN_RUNNER


def is_run(path: str | os.PathLike) -> bool:
    """Whether there is a folder whose `config.json` says that it is a run's."""
    file = epath.Path(path) / CONFIG_FILE
    try:
        return file.exists() and json.loads(file.read_text()).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        return False


def is_undescribed(path: str | os.PathLike) -> bool:
    """Whether there is a run of an earlier version, which has no `config.json`."""
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
        "start": {
            "initial_checkpoint_path": run.initial_checkpoint_path,
            "random_seed": run.random_seed,
            "frozen_dtype": run.frozen_dtype,
            "trained": list(run.trained),
        },
        "data": dict(run.data),
    }


def write(folder: str | os.PathLike, run: RunFile) -> None:
    """Writes `config.json` and the vocabulary; replaces those of an earlier start of the run."""
    folder = epath.Path(folder)
    for name, content in run.description.vocabulary.files.items():
        (folder / name).write_bytes(content)
    files.write_text(folder / CONFIG_FILE, json.dumps(to_json(run), indent=1) + "\n")


def read_file(folder: str | os.PathLike) -> RunFile:
    """Reads a run's `config.json`.

    Raises:
        UsageError: there is none: no run, or one of an earlier version.
        ValueError: it is damaged, or of a later version.
        FileNotFoundError: its vocabulary is missing.
    """
    folder = epath.Path(folder)
    file = folder / CONFIG_FILE
    if not file.exists() and is_undescribed(folder):
        raise errors.UsageError(
            f"A run must describe itself in {CONFIG_FILE}; {folder} was made by an earlier version "
            f"and has a {SAVED_GIN} alone, which is a program. If you trust it, write the "
            f"{CONFIG_FILE} once: hyperdecoders upgrade --model_dir={folder}"
        )
    if not file.exists():
        raise errors.UsageError(
            f"A training run must have left its {CONFIG_FILE}; there is no {file}. Name the "
            "--model_dir of the run."
        )
    try:
        fields = json.loads(file.read_text())
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise errors.UsageError(
                f"{file} must say format {FORMAT!r}; it belongs to something else. Name the model "
                "directory of a training run."
            )
        check_version(fields, VERSION, file)
        is_bytes = fields["vocabulary"]["file"] is None
        model = modeling_config.from_dict(fields["model"])
        content = tokenizer.BYTES_MODEL if is_bytes else (folder / VOCABULARY_FILE).read_bytes()
        description, start = trained_model.from_json(fields, model, content), fields["start"]
        check_vocabulary(description, fields, folder, "the run")
        return RunFile(
            description,
            tuple(start["trained"]),
            start["initial_checkpoint_path"],
            start["random_seed"],
            start["frozen_dtype"],
            dict(fields["data"]),
            fields["runner"],
        )
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"A run must hold its vocabulary; there is no {folder / VOCABULARY_FILE}. Copy the "
            "folder again."
        ) from error
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{file} must say what a run trains; it does not: {type(error).__name__} {error}. "
            "Start the run again with the same command, which writes it, or copy it again."
        ) from error


def check_version(fields: Mapping[str, Any], version: int, file: epath.Path) -> None:
    """Checks that a file is of a version that this package knows.

    Raises:
        ValueError: it is of a later one.
    """
    if fields.get("version") != version:
        raise ValueError(
            f"A file must be of version {version}; {file} is of {fields.get('version')!r}, made by "
            f"{fields.get('made_by')}. Update this package."
        )


def check_vocabulary(
    description: Description, fields: Mapping[str, Any], folder: epath.Path, owner: str
) -> None:
    """Checks that the vocabulary beside a `config.json` is the one that it names.

    Raises:
        ValueError: it is another.
    """
    wanted, found = fields["vocabulary"]["fingerprint"], description.vocabulary.fingerprint
    if wanted != found:
        raise ValueError(
            f"{folder / VOCABULARY_FILE} must be the vocabulary that {owner} was trained with, of "
            f"fingerprint {str(wanted)[:12]}; it has {found[:12]}. Copy the folder again."
        )


# ---------------------------------------------------------------- checkpoints


def read(model_dir: str, which: str | int, read_start: Callable[..., TrainedModel]) -> TrainedModel:
    """Opens a checkpoint of a run.

    Args:
        model_dir: of the run.
        which: "best" (the last, where none was evaluated), "last" or a step.
        read_start: opens what the run started from, in any format; `formats.read`.

    Raises:
        ValueError: there is no such checkpoint, it is damaged or of another model, or the frozen
            part is not the one that the run had.
        FileNotFoundError: the frozen part is not where it was.
    """
    run = read_file(model_dir)
    step = find_step(model_dir, which)
    shapes = names.flatten(Model(run.description.model).param_shapes())
    if t5x_steps(model_dir):
        folder = t5x_checkpoint.steps(model_dir)[step]
        stored = t5x_checkpoint.open(folder)
        check_params.check_params(stored, shapes, str(folder))
        return _of_t5x(run, stored, step)
    checkpoints = run_checkpoints.CheckpointFiles(
        epath.Path(model_dir) / run_checkpoints.CHECKPOINTS_DIR
    )
    checkpoints.check_usable(step)
    where = checkpoints.directory / str(step)
    trained = t5x_checkpoint.open_item(where / run_checkpoints.TRAINABLE)
    frozen = {path: shapes[path] for path in shapes if path not in trained}
    held, drawn = _read_frozen(run, frozen, read_start)
    stored = {**trained, **held, **drawn}
    check_params.check_params(stored, shapes, str(where))
    _check_frozen({**held, **drawn}, checkpoints.read_run(step), run, str(where))
    description = dataclasses.replace(run.description, step=step)
    backbone = description.backbone
    named = {path for path in held if backbone and path.split("/")[0] in BACKBONE_KEYS}
    # The rest of the frozen part is stored as the run computed with it.
    dtype = DTYPES[run.frozen_dtype]
    stored |= {p: stored[p].cast(dtype) for p in frozen if p not in named}
    own = tuple(path for path in shapes if path not in named)
    return trained_model.of_text(description, {path: stored[path] for path in shapes}, own)


def find_step(model_dir: str, which: str | int) -> int:
    """The step that "best", "last" or a number means.

    Raises:
        UsageError: it is none of the three.
        ValueError: there is no such checkpoint, or the folder holds the runs of both runners.
    """
    if which not in ("best", "last") and not str(which).isdecimal():
        raise errors.UsageError(
            f"--step must be best, last or the number of a checkpoint's step; got {which!r}."
            f"{errors.suggestion(str(which), ('best', 'last'))} Leave it out for best."
        )
    checkpoints = run_checkpoints.CheckpointFiles(
        epath.Path(model_dir) / run_checkpoints.CHECKPOINTS_DIR
    )
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
    elif theirs:  # T5X keeps the newest, and no best one.
        step = theirs[-1]
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


def _of_t5x(run: RunFile, stored: Arrays, step: int) -> TrainedModel:
    """A checkpoint of T5X, which holds the frozen part, too."""
    trained = set(run.trained)
    named = {p for p in stored if p not in trained and p.split("/")[0] in BACKBONE_KEYS}
    backbone = None
    if named and run.initial_checkpoint_path is not None:
        source = absolute_source(run.initial_checkpoint_path)
        print_of = fingerprints.fingerprint(_read_tree({p: stored[p] for p in named}))
        backbone = Backbone(source, print_of, "float32")
    description = dataclasses.replace(run.description, backbone=backbone, step=step)
    own = tuple(path for path in stored if backbone is None or path not in named)
    arrays = {path: array.cast(np.dtype(np.float32)) for path, array in stored.items()}
    return trained_model.of_text(description, arrays, own)


def _read_frozen(
    run: RunFile, frozen: Mapping[str, Any], read_start: Callable[..., TrainedModel]
) -> tuple[dict[str, StoredArray], dict[str, StoredArray]]:
    """The frozen parameters: those of the start's files, and those that are drawn again."""
    backbone, held = run.description.backbone, {}
    source = backbone.source if backbone else run.initial_checkpoint_path
    if frozen and source is not None:
        found = read_start(source, config=run.description.model).arrays
        # In memory: their fingerprint is computed, then they are used.
        held = in_memory(
            {p: found[p].read().astype(np.float32, copy=False) for p in frozen if p in found}
        )
    drawn = [path for path in frozen if path not in held]
    return held, in_memory(draw(Model(run.description.model), run.random_seed, drawn))


def draw(model: Model, seed: int, paths: Sequence[str]) -> dict[str, np.ndarray]:
    """Draws parameters, equal to those of `model.init` with the same seed."""
    if not paths:
        return {}
    import jax

    wanted = set(paths)

    def draw_wanted(rng):
        return {p: x for p, x in names.flatten(model.init(rng)).items() if p in wanted}

    if any(path.split("/")[0] in BACKBONE_KEYS for path in paths):
        return jax.device_get(draw_wanted(jax.random.key(seed)))
    # Compiled as a whole, so that XLA drops the backbone instead of drawing it.
    return jax.device_get(jax.jit(draw_wanted)(jax.random.key(seed)))


def _check_frozen(frozen: Arrays, saved: Mapping[str, Any], run: RunFile, where: str) -> None:
    identity = saved["identity"]
    wanted, found = identity["frozen_fingerprint"], fingerprints.fingerprint(_read_tree(frozen))
    if wanted is not None and wanted != found:
        raise ValueError(
            "The frozen part must be the one that the run was trained with; the checkpoint of "
            f"{where} belongs to one of fingerprint {wanted} from {identity['frozen_source']!r}, "
            f"and {run.initial_checkpoint_path or 'what the seed gives'} has {found}. Put back the "
            "weights that the run started from."
        )


def _read_tree(arrays: Arrays) -> Params:
    return names.unflatten({p: x.cast(np.dtype(np.float32)).read() for p, x in arrays.items()})


def absolute_source(path: str) -> str:
    """A local path that means the same in every folder; hub ids and URLs do already."""
    return os.path.abspath(path) if os.path.exists(path) else path
