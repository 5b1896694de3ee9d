"""`hyperdecoders convert`: weights of any format or of a training run, written in another format.

    hyperdecoders convert --from=google/t5-v1_1-small --to=t5x:t5_small
    hyperdecoders convert --from=run:my_run --to=adapters:my_adapters
    hyperdecoders convert --from=run:my_run --to=hugging_face:my_t5 --fold --task=rte

The formats are those of `weights.formats`. Writing is atomic.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import configured, flags, main

if TYPE_CHECKING:
    from etils import epath

    from hyperdecoders_jax.model import Model
    from hyperdecoders_jax.modeling.config import TransformerConfig
    from hyperdecoders_jax.weights.trained_model import TrainedModel

SUMMARY = "convert weights between formats"
EPILOG = """\
formats:
  hugging_face     a folder with config.json, safetensors or pytorch_model.bin, or a hub id
  original         a folder of the original Hyperdecoders: config.json and pytorch_model.bin
  t5x, t5x_orbax   a folder with checkpoint_<step> in it, T5X's own layout or Orbax's
  safetensors      parameters in the package's names: FILE.safetensors, or a folder of shards
  run              to read: the model directory of a training run, under T5X, too
  adapters         a folder of what a run trained, for hyperdecoders_jax.load; to write, from a run

