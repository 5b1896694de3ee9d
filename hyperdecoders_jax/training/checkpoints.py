"""Checkpoints of a run: a folder of Orbax files for each saved step, and which of them are intact.

Saved is what a run trains, and as JSON each process's position in the data, the configuration and
the run's `Identity`, which names the frozen part by source and fingerprint.

    <directory>/<step>/trainable/     nested dict of parameters, readable with plain Orbax
                      /progress/      optimiser state, step, random state, sums of the log line
                      /run/           JSON
                      /manifest.json  size and SHA-256 of every file above, written last
                      /evaluation.json  metrics of this step, written when it is evaluated

A folder without a readable manifest was interrupted while it was saved, and one whose files differ
from its manifest is damaged. Both are skipped with a message, and the checkpoint before is used.
Older checkpoints are removed only after a new manifest is written, and an intact one is never
replaced. A step is saved before it is evaluated, since an evaluation may take long.

Orbax's next interface, v1, is not used: 0.12.8 has it as `experimental`, and it keeps `run/` as
arrays, which readers without Orbax cannot open. It reads these folders, and their arrays are the
same files, so that a later change of interface loses nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging as std_logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from hyperdecoders_jax import files
from hyperdecoders_jax.training import identity as identity_lib
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.training.identity import Identity
from hyperdecoders_jax.training.train_state import TrainState
from hyperdecoders_jax.types import Params, PyTree
from hyperdecoders_jax.weights import run_checkpoints

# Part of the name of an Orbax folder until it is complete.
UNFINISHED = ".orbax-checkpoint-tmp"


@dataclasses.dataclass(frozen=True)
class Restored:
    """A restored checkpoint."""

    state: TrainState  # On the devices.
    position: Any  # Of this process in the data.
    metrics: dict[str, dict[str, float]] | None  # Task → metric → value; None: not evaluated.
    changes: str | None = None  # A line on what of the recipe differs from the run's beginning.


class Checkpoints(run_checkpoints.CheckpointFiles):
    """The checkpoints of one run, in one directory.

    `directory` may be remote (gs://), and is created by the first save; for `identity`,
    `config_text`, `settings` and `recipe` see `run_directory.RunDirectory`. The newest `keep_last`
    are kept (None: all), and always the best, by `record`'s values.
    """

    def __init__(
        self,
        directory: str,
        identity: Identity = identity_lib.UNKNOWN,
        *,
        config_text: str = "",
        settings: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
        keep_last: int | None = 3,
        greater_is_better: bool = True,
    ):
        if keep_last is not None and keep_last < 1:
            raise ValueError(
                f"Checkpoints.keep_last must be at least 1; got {keep_last}. Give None to keep all."
            )
        super().__init__(directory)
        self._identity, self._config_text, self._settings = identity, config_text, settings
        self._recipe = self._begun = recipe  # Of this start, and of the run's first.
        self._keep_last, self._greater_is_better = keep_last, greater_is_better
        self._checkpointer = ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(
                trainable=ocp.StandardCheckpointHandler(),
                progress=ocp.StandardCheckpointHandler(),
                run=ocp.JsonCheckpointHandler(),
            )
        )

    def save(self, state: TrainState, position: Any) -> None:
        """Saves `state`, then removes checkpoints that are no longer kept.

        An intact checkpoint of this step is left alone; another is replaced. Returns when all is
        written, since the state is donated to the next step. `position` is of the data. OSError,
        with what to do, if it cannot be written.
        """
        step, folder = int(state.step), self.folder(int(state.step))
        is_intact = False
        if jax.process_index() == 0:
            is_intact = self.why_not_usable(step) is None
            if not is_intact and folder.exists():
                folder.rmtree()
        # Orbax waits for all processes, so all must come to the same decision.
        if agree(int(is_intact)):
            logging.info("Checkpoint %s exists already.", folder)
            return
        run = {
            "step": step,
            "identity": self._identity.to_json(),
            "config": self._config_text,
            "settings": self._settings,
            "recipe": self._begun,
            "positions": gather(position),
            "rng_impl": str(jax.random.key_impl(state.rng)),
        }
        # Synchronous: trainable parameters are a few per cent of a model, so a save is short; and
        # once it returns, the machine may be taken away.
        with self._writing(folder):
            self._checkpointer.save(
                folder,
                ocp.args.Composite(
                    trainable=ocp.args.StandardSave(dict(state.trainable)),
                    progress=ocp.args.StandardSave(_progress_of(state)),
                    run=ocp.args.JsonSave(run),
                ),
            )
        if jax.process_index() == 0:
            hashes = run_checkpoints.hash_files(folder)
            files.write_text(folder / run_checkpoints.MANIFEST, json.dumps(hashes, indent=1))
            self._remove_old(step)
        _wait_for_all(f"saved {step}")

    def record(
        self, step: int, metrics: Mapping[str, Mapping[str, float]], value: float | None
    ) -> None:
        """Adds an evaluation and the `value` that ranks it to a checkpoint; removes old ones."""
        if jax.process_index() == 0:
            # With the order of values, so that the best is found without the configuration.
            order = {"greater_is_better": self._greater_is_better}
            evaluation = {"metrics": metrics, "value": value, **order}
            path = self.folder(step) / run_checkpoints.EVALUATION
            evaluation = run_checkpoints.evaluation_to_json(evaluation)
            files.write_text(path, json.dumps(evaluation, indent=1))
            self._remove_old(step)
        _wait_for_all(f"recorded {step}")

    def restore(self, state: TrainState) -> Restored | None:
        """Returns the newest intact checkpoint, or None if none was ever completed.

        `state` has shapes, types and shardings (`jax.ShapeDtypeStruct`). Raises ValueError if the
        checkpoint is of another model or of other settings, or all checkpoints are damaged.
        """
        if (step := self.newest_step()) is None:
            return None
        run, where = self.read_run(step), str(self.folder(step))
        identity_lib.check_same(identity_lib.identity_of(run), self._identity, where)
        identity_lib.check_settings(run.get("settings"), self._settings, where)
        if len(run["positions"]) != jax.process_count():
            raise ValueError(
                "A run must be resumed with as many processes as saved it, since each has its own "
                f"position in the data; got {jax.process_count()} and a checkpoint of "
                f"{len(run['positions'])}, {where}. Start as many processes."
            )
        trained = self._load("trainable", dict(state.trainable), step)
        saved = self._load("progress", _progress_of(state), step)
        rng = jax.random.wrap_key_data(saved.pop("rng"), impl=run["rng_impl"])
        if rng.dtype != state.rng.dtype:
            raise ValueError(
                f"The random keys of a run must stay of one kind; got {state.rng.dtype} and a "
                f"checkpoint with {rng.dtype}, {where}. Set jax_default_prng_impl as before."
            )
        structure = jax.tree.structure((state.opt_state, state.metrics))
        names = list(_named_leaves(state))
        opt_state, sums = jax.tree.unflatten(structure, [saved[name] for name in names])
        restored = TrainState(
            step=saved["step"], trainable=trained, opt_state=opt_state, rng=rng, metrics=sums
        )
        position = run["positions"][jax.process_index()]
        self._begun = run.get("recipe") or self._recipe
        changes = identity_lib.describe_changes(self._begun, self._recipe)
        return Restored(restored, position, self.evaluation(step)["metrics"], changes)

    def load_trainable(self, trainable: Params, step: int) -> dict:
        """Returns a step's trainable parameters; ValueError if damaged or of another model."""
        self.check_usable(step)
        return self._load("trainable", jax.tree.map(_placed, dict(trainable)), step)

    def newest_step(self) -> int | None:
        """Returns the newest intact step, logs which are skipped; ValueError if all are damaged."""
        # Process 0 decides for all: hosts may see a shared file system at different moments.
        found, damaged = self.find_newest() if jax.process_index() == 0 else (None, [])
        step = agree(-1 if found is None else found)
        if step < 0 and agree(len(damaged)):
            raise ValueError(self.all_damaged(damaged))
        return None if step < 0 else step

    def _load(self, item: str, wanted: dict, step: int) -> dict:
        where = self.folder(step)
        # Before Orbax does, whose message names neither the run nor what to do.
        saved = self._checkpointer.metadata(where).item_metadata[item]
        _check_shapes(saved.tree, wanted, item, str(where))
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(wanted)})
        restored = self._checkpointer.restore(where, args=args)[item]
        paths = trainable_lib.list_paths(restored)
        logging.info("Restored %d arrays of %s/%s: %s", len(paths), where, item, paths)
        return restored

    def _remove_old(self, newest: int) -> None:
        """Removes all but the last, the best and those newer than `newest`."""
        complete = [step for step in self.steps() if step <= newest]
        keep = set(complete if self._keep_last is None else complete[-self._keep_last :])
        keep.update(self.best_first()[:1])
        for step in self.folders():
            if step < newest and step not in keep:
                # Without its manifest it no longer counts, should the removal be interrupted.
                (self.folder(step) / run_checkpoints.MANIFEST).unlink(missing_ok=True)
                self.folder(step).rmtree()
        self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        """Removes folders of saves that were killed, or failed."""
        for folder in self.directory.iterdir():
            if UNFINISHED in folder.name:
                folder.rmtree()

    @contextlib.contextmanager
    def _writing(self, folder: epath.Path) -> Iterator[None]:
        """Says why a save failed, and removes its part, which would fill a full disk."""
        try:
            with files.writing(folder), _without_tracebacks():
                yield
        except files.NotWrittenError:
            if jax.process_index() == 0:
                with contextlib.suppress(OSError):
                    self._remove_unfinished()
            raise


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Drops what Orbax prints of a save that fails, which would bury the one message that counts.

    Its threads log the error each, and callbacks that come too late find their loop closed.
    """
    logger, hook = logging.get_absl_logger(), sys.excepthook

    def is_kept(record: std_logging.LogRecord) -> bool:
        return "_SignalingThread.run() raised" not in record.getMessage()

    def print_others(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if "Event loop is closed" not in str(error):
            hook(kind, error, trace)

    logger.addFilter(is_kept)
    try:
        yield
    except Exception:
        sys.excepthook = print_others  # For good: they come when they like.
        raise
    finally:
        logger.removeFilter(is_kept)


def _named_leaves(state: TrainState) -> dict[str, Any]:
    """Optimiser state and sums by key path, such as "[0][1].mu['adapters']", the name on disk."""
    leaves = jax.tree_util.tree_leaves_with_path((state.opt_state, state.metrics))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _progress_of(state: TrainState) -> dict[str, Any]:
    """All of a state but its parameters, as a flat dict, so that optax's classes are not saved."""
    # Orbax does not store typed random keys, so their data are stored; shapes take the same way.
    if isinstance(state.rng, jax.Array):
        rng = jax.random.key_data(state.rng)
    else:
        shape = jax.eval_shape(jax.random.key_data, state.rng)
        rng = jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=state.rng.sharding)
    return {"step": state.step, "rng": rng, **_named_leaves(state)}


