"""Checkpoints of a run as files: which there are, which are intact, which is the best.

    <directory>/<step>/trainable/     parameters, an item of Orbax
                      /progress/      optimiser state, step, random state, sums
                      /run/           JSON: identity, settings, configuration, positions
                      /manifest.json  size and SHA-256 of every file above, written last
                      /evaluation.json  metrics of this step; written when it is evaluated

A folder without a readable manifest was interrupted while it was saved; one whose files differ from
it is damaged. Reading needs neither Orbax nor a device; `training.checkpoints` writes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import logging
from etils import epath

from hyperdecoders_jax import files

MANIFEST = "manifest.json"
EVALUATION = "evaluation.json"
TRAINABLE = "trainable"
CHECKPOINTS_DIR = "checkpoints"
# What a save consists of.
ITEMS = (TRAINABLE, "progress", "run")
CHUNK_BYTES = 1 << 24


class CheckpointFiles:
    """The checkpoints in one directory, local or remote (gs://), which need not exist."""

    def __init__(self, directory: str | epath.Path):
        # Orbax takes absolute paths only; gs:// is one, which `absolute` would spoil.
        directory = epath.Path(directory)
        self.directory = directory if "://" in str(directory) else directory.absolute()
        # step → the manifest that its files were found to agree with: nothing is hashed twice.
        self._verified: dict[int, dict] = {}

    def steps(self) -> list[int]:
        """Steps of all completed checkpoints, damaged ones included, oldest first."""
        return [step for step in self.folders() if self.manifest(step) is not None]

    def newest_step(self) -> int | None:
        """Step of the newest intact checkpoint; logs skipped ones. ValueError if none is intact."""
        found, damaged = self.find_newest()
        if found is None and damaged:
            raise ValueError(self.all_damaged(damaged))
        return found

    def find_newest(self) -> tuple[int | None, list[str]]:
        """Step of the newest intact checkpoint, and which completed ones are damaged, and why."""
        damaged = []
        for step in reversed(self.folders()):
            reason = self.why_not_usable(step)
            if reason is None:
                return step, damaged
            logging.warning("Skipping checkpoint %s: %s", self.folder(step), reason)
            if self.manifest(step) is not None:
                damaged.append(f"{step} ({reason})")
        return None, damaged

    def all_damaged(self, damaged: Sequence[str]) -> str:
        """The error message where no checkpoint is intact."""
        return (
            f"At least one checkpoint must be intact; got damaged ones in {self.directory}: "
            f"{'; '.join(damaged) or 'see process 0'}. Restore or remove the directory."
        )

    def best_step(self) -> int | None:
        """Step of the intact checkpoint with the best value; None if none has one."""
        # Lazily, because the check of a large checkpoint reads all its files.
        usable = (step for step in self.best_first() if self.why_not_usable(step) is None)
        return next(usable, None)

    def best_value(self) -> float | None:
        """Value of the best checkpoint; None if none has one."""
        step = self.best_step()
        return None if step is None else self.evaluation(step)["value"]

    def best_first(self) -> list[int]:
        """Steps that have a value, the best first."""
        values = {}
        for step in self.steps():
            evaluation = self.evaluation(step)
            if evaluation["value"] is not None:
                sign = 1 if evaluation["greater_is_better"] else -1
                values[step] = sign * evaluation["value"]
        # Of equal values the earliest step, which later ones did not improve.
        return sorted(values, key=lambda step: (-values[step], step))

    def evaluation(self, step: int) -> dict[str, Any]:
        """Metrics and value of a checkpoint; None for both where it was not evaluated."""
        path = self.folder(step) / EVALUATION
        nothing = {"metrics": None, "value": None, "greater_is_better": True}
        if not files.is_regular(path):
            return nothing
        with contextlib.suppress(KeyError, ValueError, TypeError, AttributeError, RecursionError):
            return nothing | evaluation_from_json(json.loads(path.read_bytes()))
        logging.warning("Skipping %s, which is damaged.", path)
        return nothing

    def read_run(self, step: int) -> dict[str, Any]:
        """The JSON of a checkpoint: step, identity, config, positions."""
        return json.loads((self.folder(step) / "run" / "metadata").read_text())

    def folders(self) -> list[int]:
        """Steps of all folders, interrupted ones included."""
        if not self.directory.exists():
            return []
        return sorted(int(p.name) for p in self.directory.iterdir() if p.name.isdecimal())

    def folder(self, step: int) -> epath.Path:
        """The folder of a checkpoint."""
        return self.directory / str(step)

    def manifest(self, step: int) -> dict[str, list] | None:
        """Size and SHA-256 of each file of a completed checkpoint; None for others.

        Empty where its file has other contents than a save leaves, be that cut off.
        """
        path = self.folder(step) / MANIFEST
        content = path.read_bytes().rstrip() if files.is_regular(path) else b""
        if not content.endswith((b"}", b"]")):  # Cut off, as a machine that dies leaves it.
            return None
        try:
            manifest = json.loads(content)
        except (ValueError, RecursionError):
            return {}
        is_manifest = isinstance(manifest, dict) and all(map(_is_measure, manifest.values()))
        return manifest if is_manifest else {}

    def why_not_usable(self, step: int) -> str | None:
        """Why a checkpoint is not intact; None if it is."""
        folder, manifest = self.folder(step), self.manifest(step)
        # Sizes first: they tell most damage without reading the files.
        if manifest is None:
            return f"it has no readable {MANIFEST}, so it was interrupted while it was saved"
        if missing := [item for item in ITEMS if not _files_of(item, manifest)]:
            return f"{MANIFEST} has other contents than were saved: it lists no {missing[0]}/"
        for name, (size, _) in manifest.items():
            file = folder / name
            if not file.exists():
                return f"{name} is missing"
            if file.stat().length != size:
                return f"{name} has {file.stat().length} bytes instead of {size}"
        if self._verified.get(step) == manifest:
            return None
        actual = hash_files(folder)
        if changed := [name for name in manifest if actual.get(name) != manifest[name]]:
            return f"{changed[0]} has other contents than were saved"
        read = (name for item in ITEMS for name in _files_of(item, actual))
        if unlisted := [name for name in read if name not in manifest]:
            return f"{MANIFEST} has other contents than were saved: it lists no {unlisted[0]}"
        self._verified[step] = manifest
        return None

    def check_usable(self, step: int) -> None:
        """Raises ValueError if a checkpoint is missing or damaged."""
        if (reason := self.why_not_usable(step)) is not None:
            raise ValueError(
                f"A checkpoint must be whole to be loaded; got {self.folder(step)}: {reason}. "
                f"There are checkpoints of steps {self.steps()}, intact or not."
            )


def of_run(model_dir: str | epath.Path) -> CheckpointFiles:
    """The checkpoints in a run's model directory."""
    return CheckpointFiles(epath.Path(model_dir) / CHECKPOINTS_DIR)


def hash_files(folder: epath.Path) -> dict[str, list]:
    """Size and SHA-256 of every file of a save, by its path."""
    others = {folder / MANIFEST, folder / EVALUATION}

    def walk(path):
        for child in path.iterdir():
            if child.is_dir():
                yield from walk(child)
            elif child in others or child.name.endswith(files.UNFINISHED):
                continue
            # A pipe or a device has no end of bytes; etils takes them for files.
            elif "://" in os.fspath(child) or os.path.isfile(child):
                yield child

    def measure(file):
        digest, size = hashlib.sha256(), 0
        with file.open("rb") as f:
            while chunk := f.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        return [size, digest.hexdigest()]

    found = sorted(walk(folder))
    paths = [str(file.relative_to(folder)) for file in found]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(paths, pool.map(measure, found), strict=True))