Without FORMAT the files of --from tell it. The report accounts for every array, with --verbose by
its name.
"""
TAKES_GIN = False
# Flags that mean something for some formats of --from alone.
FORMATS_OF_FLAG = {
    "--step": ("run",),
    "--backbone": ("adapters",),
    "--gin_file": ("t5x", "t5x_orbax", "safetensors"),
}


@dataclasses.dataclass(frozen=True)
class Changes:
    """How weights change on their way."""

    vocab_size: int | None = None  # Rows for tokens; None: as many as there are.
    dtype: str | None = None  # "float32" or "bfloat16"; None: as they are.
    # Whether kernels become what gates make of them; no gates are left. None: as a command says.
    fold: bool | None = False
    task: str | None = None  # Whose gates are folded, where they depend on the task.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    for flag, dest, name, text in (
        ("--from", "source", "[FORMAT:]PATH", "weights, or a hub id: google/t5-v1_1-small"),
        ("--to", "target", "FORMAT:PATH", "where nothing is yet"),
    ):
        parser.add_argument(flag, dest=dest, metavar=name, required=True, help=text)
    text = "rows for tokens (default: as many as there are)"
    parser.add_argument("--vocab_size", type=int, metavar="N", help=text)
    parser.add_argument("--dtype", help="float32 or bfloat16 (default: as they are)")
    text = "make gates a part of the kernels that they scale"
    flags.add_fold(parser, action="store_true", help=text)
    flags.add_trained(parser)
    text = "the model of the weights, where their files do not tell"
    flags.add_list(parser, "--gin_file", text, "FILE")
    flags.add_search_paths(parser)
    flags.add_source_module(parser)
    add_verbose(parser)


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Adds the flag for the names of all arrays in the report."""
    text = "name every array (default: one line for each group)"
    parser.add_argument("--verbose", action="store_true", help=text)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code."""
    flags.import_modules(args.module)
    gin_files = [files.at_home(file) for file in args.gin_file]
    given = configured.Sources(gin_files, (), flags.search_paths(args))
    changes = Changes(args.vocab_size, args.dtype, args.fold, args.task)
    options = {name: getattr(args, name) for name in ("step", "backbone", "verbose")}
    return convert(args.source, args.target, changes, model=given, **options)


def convert(
    source: str,
    target: str,
    changes: Changes = Changes(),
    *,
    model: configured.Sources | None = None,
    step: str | None = None,
    backbone: str | None = None,
    verbose: bool = False,
) -> int:
    """Reads weights, writes them, and says what became of every array; returns the exit code.

    `source` is [FORMAT:]PATH or a hub id; at `target`, FORMAT:PATH, must be nothing, or an empty
    folder. `model` is the configuration of the weights, where their files do not tell; `step` of a
    run is "best" (the default), "last" or a number; `backbone` of an adapter folder is by default
    where its run had it. Raises ValueError or FileNotFoundError if the weights are not all there,
    damaged, or do not fit the target; nothing was written.
    """
    # Files are converted on the host; the accelerator may be another process's.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from hyperdecoders_jax.weights import check_params, conversion, formats

    written = [name for name, known in formats.FORMATS.items() if known.write is not None]
    from_format, from_path = split_format("--from", source, tuple(formats.FORMATS))
    to_format, to_path = split_format("--to", target, tuple(written))
    if to_format is None:
        raise errors.UsageError(
            f"--to must be FORMAT:PATH, with one of {tuple(written)}; got {target!r}. Write for "
            f"example --to=hugging_face:{target}."
        )
    # Where links lead: the complete file or folder is moved there.
    place = formats.to_path(to_path if "://" in to_path else os.path.realpath(to_path))
    check_free(place)
    from_path = files.resolve(from_path)
    formats.to_path(from_path)
    from_format = from_format or formats.detect(from_path)
    gin_files = model.gin_files if model else ()
    given = {"--step": step, "--backbone": backbone, "--gin_file": gin_files or None}
    _check_options(from_format, to_format, changes, given)

    config = read_model_config(model) if gin_files else None
    weights = formats.read(
        from_path,
        from_format,
        config,
        are_rows_right=changes.vocab_size is not None,
        step=step,
        backbone=backbone,
    )
    if config is not None:
        if changes.vocab_size is not None:
            config = dataclasses.replace(config, vocab_size=weights.config.vocab_size)
        conversion.check_config(weights, config, from_path)
    check_params.check_params(weights.arrays, weights.config, from_path)
    if changes.fold:
        weights = conversion.fold_gates(weights, changes.task)
    if changes.vocab_size is not None:
        weights = conversion.resize_vocabulary(weights, changes.vocab_size)
    if changes.dtype is not None:
        weights = conversion.cast(weights, changes.dtype)
    with atomic(place) as unfinished:
        new = formats.FORMATS[to_format].write(unfinished, weights)
    print(f"Wrote {to_format} at {to_path}.")
    print(f"Read {from_format} at {from_path}.")
    print(report(weights, new, _skipped_by(to_format, weights), verbose))
    return 0


def _skipped_by(to_format: str, weights: TrainedModel) -> dict[str, str]:
    """What of a trained model a format does not hold, and why."""
    from hyperdecoders_jax.weights import formats

    if to_format == formats.ADAPTERS:
        others = [path for path in weights.arrays if path not in weights.own]
        return dict.fromkeys(others, "the backbone has them")
    if formats.FORMATS[to_format].has_files:
        return {}
    return {f"file {name}": f"{to_format} has no place for it" for name in weights.files}


def split_format(flag: str, text: str, formats: Sequence[str]) -> tuple[str | None, str]:
    """Separates FORMAT:PATH; the format is None where there is none.

    >>> split_format("--from", "t5x:gs://bucket/t5", ["t5x", "safetensors"])
    ('t5x', 'gs://bucket/t5')
    >>> split_format("--from", "gs://bucket/t5", ["t5x", "safetensors"])
    (None, 'gs://bucket/t5')

    Raises UsageError if what stands before the colon is no format, or there is no path.
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
    from_format: str, to_format: str, changes: Changes, given: Mapping[str, object]
) -> None:
    """Checks that flags and formats go together."""
    if to_format == "adapters" and from_format != "run":
        raise errors.UsageError(
            f"An adapter folder must be made of a training run, which knows its backbone, tasks "
            f"and vocabulary; got --from={from_format}:…. Name the run's model directory."
        )
    if to_format == "adapters" and dataclasses.replace(changes, task=None) != Changes():
        raise errors.UsageError(
            "An adapter folder must hold what was trained, as it was trained; got --vocab_size, "
            "--dtype or --fold. Leave them out."
        )
    for flag, formats in FORMATS_OF_FLAG.items():
        if given[flag] is not None and from_format not in formats:
            raise errors.UsageError(
                f"{flag} must go with --from={' or '.join(formats)}; got {flag} and "
                f"--from={from_format}:…. Leave it out."
            )
    flags.check_fold(changes.fold, changes.task)