def _placed(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    # Without a sharding, Orbax looks for the devices that saved the array.
    sharding = shape.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _check_shapes(saved: PyTree, wanted: PyTree, item: str, where: str) -> None:
    there, here = (
        {path: (tuple(x.shape), str(x.dtype)) for path, x in identity_lib.flatten(tree).items()}
        for tree in (saved, wanted)
    )
    differences = [f"{path} is there and not here" for path in sorted(there.keys() - here)]
    differences += [f"{path} is here and not there" for path in sorted(here.keys() - there)]
    differences += [
        f"{path} is {there[path]} there and {here[path]} here"
        for path in sorted(there.keys() & here)
        if there[path] != here[path]
    ]
    if differences:
        shown = "; ".join(differences[:8])
        more = f"; and {len(differences) - 8} more" if len(differences) > 8 else ""
        raise ValueError(
            f"A checkpoint must hold the {item} arrays of this run; got a checkpoint of another "
            f"model, optimiser or set of trainable parameters, {where}: {shown}{more}. Give "
            "another --model_dir, or the configuration that the checkpoint was trained with."
        )


def _wait_for_all(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(value: int) -> int:
    """Process 0's value, in every process; all processes must call it."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def gather(value: Any) -> list[Any]:
    """A JSON value of each process, in every process; all processes must call it."""
    if jax.process_count() == 1:
        return [value]
    text = json.dumps(value).encode()
    # Processes exchange arrays of one shape, so texts are padded; JSON ignores spaces at the end.
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    padded = np.frombuffer(text.ljust(int(lengths.max())), np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(row)) for row in rows]
