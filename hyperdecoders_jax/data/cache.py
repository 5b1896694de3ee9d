"""SeqIO caches of tasks: text on disk that `use_cached=True` reads, here and under T5X.

A cache holds the output of the steps before `seqio.CacheDatasetPlaceholder`: text, which serves
every vocabulary and length, in the order of the data. SeqIO's own `seqio_cache_tasks` shuffles the
examples, and needs a vocabulary and Apache Beam, whose protobuf differs from SentencePiece's today.
"""

import contextlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator

import seqio
import tensorflow as tf

from hyperdecoders_jax.data import offline, untuned

_FINGERPRINT = "source_fingerprint"  # A key of ours in SeqIO's info of a split.
_COMPLETED = "COMPLETED"  # SeqIO takes a folder for a cache once this file is in it.
# SeqIO's reader interleaves files: this many examples of each of this many at a time. Written the
# same way, examples come back in their order.
_BLOCK_LEN = _MAX_SHARDS = 16
# What SeqIO restores from a tf.train.Example.
_DTYPES = ("string", "int64", "int32", "bool", "float32")


def check(task: seqio.Task, split: str) -> None:
    """Raises ValueError unless SeqIO finds a cache of a task's split; says what writes it."""
    registered = task.name in seqio.TaskRegistry.names()
    if registered and seqio.TaskRegistry.get(task.name).source is not task.source:
        raise ValueError(
            f"A cache holds the splits that a task was registered with; {task.name!r} is read from "
            "others, which this run makes of them. Set USE_CACHED_TASKS = False."
        )
    _check_supports_caching(task)
    folders = seqio.get_global_cache_dirs()
    command = f"`hyperdecoders tasks --cache {task.name} --cache_dir=FOLDER`"
    if task.cache_dir is None:
        where = f"in none of {list(folders)}" if folders else "in none: no folder is named"
        raise ValueError(
            f"A task must be in a cache to be read with USE_CACHED_TASKS; {task.name!r} is {where}"
            f". Write it with {command} (a mixture's name caches all of its tasks) and give "
            "--seqio_additional_cache_dirs=FOLDER, or set USE_CACHED_TASKS = False."
        )
    info = seqio.get_cached_info_path(task.cache_dir, split)
    if split in task.splits and not tf.io.gfile.exists(info):
        raise ValueError(
            f"The cache of a task must hold the split that is read; {task.cache_dir} has no "
            f"{split!r}. Delete it and write it again, where the data of that split are, with "
            f"{command}, or set USE_CACHED_TASKS = False."
        )
    if split in task.splits and _is_of_other_data(task, split, task.cache_dir):
        raise ValueError(
            f"The cache of a task must be made of the task's data; {task.cache_dir} was made of "
            f"others than {task.name!r} has in {split!r} now. Write it again with {command}, which "
            "replaces it, or set USE_CACHED_TASKS = False."
        )


def fingerprint(source: seqio.DataSource, split: str) -> str | None:
    """Differs once the data of a split differ; None where a source cannot tell, or has none here.

    A source tells by its method `fingerprint`; of TFDS it is the data set with its version, of
    other files their names and sizes.
    """
    if hasattr(source, "fingerprint"):
        return source.fingerprint(split)
    if isinstance(source, seqio.TfdsDataSource):
        name, _ = source.tfds_dataset.get_split_params(split)
        return str(name)
    if isinstance(source, seqio.FileDataSource):
        paths = source.list_shards(split)
        sizes = [(os.path.basename(path), tf.io.gfile.stat(path).length) for path in paths]
        return str(sizes) if sizes else None
    if (inner := getattr(source, "sources", ())) and hasattr(source, "origin"):
        parts = [fingerprint(one, source.origin(split)) for one in inner]
        return None if None in parts else str(parts)
    return None


def _is_of_other_data(task: seqio.Task, split: str, folder: str) -> bool:
    """Whether a cache was made of other data; False where the data are not here, or cannot tell."""
    with tf.io.gfile.GFile(seqio.get_cached_info_path(folder, split)) as file:
        then = json.loads(file.read()).get(_FINGERPRINT)
    if then is None:
        return False
    try:
        now = fingerprint(task.source, split)
    except (ValueError, OSError, tf.errors.OpError):
        return False
    return now not in (None, then)


def _check_supports_caching(task: seqio.Task) -> None:
    if not task.supports_caching:
        raise ValueError(
            "A task that is cached must have a seqio.CacheDatasetPlaceholder() among its "
            f"preprocessors, before it tokenises; {task.name!r} has none. Put it there, or set "
            "USE_CACHED_TASKS = False."
        )