def read_model_config(given: configured.Sources) -> TransformerConfig:
    """The model that gin files describe; nothing else that they set is needed."""
    import gin

    from hyperdecoders_jax.config import gin_binding

    gin_binding.parse(
        given.first("runs/embedded/convert.gin").read(),
        model_config,
        are_macros_checked=False,
        is_all_bound=False,
        readers=flags.TRAIN_FILES,
    )
    return gin.get_configurable(model_config)()


def model_config(*, model: Model) -> TransformerConfig:
    """The configuration of a model; bound by gin_configs/runs/embedded/convert.gin."""
    return model.config


def check_free(place: epath.Path, flag: str = "--to") -> None:
    """Raises UsageError unless `place`, which `flag` names, is free, or an empty folder."""
    if os.path.ismount(place) or os.fspath(place) == os.getcwd():
        raise errors.UsageError(
            f"{flag} must name a place that can be replaced; {place} is the folder you are in, or "
            f"a disk of its own, as a container's folders are. Name a new folder in it."
        )
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise errors.UsageError(
            f"{flag} must name a place where nothing is; there is something at {place}. Choose "
            "another, or remove it."
        )


@contextlib.contextmanager
def atomic(place: epath.Path) -> Iterator[epath.Path]:
    """Atomic write of a file or folder: a path that becomes `place` once all is written.

    What a killed process leaves, `.unfinished-…`, nothing here takes for weights; the next write to
    the same path removes it. Raises OSError if it cannot be written.
    """
    from safetensors import SafetensorError

    is_local = "://" not in os.fspath(place)
    made = [parent for parent in place.parents if is_local and not parent.exists()]
    unfinished = place.parent / f".unfinished-{os.getpid()}-{place.name}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        for left in left_by_killed(place):
            left.rmtree() if left.is_dir() else left.unlink(missing_ok=True)
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


def left_by_killed(place: epath.Path) -> list[epath.Path]:
    """What killed processes of this machine left of writing `place`."""
    found = []
    for left in place.parent.iterdir() if "://" not in os.fspath(place) else ():
        number = left.name.removeprefix(".unfinished-").removesuffix(f"-{place.name}")
        is_ours = left.name == f".unfinished-{number}-{place.name}" and number.isdecimal()
        if is_ours and not _is_running(int(number)):
            found.append(left)
    return found


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # Of another user.
        pass
    return True


def report(
    weights: TrainedModel, new: Mapping[str, str], skipped: Mapping[str, str], verbose: bool
) -> str:
    """What was loaded, what is new, and what was skipped, also by the target.

    A line for each group: a part of the model, or what has one reason; with `verbose` also names.
    """
    import math

    def described(paths):
        sizes = [math.prod(weights.arrays[path].shape) for path in paths]
        return f"{len(sizes)} array{'s' * (len(sizes) != 1)}, {sum(sizes):,} parameters"

    dtypes = ", ".join(sorted({str(array.dtype) for array in weights.arrays.values()}))
    lines = [f"loaded {described(weights.arrays)} of {dtypes}"]
    parts: dict[str, list[str]] = {}
    for path in sorted(weights.arrays):
        parts.setdefault(path.split("/")[0], []).append(path)
    for part, paths in parts.items():
        lines += [f"  {part}: {described(paths)}"] + [f"    {path}" for path in paths if verbose]
    for what, found in (
        ("new", {**weights.new, **new}),
        ("skipped", {**weights.skipped, **skipped}),
    ):
        for why in sorted(set(found.values())):
            names = sorted(name for name in found if found[name] == why)
            shown = "" if verbose else f" {names[0]}{', …' * (len(names) > 1)}"
            lines += [f"{what} {len(names)}, {why}:{shown}"]
            lines += [f"  {name}" for name in names if verbose]
        if not found:
            lines.append(f"{what} nothing")
    return "\n".join(lines)


if __name__ == "__main__":
    main.leave(main.main(["convert", *sys.argv[1:]]))
