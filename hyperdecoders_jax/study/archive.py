"""The scores and curves of finished runs in one small file, from which any machine makes tables.

    OUTPUT/runs.json.xz     {"METHOD/seed-3": {"scores": …, "curves": [lines of metrics.jsonl]}, …}

Below 1 KB a run, whose folder has megabytes. `runs-NAME.json.xz`, of another folder, is read, too,
and the archives of earlier versions, whose names end in .gz.
"""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from etils import epath

from hyperdecoders_jax import files
from hyperdecoders_jax.study import curves, runs
from hyperdecoders_jax.training.run_directory import RunDirectory
from hyperdecoders_jax.weights import run_checkpoints

FILE = "runs.json.xz"
_DECOMPRESS = {"runs*.json.gz": gzip.decompress, "runs*.json.xz": lzma.decompress}
# Folders of runs, and of the points of grids.
_RUNS = ("*/seed-*", "grid/*/*")


def write(folder: str) -> None:
    """Puts all finished runs of a folder into its archive, beside those that it has already."""
    kept = _read(folder)
    for pattern in _RUNS:
        for scores in epath.Path(folder).glob(f"{pattern}/{runs.SCORES_FILE}"):
            run = str(scores.parent)
            kept[run.removeprefix(f"{folder}/")] = {
                "scores": runs.read(run),
                "curves": curves.thinned(curves.read(run)),
            }
    text = json.dumps(dict(sorted(kept.items())), separators=(",", ":"), allow_nan=False)
    # Runs resemble each other beyond the 32 KB that gzip looks back.
    packed = lzma.compress(text.encode(), preset=6 | lzma.PRESET_EXTREME)
    files.write_bytes(epath.Path(folder) / FILE, packed)


def restore(
    folder: str,
    names: Iterable[str],
    check: Callable[[str, Mapping[str, Any]], None] = lambda name, scores: None,
) -> int:
    """Makes folders, without checkpoints, of those of the runs `names` that only archives have.

    A run that is begun here stays as it is. `check` is given each name with its scores, before
    anything is written. Returns how many there are.
    """
    kept = _read(folder)
    missing = [x for x in names if x in kept and not _is_begun(f"{folder}/{x}")]
    for name in missing:
        check(name, kept[name]["scores"])
    for name in missing:
        path = f"{folder}/{name}"
        epath.Path(path).mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(line) + "\n" for line in kept[name]["curves"])
        files.write_text(RunDirectory(path).metrics_path, lines)
        runs.write(path, kept[name]["scores"])
    return len(missing)


def _is_begun(model_dir: str) -> bool:
    has_checkpoint = run_checkpoints.of_run(model_dir).newest_step() is not None
    return runs.is_finished(model_dir) or has_checkpoint or runs.is_taken(model_dir)


def _read(folder: str) -> dict[str, Any]:
    """The runs of all archives of a folder; of its own where several have one."""
    paths = [(x, unpack) for y, unpack in _DECOMPRESS.items() for x in epath.Path(folder).glob(y)]
    found = {}
    for path, unpack in sorted(paths, key=lambda x: (x[0].name == FILE, x[0].name)):
        try:
            found |= json.loads(unpack(path.read_bytes()))
        except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError, TypeError) as error:
            raise ValueError(
                f"{path} must hold runs, as compare writes them; reading gave: {error}. Copy it "
                "again, or remove it."
            ) from error
    return found
