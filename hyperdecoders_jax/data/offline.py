"""Checks that the data of tasks are on this machine, and their preparation.

SeqIO downloads a TFDS data set at its first read: in the middle of a run, and on every host. Here
only `prepare` downloads, and `check` is called before data are read.

A data source may have: `sources`, those that it wraps, and `origin(split)`, the split of theirs
that one of its own is made of; `missing(split)`, one sentence on what is not there and where it
should be, or None; `prepare()`, which downloads or writes everything, as a metric function may.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Hashable, Iterable, Iterator

import seqio
import tensorflow as tf
from absl import logging

# The folder of data that TFDS does not have; --data_dir sets it.
DATA_DIR_VARIABLE = "HYPERDECODERS_DATA_DIR"


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Some data that a task reads."""

    name: str
    key: Hashable  # Equal for two objects that are the same data.
    missing: Callable[[], str | None]  # Gives one sentence on what is not there, or None.
    remedy: str  # What to do if something is missing, in sentences.
    prepare: Callable[[], None] | None  # Downloads or writes them; None if that cannot be done.


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of one step of a preparation, for a report."""

    name: str
    status: str
    detail: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.name, self.status, self.detail)))


WAS_THERE, DONE, FAILED = "is there already", "done", "FAILED"


def check(task: seqio.Task, split: str) -> None:
    """Raises ValueError if a task's data are not on this machine, with what prepares them."""
    for data in data_sets(task, split):
        if (sentence := data.missing()) is not None:
            raise ValueError(
                f"The data of task {task.name!r} must be on disk. {sentence} {data.remedy}"
            )


def splits_that_are_there(task: seqio.Task) -> list[str]:
    """The splits of a task that are on this machine; a ValueError if none is."""
    there, missing = [], None
    for split in task.splits:
        try:
            check(task, split)
            there.append(split)
        except ValueError as error:
            missing = error
    if not there:
        raise missing
    return there


def prepare(tasks: Iterable[seqio.Task]) -> Iterator[Outcome]:
    """Downloads and writes each data set once, lazily; failures don't stop the rest."""
    seen = set()
    for task in tasks:
        try:
            found = list(data_sets(task))
        except ValueError as error:
            yield Outcome(task.name, FAILED, str(error))
            continue
        for data in found:
            if data.key not in seen:  # Tasks of one mixture often share a data set.
                seen.add(data.key)
                yield _prepare(data)
        for metric_fn in task.metric_fns:
            call = getattr(metric_fn, "prepare", None)
            if call is not None and call not in seen:
                seen.add(call)
                yield _attempt(f"metric {metric_fn.__name__}", call)


def _prepare(data: DataSet) -> Outcome:
    missing = data.missing()
    if missing is None:
        return Outcome(data.name, WAS_THERE)
    if data.prepare is None:
        return Outcome(data.name, FAILED, f"{missing} {data.remedy}")
    outcome = _attempt(data.name, data.prepare, data.remedy)
    missing = data.missing()  # A download may succeed and lack files all the same.
    if outcome.status == DONE and missing is not None:
        return Outcome(data.name, FAILED, f"afterwards still: {missing}")
    return outcome


def _attempt(name: str, call: Callable[[], None], remedy: str = "") -> Outcome:
    try:
        call()
    except Exception as error:  # Networks, servers and formats fail in every way there is.
        return Outcome(name, FAILED, f"{type(error).__name__}: {error} {remedy}".strip())
    return Outcome(name, DONE)


def data_sets(
    task: seqio.Task, split: str | None = None, source: seqio.DataSource | None = None
) -> Iterator[DataSet]:
    """The data of a task's split, or of all with None; a ValueError for what TFDS does not know.

    `source` is one that the task's source wraps; None: the latter itself.
    """
    source = source or task.source
    if isinstance(source, seqio.TfdsDataSource):
        loader = source.tfds_dataset
        # Each split may be of another data set.
        for name in _splits(source, split) if loader.tfds_splits else [None]:
            yield _tfds_set(task, loader, name)
    elif hasattr(source, "missing"):
        yield _own_data(task, source, split)
    elif isinstance(source, seqio.FileDataSource):
        yield _file_data(source, split)
    else:
        # A wrapper without `origin` may read any of their splits, so all must be there.
        origin = getattr(source, "origin", lambda split: None)
        for inner in getattr(source, "sources", ()):
            yield from data_sets(task, split and origin(split), inner)


def _splits(source: seqio.DataSource, split: str | None) -> list[str]:
    return [name for name in source.splits if split in (None, name)]


def _tfds_set(task: seqio.Task, loader, split: str | None) -> DataSet:
    name, data_dir = loader.get_split_params(split)
    try:
        with _quiet():
            builder = loader._get_builder(split)
    except (AssertionError, ImportError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")  # The rest lists all of TFDS.
        raise ValueError(
            f"The data of task {task.name!r} must be a data set that TFDS knows; got {name!r} "
            f"({reason}). Correct its name and version, or install a TFDS that has them."
        ) from error
    name = name or builder.info.full_name
    root = data_dir or builder.data_dir_root
    remedy = (
        f"{_command(task, f' --tfds_data_dir={root}')}, or name the folder that holds it with "
        "--tfds_data_dir=FOLDER."
    )
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        remedy += (
            " TFDS may not be able to download all of it, and then looks for the rest in "
            f"{root}/downloads/manual: {' '.join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())}"
        )
    sentence = f"There is no {name} in {builder.data_dir} (looked under {root})."

    def missing() -> str | None:
        with _quiet():
            return None if builder.is_prepared() else sentence

    key = ("tfds", os.fspath(builder.data_dir))
    return DataSet(name, key, missing, remedy, builder.download_and_prepare)


def _command(task: seqio.Task, flag: str) -> str:
    command = f"hyperdecoders tasks --prepare {task.name}{flag}"
    return f"Run `{command}` where there is a network (a mixture's name prepares all of its tasks)"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences TFDS's warning about each folder that is not there: an expected answer here."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _file_data(source: seqio.FileDataSource, split: str | None) -> DataSet:
    def missing() -> str | None:
        for name in _splits(source, split):
            files = source.list_shards(name)
            if not files or not tf.io.gfile.exists(files[0]):
                pattern = source._split_to_filepattern[name]
                return f"Of its files, no file matches {pattern} for split {name!r}."
        return None

    patterns = source._split_to_filepattern
    remedy = "Put the files there, or correct the task's file pattern."
    return DataSet(str(list(patterns.values())), ("files", str(patterns)), missing, remedy, None)


def _own_data(task: seqio.Task, source: seqio.DataSource, split: str | None) -> DataSet:
    def missing() -> str | None:
        sentences = (source.missing(name) for name in _splits(source, split))
        return next(filter(None, sentences), None)

    remedy, prepare = "Put them there.", getattr(source, "prepare", None)
    if prepare is not None:
        folder = os.environ.get(DATA_DIR_VARIABLE)
        flag = f" --data_dir={folder}" if folder else ""
        remedy = f"{_command(task, flag)}, or put them there."
    return DataSet(task.name, id(source), missing, remedy, prepare)