def write(tasks: Iterable[seqio.Task], cache_dir: str) -> Iterator[offline.Outcome]:
    """Caches tasks lazily, one for each outcome that is asked for; failures don't stop the rest."""
    for task in tasks:
        folder = os.path.join(cache_dir, seqio.get_task_dir_from_name(task.name))
        try:
            if tf.io.gfile.exists(os.path.join(folder, _COMPLETED)) and not any(
                _is_of_other_data(task, split, folder)
                for split in task.splits
                if tf.io.gfile.exists(seqio.get_cached_info_path(folder, split))
            ):
                yield offline.Outcome(task.name, offline.WAS_THERE, folder)
                continue
            counts = write_task(task, folder)
        except (ValueError, OSError, tf.errors.OpError) as error:
            yield offline.Outcome(task.name, offline.FAILED, str(error))
            continue
        sizes = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        rest = ", ".join(split for split in task.splits if split not in counts)
        without = f" (without {rest}, whose data are not there)" if rest else ""
        yield offline.Outcome(task.name, offline.DONE, f"{sizes}{without} in {folder}")


def write_task(task: seqio.Task, folder: str) -> dict[str, int]:
    """Caches a task's splits that are there, or raises and leaves what was; counts examples."""
    _check_supports_caching(task)
    splits = offline.splits_that_are_there(task)
    unfinished = f"{folder}.unfinished"
    _remove(unfinished)
    tf.io.gfile.makedirs(unfinished)
    try:
        counts = {split: _write_split(task, split, unfinished) for split in splits}
        _write_text(os.path.join(unfinished, _COMPLETED), "")
    except BaseException:
        _remove(unfinished)
        raise
    _remove(folder)
    tf.io.gfile.rename(unfinished, folder)
    return counts


def _remove(folder: str) -> None:
    if tf.io.gfile.exists(folder):
        tf.io.gfile.rmtree(folder)


def _write_split(task: seqio.Task, split: str, folder: str) -> int:
    ds = task.source.get_dataset(split=split, shuffle=False)
    ds = task.preprocess_precache(ds, seed=0)  # The steps before the placeholder.
    features = {name: _describe(task, name, spec) for name, spec in ds.element_spec.items()}
    examples = iter(untuned.untuned(ds))
    # Read ahead to learn whether all files are needed: SeqIO's reader opens each that is listed.
    first = list(itertools.islice(examples, _BLOCK_LEN * _MAX_SHARDS))
    if not first:
        raise ValueError(
            f"A split that is cached must have examples; {task.name!r} has none in {split!r}. "
            "Check its source and its filters."
        )
    num_shards = -(-len(first) // _BLOCK_LEN)
    prefix = seqio.get_cached_tfrecord_prefix(folder, split)
    paths = [f"{prefix}-{number:05}-of-{num_shards:05}" for number in range(num_shards)]
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(tf.io.TFRecordWriter(path)) for path in paths]
        for number, example in enumerate(itertools.chain(first, examples)):
            # SeqIO stores booleans as integers too, but its code fails with today's protobuf.
            booleans = {name: x for name, x in example.items() if x.dtype == tf.bool}
            example |= {name: tf.cast(x, tf.int64) for name, x in booleans.items()}
            record = seqio.dict_to_tfexample(example)
            writers[number // _BLOCK_LEN % num_shards].write(record.SerializeToString())
    info = {"num_shards": num_shards, "features": features, "seqio_version": seqio.__version__}
    if (made_of := fingerprint(task.source, split)) is not None:
        info[_FINGERPRINT] = made_of  # SeqIO ignores it.
    _write_text(seqio.get_cached_info_path(folder, split), json.dumps(info, indent=2))
    _write_text(seqio.get_cached_stats_path(folder, split), json.dumps({"examples": number + 1}))
    return number + 1


def _describe(task: seqio.Task, name: str, spec: tf.TypeSpec) -> dict:
    is_ragged = isinstance(spec, tf.RaggedTensorSpec)
    is_known = is_ragged or (isinstance(spec, tf.TensorSpec) and spec.shape.rank is not None)
    shape = spec.shape.as_list() if is_known else None
    if not is_known or spec.dtype.name not in _DTYPES or (None in shape[1:] and not is_ragged):
        raise ValueError(
            f"A field that is cached must be a tensor of {', '.join(_DTYPES)} that differs in its "
            f"first axis only, or ragged; {name!r} of {task.name!r} is {spec}. Change it, or leave "
            "it out, before the placeholder."
        )
    # As SeqIO's own: the first axis may always differ.
    return {"dtype": spec.dtype.name, "shape": [None, *shape[1:]] if shape else []}


def _write_text(path: str, text: str) -> None:
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(text)
