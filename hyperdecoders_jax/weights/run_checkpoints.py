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
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from absl import logging
from etils import epath

from hyperdecoders_jax import files

MANIFEST = "manifest.json"
EVALUATION = "evaluation.json"
TRAINABLE = "trainable"
CHECKPOINTS_DIR = "checkpoints"
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
        if not path.exists():
            return nothing
        try:
            return nothing | json.loads(path.read_text())
        except (ValueError, TypeError):
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
        """Size and SHA-256 of each file of a completed checkpoint; None for others."""
        path = self.folder(step) / MANIFEST
        try:
            manifest = json.loads(path.read_text()) if path.exists() else None
        except ValueError:
            return None
        return manifest if isinstance(manifest, dict) else None

    def why_not_usable(self, step: int) -> str | None:
        """Why a checkpoint is not intact; None if it is."""
        folder, manifest = self.folder(step), self.manifest(step)
        # Sizes first: they tell most damage without reading the files.
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
        actual = hash_files(folder)
        if changed := [name for name in manifest if actual[name] != manifest[name]]:
            return f"{changed[0]} has other contents than were saved"
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
    paths = [str(file.relative_to(folder)) for file in found]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(paths, pool.map(measure, found), strict=True))
