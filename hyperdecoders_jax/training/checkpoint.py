"""Checkpoints: a train state and a position in the data in, a folder of Orbax files out, and back.

A checkpoint holds what a run trains and nothing else: trainable parameters, optimiser state, step,
random state, the sums of the log line in progress, and as JSON the data's position of each process,
the configuration, and the run's `Identity`, which names the frozen part by its source and a
fingerprint.

    <directory>/<step>/trainable/     nested dict of parameters, readable with plain Orbax
                      /progress/      optimiser state, step, random state, sums
                      /run/           JSON
                      /manifest.json  size and SHA-256 of every file above, written last
                      /evaluation.json  metrics of this step; comes when it is evaluated

The manifest makes a checkpoint: a folder without a readable one was interrupted while it was saved,
and one whose files differ from it is damaged. Both are skipped with a message, and the checkpoint
before is used; older ones are removed only after a new manifest stands, and one that is whole is
never replaced. Saving is synchronous: trainable parameters are a few per cent of a model, so a save
is short, and when it returns the run can be killed. It comes before the evaluation of its step,
which may take long.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from hyperdecoders_jax import files
from hyperdecoders_jax.modeling import config as modeling_config
from hyperdecoders_jax.modeling.config import HyperGridConfig, TransformerConfig
from hyperdecoders_jax.training import trainable as trainable_lib
from hyperdecoders_jax.training.train_state import TrainState
from hyperdecoders_jax.types import Params, PyTree

MANIFEST = "manifest.json"
EVALUATION = "evaluation.json"
# What Orbax calls a folder until it is complete.
UNFINISHED = ".orbax-checkpoint-tmp"
# Fields of a model's configuration that may change between two starts of one run.
FREE_FIELDS = ("dropout_rate", "dtype")
_GRIDS = ("encoder_hypergrid", "decoder_hypergrid")
CHUNK_BYTES = 1 << 24


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to. None means not known, and is not compared.

    Attributes:
        task_names: in the order of `task_ids`.
        model: sizes and adapters; see `describe_model`.
        frozen_source: where the frozen parameters came from; for messages, not compared.
        frozen_fingerprint: `fingerprint` of the frozen parameters, before any cast to bfloat16.
        vocabulary_fingerprint: of the vocabulary.
    """

    task_names: tuple[str, ...] | None = None
    model: Mapping[str, Any] | None = None
    frozen_source: str | None = None
    frozen_fingerprint: str | None = None
    vocabulary_fingerprint: str | None = None

    def to_json(self) -> dict[str, Any]:
        return _to_json(dataclasses.asdict(self))


UNKNOWN = Identity()


@dataclasses.dataclass(frozen=True)
class Restored:
    """What `Checkpoints.restore` gives.

    Attributes:
        state: as it was saved.
        position: of this process in the data.
        metrics: task → metric → value at the state's step; None if it was not evaluated.
    """

    state: TrainState
    position: Any
    metrics: dict[str, dict[str, float]] | None


def describe_model(config: Any) -> dict[str, Any]:
    """Returns what of a model's configuration is not at its default, as JSON.

    So a field that a later version adds, at its default, makes no older checkpoint another model's.
    What may change within a run is left out too.
    """
    fields = modeling_config.to_dict(config)
    for name in ("encoder_adapter", "decoder_adapter", *_GRIDS):
        if fields[name] is not None:
            del fields[name]["unseen_tasks"]  # It concerns evaluation alone.
    del fields["num_trained_tasks"]  # The list of their names is compared.
    if not config.reads_tasks:
        del fields["num_tasks"]
    return _not_default({name: x for name, x in fields.items() if name not in FREE_FIELDS})


def _not_default(model: Mapping[str, Any]) -> dict[str, Any]:
    defaults = _defaults(TransformerConfig, modeling_config.to_dict)
    for name in _GRIDS:
        if model.get(name) is not None:  # None is the default; a grid has others of its own.
            defaults[name] = _defaults(HyperGridConfig, dataclasses.asdict)
    return _differing(_to_json(model), _to_json(defaults))


