"""Converts weights: those of any format or of a training run in, another format or adapters out.

    hyperdecoders convert --from=google/t5-v1_1-small --to=t5x:t5_small
    hyperdecoders convert --from=run:my_run --to=adapters:my_adapters
    hyperdecoders convert --from=run:my_run --to=hugging_face:my_t5 --fold --task=rte

The formats are those of `weights.conversion`, `run` (a model directory) and `adapters` (an adapter
folder). What is written is whole, or nothing is: it stands under a hidden name beside its place
until it is complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import cli

if TYPE_CHECKING:
    from etils import epath

    from hyperdecoders_jax.model import Model
    from hyperdecoders_jax.modeling.config import TransformerConfig
    from hyperdecoders_jax.trained.trained_model import TrainedModel
    from hyperdecoders_jax.weights.conversion import Weights

# Words of --from and --to, which `trained_model.detect` also says.
RUN, ADAPTERS = "run", "adapters"
# Flags that mean something for some formats of --from alone.
FORMATS_OF_FLAG = {
    "--step": (RUN,),
    "--backbone": (ADAPTERS,),
    "--gin_file": ("t5x", "t5x_orbax", "safetensors"),
}
# Names in one list of the report.
MOST_LISTED = 20


def convert(
    source: str,
    target: str,
    *,
    vocab_size: int | None = None,
    dtype: str | None = None,
    gin_files: Sequence[str] = (),
    search_paths: Sequence[str] = (),
    step: str | None = None,
    backbone: str | None = None,
    fold: bool = False,
    task: str | None = None,
) -> int:
    """Reads weights, writes them, and says what became of every array; returns the exit code.

    Args:
      source: [FORMAT:]PATH, or a hub id.
      target: FORMAT:PATH; nothing must be there, or an empty folder.
      vocab_size: rows for tokens; None: as many as there are.
      dtype: "float32" or "bfloat16"; None: as they are.
      gin_files: the configuration of the weights, where their files do not tell.
      search_paths: folders that are searched for gin files.
      step: of a run: "best", "last" or a number; None: best.
      backbone: of an adapter folder; None: where its run had it.
      fold: whether kernels become what gates make of them; the result has no gates.
      task: whose gates are folded, where they depend on the task.

    Raises:
      ValueError, FileNotFoundError: the weights are not all there, damaged, or do not fit the
        target. Nothing was written.
    """
    # Files are converted on the host; the accelerator may be another process's.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from hyperdecoders_jax.trained import trained_model
    from hyperdecoders_jax.weights import conversion

    from_format, from_path = split_format("--from", source, (*conversion.FORMATS, RUN, ADAPTERS))
    to_format, to_path = split_format("--to", target, (*conversion.FORMATS, ADAPTERS))
    if to_format is None:
        raise errors.UsageError(
            f"--to must be FORMAT:PATH, with one of {(*conversion.FORMATS, ADAPTERS)}; got "
            f"{target!r}. Write for example --to=hugging_face:{target}."
        )
    # Where links lead: what is whole is moved there.
    place = conversion.to_place(to_path if "://" in to_path else os.path.realpath(to_path))
    check_free(place)
    from_path = files.resolve(from_path)
    conversion.to_place(from_path)
    from_format = from_format or trained_model.detect(from_path)
    is_changed = vocab_size is not None or dtype is not None or fold
    flags = {"--step": step, "--backbone": backbone, "--gin_file": gin_files or None}
    _check_options(from_format, to_format, is_changed, flags)
    if task is not None and not fold:
        raise errors.UsageError(
            f"--task must go with --fold, and names the task whose gates are folded; got "
            f"--task={task} alone. Leave it out, or add --fold."
        )

    run = None
    if from_format == RUN:
        run = trained_model.read_run(from_path, step or "best")
        weights = run.weights
    elif from_format == ADAPTERS:
        weights = trained_model.read_adapters(from_path, backbone).weights
    else:
        config = read_model_config(gin_files, search_paths) if gin_files else None
        weights = conversion.read(from_path, from_format, config, vocab_size)
        if config is not None:
            config = dataclasses.replace(config, vocab_size=vocab_size or config.vocab_size)
            conversion.check_config(weights, config, from_path)
    conversion.check(weights, from_path)
    if fold:
        weights = conversion.fold_gates(weights, task)
    if vocab_size is not None:
        weights = conversion.resize_vocabulary(weights, vocab_size)
    if dtype is not None:
        weights = conversion.cast(weights, dtype)

    with whole(place) as unfinished:
        if to_format == ADAPTERS:
            new, left = {}, _write_adapters(unfinished, run)
        else:
            known = conversion.FORMATS[to_format]
            new = known.write(unfinished, weights)
            names = () if known.has_files else weights.files
            left = {f"file {name}": f"{to_format} has no place for it" for name in names}
    print(f"Read {from_format} at {from_path}.")
    print(report(weights, new, left))
    print(f"Wrote {to_format} at {to_path}.")
    return 0


def split_format(flag: str, text: str, formats: Sequence[str]) -> tuple[str | None, str]:
    """Separates FORMAT:PATH; the format is None where there is none.

    >>> split_format("--from", "t5x:gs://bucket/t5", ["t5x", "safetensors"])
    ('t5x', 'gs://bucket/t5')
    >>> split_format("--from", "gs://bucket/t5", ["t5x", "safetensors"])
    (None, 'gs://bucket/t5')

    Raises:
      UsageError: what stands before the colon is no format, or there is no path.
    """
    name, colon, path = text.partition(":")
    if not (path if colon else text):
        raise errors.UsageError(
            f"{flag} must name a path; got {text!r}. Write the folder, or . for the one you are in."
        )
    if not colon or path.startswith("//"):
        return None, os.path.expanduser(text)
    if name not in formats:
        raise errors.UsageError(
            f"{flag} must begin with one of the formats {tuple(formats)}; got {name!r}."
            f"{errors.suggestion(name, formats)}"
        )
    return name, os.path.expanduser(path)


def _check_options(
    from_format: str, to_format: str, is_changed: bool, flags: Mapping[str, Any]
) -> None:
    if to_format == ADAPTERS and from_format != RUN:
        raise errors.UsageError(
            f"An adapter folder must be made of a training run, which knows its backbone, tasks "
            f"and vocabulary; got --from={from_format}:…. Name the run's model directory."
        )
    if to_format == ADAPTERS and is_changed:
        raise errors.UsageError(
            "An adapter folder must hold what was trained, as it was trained; got --vocab_size, "
            "--dtype or --fold. Leave them out."
        )
    for flag, formats in FORMATS_OF_FLAG.items():
        if flags[flag] is not None and from_format not in formats:
            raise errors.UsageError(
                f"{flag} must go with --from={' or '.join(formats)}; got {flag} and "
                f"--from={from_format}:…. Leave it out."
            )


# ---------------------------------------------------------------- what is read


def read_model_config(gin_files: Sequence[str], search_paths: Sequence[str]) -> TransformerConfig:
    """The model that gin files describe; of what a run sets besides, nothing is needed."""
    import gin

    from hyperdecoders_jax.config.gin_binding import parse
    from hyperdecoders_jax.config.gin_files import read
    from hyperdecoders_jax.trained import trained_model

    gin_files = cli.with_run_file(gin_files, trained_model.RUN_FILE, search_paths)
    parse(
        read(gin_files, (), search_paths),
        model_config,
        are_macros_checked=False,
        is_all_bound=False,
        readers=cli.TRAIN_FILES,
    )
    return gin.get_configurable(model_config)()


def model_config(*, model: Model) -> TransformerConfig:
    """The configuration of a model; bound by gin_configs/runs/embedded/convert.gin."""
    return model.config


# ---------------------------------------------------------------- what is written


def check_free(place: epath.Path, flag: str = "--to") -> None:
    """Checks that nothing would be overwritten.

    Args:
      place: where something will be written.
      flag: that names it.

    Raises:
      UsageError: there is a file, or a folder that is not empty or cannot be replaced.
    """
    if os.path.ismount(place) or os.fspath(place) == os.getcwd():
        raise errors.UsageError(
            f"{flag} must name a place that can be replaced; {place} is the folder you are in, or "
            f"a disk of its own, as a container's folders are. Name a new folder in it."
        )
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise errors.UsageError(
            f"{flag} must name a place where nothing is; there is something at {place}. Name "
            "another one, or remove it first."
        )


@contextlib.contextmanager
def whole(place: epath.Path) -> Iterator[epath.Path]:
    """A path to write to, which becomes `place` when all is written, and is removed otherwise.

    A process that is killed leaves `.unfinished-…` behind, which nothing here takes for weights.

    Raises:
      OSError: it cannot be written.
    """
    from safetensors import SafetensorError

    is_local = "://" not in os.fspath(place)
    made = [parent for parent in place.parents if is_local and not parent.exists()]
    unfinished = place.parent / f".unfinished-{os.getpid()}-{place.name}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        if place.exists():
            place.rmdir()  # Empty, as `check_free` found.
        unfinished.rename(place)
    except BaseException as error:
        # A path below a file cannot even be looked at.
        with contextlib.suppress(NotADirectoryError):
            if unfinished.is_dir():
                unfinished.rmtree()
            unfinished.unlink(missing_ok=True)
        for parent in made:  # deepest first
            # Another process may have put something there.
            with contextlib.suppress(OSError, ValueError):
                parent.rmdir()
        # What disks and libraries say when there is no room, or no right, to write.
        is_refusal = isinstance(error, OSError | ValueError | RuntimeError | SafetensorError)
        if not is_refusal or errors.is_own(error):
            raise
        raise OSError(
            f"Everything must be written; {place} could not be made: {errors.message_of(error)}. "
            "Make room there, mend its rights, or name another place; nothing was left."
        ) from error


def _write_adapters(folder: epath.Path, run: TrainedModel) -> dict[str, str]:
    """Writes an adapter folder; returns the parameters that it lacks, and why."""
    from hyperdecoders_jax.weights import adapter_folder

    folder.mkdir()
    arrays = run.weights.arrays
    adapter_folder.write(folder, run.description, {path: arrays[path] for path in run.own})
    lacking = [path for path in arrays if path not in run.own]
    return dict.fromkeys(lacking, "the backbone has them")


def report(weights: Weights, new: Mapping[str, str], left: Mapping[str, str]) -> str:
    """What was loaded, what is new, and what was left, also by the target."""
    import math

    arrays = weights.arrays
    count = sum(math.prod(array.shape) for array in arrays.values())
    dtypes = ", ".join(sorted({str(array.dtype) for array in arrays.values()}))
    lines = _listed(f"loaded {len(arrays)} arrays, {count:,} parameters of {dtypes}", arrays)
    for what, found in (("new", {**weights.new, **new}), ("left", {**weights.left, **left})):
        for why in sorted(set(found.values())):
            names = [name for name in found if found[name] == why]
            lines += _listed(f"{what} {len(names)}, {why}", names)
        if not found:
            lines.append(f"{what} nothing")
    return "\n".join(lines)


def _listed(head: str, names: Collection[str]) -> list[str]:
    lines = [f"{head}:", *(f"  {name}" for name in sorted(names)[:MOST_LISTED])]
    if len(names) > MOST_LISTED:
        lines.append(f"  … and {len(names) - MOST_LISTED} more")
    return lines


if __name__ == "__main__":
    sys.exit(cli.main(["convert", *sys.argv[1:]]))