def _is_measure(entry: Any) -> bool:
    """Whether a manifest may say this of a file."""
    is_pair = isinstance(entry, list) and len(entry) == 2
    return is_pair and isinstance(entry[0], int) and isinstance(entry[1], str)


def _files_of(item: str, names: Iterable[str]) -> list[str]:
    """Files of an item of a checkpoint, without hidden ones, which systems put anywhere."""
    of_item = (name for name in names if name.startswith(f"{item}/"))
    return [name for name in of_item if "/." not in name]


def evaluation_to_json(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation whose numbers that are not finite are null, since JSON has none."""
    rows = evaluation["metrics"].items()
    metrics = {
        task: {name: x if math.isfinite(x) else None for name, x in row.items()}
        for task, row in rows
    }
    return {**evaluation, "metrics": metrics}


def evaluation_from_json(fields: Any) -> dict[str, Any]:
    """The inverse of `evaluation_to_json`; one of several errors if it is none."""
    metrics, value = fields["metrics"], fields["value"]
    is_ranked = value is None or (isinstance(value, int | float) and math.isfinite(value))
    if not is_ranked or not isinstance(fields.get("greater_is_better", True), bool):
        raise ValueError(f"The value of an evaluation must be a finite number; got {value!r}.")
    metrics = {
        task: {name: math.nan if x is None else float(x) for name, x in row.items()}
        for task, row in metrics.items()
    }
    return {**fields, "metrics": metrics}