def _defaults(config_class: type, to_dict: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    # Sizes have no defaults; those of the smallest model are never compared.
    fields = dataclasses.fields(config_class)
    sizes = {field.name: 1 for field in fields if field.default is dataclasses.MISSING}
    smallest = to_dict(config_class(**sizes))
    return {name: value for name, value in smallest.items() if name not in sizes}


def _differing(tree: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    differing = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and isinstance(defaults.get(name), Mapping):
            value = _differing(value, defaults[name])
            if value:
                differing[name] = value
        elif name not in defaults or value != defaults[name]:
            differing[name] = value
    return differing


def _to_json(tree: Any) -> Any:
    """Through JSON and back, so that tuples compare equal to what a file gives."""
    return json.loads(json.dumps(tree))


def fingerprint(tree: Params) -> str:
    """Returns a hash of the paths, shapes, types and bytes of a nested dict of arrays.

    Neither the order of keys nor where the arrays lie matters.

    >>> x, y = np.zeros(3), np.ones(2)
    >>> fingerprint({"x": x, "y": y}) == fingerprint({"y": y, "x": x})
    True
    >>> fingerprint({"x": x, "y": y}) == fingerprint({"x": y, "y": x})
    False

    Cost: one pass over the bytes, about 1 GB/s and core; arrays are hashed in parallel.
    """
    leaves = sorted(
        ("/".join(str(key.key) for key in path), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(dict(tree))
    )

    def digest(leaf) -> bytes:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        array = np.ascontiguousarray(leaf)
        head = f"{array.shape} {array.dtype}".encode()
        return hashlib.sha256(head + b"\0" + array.reshape(-1).view(np.uint8).data).digest()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        digests = list(pool.map(digest, [leaf for _, leaf in leaves]))
    whole = hashlib.sha256()
    for (path, _), leaf_digest in zip(leaves, digests, strict=True):
        whole.update(path.encode() + b"\0" + leaf_digest)
    return whole.hexdigest()[:32]


def check_writable(
    directory: str, name: str = "model directory", flag: str = "--model_dir"
) -> None:
    """Checks that files can be made in `directory`, which need not exist yet; leaves no trace.

    Only the first of several processes looks, so that they do not remove each other's traces.

    Args:
        directory: where.
        name: what it is.
        flag: that names it.

    Raises:
        ValueError: they cannot.
    """
    if jax.process_index() != 0:
        return
    path = epath.Path(directory)
    is_local = "://" not in str(directory)
    missing = [p for p in (path, *path.parents) if is_local and not p.exists()]  # deepest first
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".write_probe"
        probe.write_text("")
        probe.unlink()
    # Remote file systems raise errors of their own.
    except Exception as error:
        raise ValueError(
            f"the {name} must be writable; got {str(directory)!r}, where writing gave "
            f"{type(error).__name__}: {error}. Choose another {flag}, or change its rights."
        ) from error
    finally:
        for parent in missing:
            if parent.exists():
                parent.rmdir()


def check_same(saved: Identity, here: Identity, where: str) -> None:
    """Checks that a checkpoint belongs to this run.

    Args:
        saved: the checkpoint's.
        here: this run's.
        where: the checkpoint, for the message.

    Raises:
        ValueError: it is a checkpoint of another model, task list or vocabulary; says which.
    """
    saved_fields, fields = _comparable(saved), _comparable(here)
    unknown = {name.split(".")[0] for side in (saved, here) for name in _unknown(side)}
    differences = [
        f"{name} is {_shown(saved_fields, name)} there and {_shown(fields, name)} here"
        for name in sorted({*saved_fields, *fields})
        if name.split(".")[0] not in unknown
        and name != "frozen_source"
        and saved_fields.get(name) != fields.get(name)
    ]
    if any(line.startswith("frozen_fingerprint") for line in differences):
        differences.append(
            f"the frozen part came from {saved.frozen_source!r} there and from "
            f"{here.frozen_source!r} here"
        )
    if differences:
        raise ValueError(
            "a checkpoint must be of this model, tasks, vocabulary and frozen part; got a "
            f"checkpoint of another model, {where}: {'; '.join(differences)}. Give another "
            "--model_dir, or the configuration that the checkpoint was trained with."
        )


def _comparable(identity: Identity) -> dict[str, Any]:
    fields = identity.to_json()
    if fields["model"] is not None:
        fields["model"] = _not_default(fields["model"])
    return _flatten(fields)


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return repr(fields[name]) if name in fields else "the default"


def _unknown(identity: Identity) -> list[str]:
    return [name for name, value in vars(identity).items() if value is None]


def _flatten(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping):
        return {path: tree}
    flat = {}
    for name, child in tree.items():
        flat |= _flatten(child, f"{path}.{name}" if path else name)
    return flat


class Checkpoints:
    """The checkpoints of one run, in one directory.

    Args:
        directory: local or remote (gs://); made at the first save.
        identity: of this run; saved, and compared on restore.
        config_text: the run's configuration as text; saved, not compared.
        settings: of this run, JSON, that must not change; saved, and compared on restore.
        keep_last: how many of the newest to keep; None keeps all.
        greater_is_better: which of the values given to `record` is the best, kept in any case.
    """

    def __init__(
        self,
        directory: str,
        identity: Identity = UNKNOWN,
        *,
        config_text: str = "",
        settings: Mapping[str, Any] | None = None,
        keep_last: int | None = 3,
        greater_is_better: bool = True,
    ):
        if keep_last is not None and keep_last < 1:
            raise ValueError(
                f"keep_last must be at least 1; got {keep_last}. Give None to keep all checkpoints."
            )
        # Orbax takes absolute paths only; gs:// is one, which `absolute` would spoil.
        directory = epath.Path(directory)
        self.directory = directory if "://" in str(directory) else directory.absolute()
        self._identity = identity
        self._config_text = config_text
        self._settings = settings
        self._keep_last = keep_last
        self._greater_is_better = greater_is_better
        # step → the manifest that its files were found to agree with
        self._verified: dict[int, dict] = {}
        self._checkpointer = ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(
                trainable=ocp.StandardCheckpointHandler(),
                progress=ocp.StandardCheckpointHandler(),
                run=ocp.JsonCheckpointHandler(),
            )
        )

    def save(self, state: TrainState, position: Any) -> None:
        """Saves `state`, then removes what need not be kept.

        A whole checkpoint of this step stays as it is; a damaged or interrupted one is replaced.

        Args:
            state: after its last step.
            position: of this process's data iterator, as JSON.
        """
        step = int(state.step)
        is_whole = False
        if jax.process_index() == 0:
            is_whole = self._why_not_usable(step) is None
            if not is_whole and (self.directory / str(step)).exists():
                (self.directory / str(step)).rmtree()
        if agree(int(is_whole)):
            logging.info("Checkpoint %s stands already.", self.directory / str(step))
            return
        run = {
            "step": step,
            "identity": self._identity.to_json(),
            "config": self._config_text,
            "settings": self._settings,
            "positions": _gather(position),
            "rng_impl": str(jax.random.key_impl(state.rng)),
        }
        self._checkpointer.save(
            self.directory / str(step),
            ocp.args.Composite(
                trainable=ocp.args.StandardSave(dict(state.trainable)),
                progress=ocp.args.StandardSave(_progress_of(state)),
                run=ocp.args.JsonSave(run),
            ),
        )
        if jax.process_index() == 0:
            manifest = json.dumps(_hash_files(self.directory / str(step)), indent=1)
            files.write_text(self._manifest_path(step), manifest)
            self._remove_old(step)
        _wait_for_all(f"saved {step}")

    def record(
        self, step: int, metrics: Mapping[str, Mapping[str, float]], value: float | None
    ) -> None:
        """Notes the evaluation of a checkpoint that stands, then removes what need not be kept.

        Args:
            step: of the checkpoint.
            metrics: task → metric → value.
            value: by which the best checkpoint is chosen; None if it has none.
        """
        if jax.process_index() == 0:
            evaluation = {
                "metrics": metrics,
                "value": value,
                # For whoever reads them later without the run's configuration.
                "greater_is_better": self._greater_is_better,
            }
            path = self.directory / str(step) / EVALUATION
            files.write_text(path, json.dumps(evaluation, indent=1))
            self._remove_old(step)
        _wait_for_all(f"recorded {step}")

    def restore(self, state: TrainState) -> Restored | None:
        """Returns the newest checkpoint that is whole, or None if none was ever completed.

        Args:
            state: shapes, types and shardings (`jax.ShapeDtypeStruct`) of the state wanted.

        Raises:
            ValueError: the checkpoint is of another model or of other settings, or all checkpoints
                are damaged.
        """
        step = self.newest_step()
        if step is None:
            return None
        run = self.read_run(step)
        where = str(self.directory / str(step))
        check_same(identity_of(run), self._identity, where)
        check_settings(run.get("settings"), self._settings, where)
        if len(run["positions"]) != jax.process_count():
            raise ValueError(
                "a run must be resumed with as many processes as saved it, each has its own "
                f"position in the data; got {jax.process_count()} and a checkpoint of "
                f"{len(run['positions'])}, {where}. Start as many processes."
            )
        trained = self._load("trainable", dict(state.trainable), step)
        wanted = _progress_of(state)
        saved = self._load("progress", wanted, step)
        rng = jax.random.wrap_key_data(saved.pop("rng"), impl=run["rng_impl"])
        if rng.dtype != state.rng.dtype:
            raise ValueError(
                f"the random keys of a run must stay of one kind; got {state.rng.dtype} and a "
                f"checkpoint with {rng.dtype}, {where}. Set jax_default_prng_impl as before."
            )
        structure = jax.tree.structure((state.opt_state, state.metrics))
        names = list(_named_leaves(state))
        opt_state, sums = jax.tree.unflatten(structure, [saved[name] for name in names])
        restored = TrainState(
            step=saved["step"], trainable=trained, opt_state=opt_state, rng=rng, metrics=sums
        )
        position = run["positions"][jax.process_index()]
        return Restored(restored, position, self._evaluation(step)["metrics"])

    def load_trainable(self, trainable: Params, step: int) -> dict:
        """Returns the trainable parameters of a checkpoint.

        Args:
            trainable: shapes, types and shardings; those without go to the first local device.
            step: of the checkpoint.

        Raises:
            ValueError: it is missing or damaged, or its parameters are others; says which.
        """
        reason = self._why_not_usable(step)
        if reason is not None:
            raise ValueError(
                f"a checkpoint must be whole to be loaded; got {self.directory / str(step)}: "
                f"{reason}. Whole or not, there are those of steps {self.steps()}."
            )
        return self._load("trainable", jax.tree.map(_placed, dict(trainable)), step)

    def read_run(self, step: int) -> dict[str, Any]:
        """Returns the JSON of a checkpoint: step, identity, config, positions."""
        return json.loads((self.directory / str(step) / "run" / "metadata").read_text())

    def steps(self) -> list[int]:
        """Lists the steps of all completed checkpoints, damaged ones included, oldest first."""
        return [step for step in self._folders() if self._manifest(step) is not None]

    def newest_step(self) -> int | None:
        """Returns the step of the newest checkpoint that is whole; says which it skips, and why.

        Raises:
            ValueError: there are completed checkpoints, and all are damaged.
        """
        found, damaged = None, []
        for step in reversed(self._folders()) if jax.process_index() == 0 else ():
            reason = self._why_not_usable(step)
            if reason is None:
                found = step
                break
            logging.warning("Skipping checkpoint %s: %s", self.directory / str(step), reason)
            if self._manifest(step) is not None:
                damaged.append(f"{step} ({reason})")
        found = agree(-1 if found is None else found)
        if found >= 0:
            return found
        if agree(len(damaged)):
            raise ValueError(
                f"one checkpoint at least must be whole; got damaged ones in {self.directory}: "
                f"{'; '.join(damaged) or 'see process 0'}. Restore them from a copy, or remove "
                "the directory to start anew."
            )
        return None

    def best_step(self) -> int | None:
        """Returns the step of the whole checkpoint with the best value; None if none has one."""
        usable = (step for step in self._best_first() if self._why_not_usable(step) is None)
        return next(usable, None)

    def best_value(self) -> float | None:
        """Returns the value of the best checkpoint, or None if none has a value."""
        step = self.best_step()
        return None if step is None else self._evaluation(step)["value"]

    def _best_first(self) -> list[int]:
        values = {}
        for step in self.steps():
            evaluation = self._evaluation(step)
            if evaluation["value"] is not None:
                sign = 1 if evaluation["greater_is_better"] else -1
                values[step] = sign * evaluation["value"]
        return sorted(values, key=lambda step: (-values[step], step))

    def _evaluation(self, step: int) -> dict[str, Any]:
        """Metrics and value of a checkpoint; None for both where it was not evaluated."""
        path = self.directory / str(step) / EVALUATION
        nothing = {"metrics": None, "value": None, "greater_is_better": True}
        if not path.exists():
            return nothing
        try:
            return nothing | json.loads(path.read_text())
        except (ValueError, TypeError):
            logging.warning("Skipping %s, which is damaged.", path)
            return nothing

    def _folders(self) -> list[int]:
        if not self.directory.exists():
            return []
        return sorted(int(p.name) for p in self.directory.iterdir() if p.name.isdecimal())

    def _manifest_path(self, step: int) -> epath.Path:
        return self.directory / str(step) / MANIFEST

    def _load(self, item: str, wanted: dict, step: int) -> dict:
        where = self.directory / str(step)
        saved = self._checkpointer.metadata(where).item_metadata[item]
        _check_shapes(saved.tree, wanted, item, str(where))
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(wanted)})
        restored = self._checkpointer.restore(where, args=args)[item]
        paths = trainable_lib.list_paths(restored)
        logging.info("Restored %d arrays of %s/%s: %s", len(paths), where, item, paths)
        return restored

    def _manifest(self, step: int) -> dict[str, list] | None:
        """Size and SHA-256 of each file of a completed checkpoint; None for others."""
        path = self._manifest_path(step)
        try:
            manifest = json.loads(path.read_text()) if path.exists() else None
        except ValueError:
            return None
        return manifest if isinstance(manifest, dict) else None

    def _why_not_usable(self, step: int) -> str | None:
        folder = self.directory / str(step)
        manifest = self._manifest(step)
        if manifest is None:
            return f"it has no readable {MANIFEST}, so it was interrupted while it was saved"
        for name, (size, _) in manifest.items():
            file = folder / name
            if not file.exists():
                return f"{name} is missing"
            if file.stat().length != size:
                return f"{name} has {file.stat().length} bytes instead of {size}"
        if self._verified.get(step) == manifest:
            return None
        actual = _hash_files(folder)
        changed = [name for name in manifest if actual[name] != manifest[name]]
        if changed:
            return f"{changed[0]} has other contents than were saved"
        self._verified[step] = manifest
        return None

    def _remove_old(self, newest: int) -> None:
        """Removes all but the last, the best and what is newer than `newest`."""
        complete = [step for step in self.steps() if step <= newest]
        keep = set(complete if self._keep_last is None else complete[-self._keep_last :])
        keep.update(self._best_first()[:1])
        for step in self._folders():
            if step < newest and step not in keep:
                # Without its manifest it no longer counts, should the removal be interrupted.
                self._manifest_path(step).unlink(missing_ok=True)
                (self.directory / str(step)).rmtree()
        for folder in self.directory.iterdir():
            if UNFINISHED in folder.name:  # a save that was killed
                folder.rmtree()


def identity_of(run: Mapping[str, Any]) -> Identity:
    """Returns the identity in the JSON of a checkpoint, without what this version does not know."""
    names = {field.name for field in dataclasses.fields(Identity)}
    known = {name: value for name, value in run["identity"].items() if name in names}
    if unknown := sorted(run["identity"].keys() - known):
        logging.warning("Ignoring what a checkpoint says of its %s.", ", ".join(unknown))
    return Identity(**known)


def check_settings(
    saved: Mapping[str, Any] | None, here: Mapping[str, Any] | None, where: str
) -> None:
    """Checks that a run continues with the settings that define its data's order and its noise.

    A setting that one side does not know is not compared.

    Args:
        saved: the checkpoint's.
        here: this run's.
        where: the checkpoint, for the message.

    Raises:
        ValueError: one differs; says which.
    """
    saved, here = _flatten(_to_json(saved or {})), _flatten(_to_json(here or {}))
    differences = [
        f"{name} is {saved[name]!r} there and {here[name]!r} here"
        for name in sorted(saved.keys() & here)
        if saved[name] != here[name]
    ]
    if differences:
        raise ValueError(
            "a run must be continued with the settings that it was started with, its place in the "
            f"data means nothing under others; got a checkpoint of other settings, {where}: "
            f"{'; '.join(differences)}. Set them as they were, or give another --model_dir."
        )


def _named_leaves(state: TrainState) -> dict[str, Any]:
    """The leaves of optimiser state and sums, by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path((state.opt_state, state.metrics))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _progress_of(state: TrainState) -> dict[str, Any]:
    """All of a state but its parameters, as a flat dict; the optimiser's classes are not saved."""
    if isinstance(state.rng, jax.Array):
        rng = jax.random.key_data(state.rng)
    else:
        shape = jax.eval_shape(jax.random.key_data, state.rng)
        rng = jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=state.rng.sharding)
    return {"step": state.step, "rng": rng, **_named_leaves(state)}


def _placed(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """`shape` with a sharding: without one, Orbax looks for the devices that saved the array."""
    sharding = shape.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _check_shapes(saved: PyTree, wanted: PyTree, item: str, where: str) -> None:
    there = {path: (tuple(x.shape), str(x.dtype)) for path, x in _flatten(saved).items()}
    here = {path: (tuple(x.shape), str(x.dtype)) for path, x in _flatten(wanted).items()}
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
            f"a checkpoint must hold the {item} arrays of this run; got a checkpoint of another "
            f"model, optimiser or set of trainable parameters, {where}: {shown}{more}. Give "
            "another --model_dir, or the configuration that the checkpoint was trained with."
        )


def _hash_files(folder: epath.Path) -> dict[str, list]:
    """Size and SHA-256 of every file of a save, by its path."""
    others = {folder / MANIFEST, folder / EVALUATION}

    def walk(path):
        for child in path.iterdir():
            if child.is_dir():
                yield from walk(child)
            elif child not in others and not child.name.endswith(files.UNFINISHED):
                yield child

    def measure(file):
        digest, size = hashlib.sha256(), 0
        with file.open("rb") as f:
            while chunk := f.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        return [size, digest.hexdigest()]

    found = sorted(walk(folder))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        measures = pool.map(measure, found)
        return {
            str(file.relative_to(folder)): measure
            for file, measure in zip(found, measures, strict=True)
        }


def _wait_for_all(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agree(value: int) -> int:
    """Process 0's value, in every process; all must ask."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def _gather(position: Any) -> list[Any]:
    """The positions of all processes, in every process."""
    if jax.process_count() == 1:
        return [position]
    text = json.dumps(position).encode()
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    padded = np.frombuffer(text.ljust(int(lengths.max())), np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(row)) for row in rows]
