"""A cache gives what the data give, in their order; a task that is in none says so."""

import json

import numpy as np
import pytest
import seqio
import tensorflow as tf

from hyperdecoders_jax.data import (
    cache,
    eval_batches,
    mixtures,
    offline,
    pipeline,
    preflight,
    train_batches,
    vocabulary,
)
from hyperdecoders_jax.tasks import demo, mixing, sources  # noqa: F401 (demo registers its tasks)

LENGTHS = {"inputs": 64, "targets": 64}


@pytest.fixture(autouse=True)
def _forget():
    folders = list(seqio.get_global_cache_dirs())
    vocabulary.set_run_vocabulary(vocabulary.load_vocabulary(vocabulary.DEMO_VOCABULARY_PATH))
    yield
    vocabulary.set_run_vocabulary(None)
    seqio.set_global_cache_dirs(folders)


@pytest.fixture
def cached(make_task):
    """A function that makes a task with a placeholder, whose split holds so many examples."""

    def make(name="cached", num_examples=5, fields=None, splits=("train",), steps=()):
        task = make_task(name, num_examples, splits=splits)

        def read(split, shuffle_files, seed=None):
            rows = {
                "inputs": [f"{split} {number}" for number in range(num_examples)],
                "targets": ["x"] * num_examples,
            }
            return tf.data.Dataset.from_tensor_slices({**rows, **(fields or {})})

        return task.replace(
            source=seqio.FunctionDataSource(read, splits=splits),
            preprocessors=[*steps, seqio.CacheDatasetPlaceholder(), *task.preprocessors],
        )

    return make


def read_both(task, split):
    """The examples of a split from the data and from the cache."""
    return [
        eval_batches.read_examples(
            task, 0, LENGTHS, split, warns=False, use_cached=use_cached
        ).examples
        for use_cached in (False, True)
    ]


def assert_same(plain, cached):
    assert len(plain) == len(cached)
    for one, other in zip(plain, cached, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], strict=True)


# The last draws at random after the cache.
@pytest.mark.parametrize("name", ["demo_topic", "demo_find", "demo_pretrain"])
def test_a_cached_task_gives_the_same_examples_in_the_same_order(name, tmp_path):
    task = seqio.TaskRegistry.get(name)
    files = {"validation": task.source.list_shards("validation")}
    fields = ["text"] if name == "demo_pretrain" else None
    task = task.replace(source=sources.JsonLinesDataSource(files, fields))
    (outcome,) = cache.write([task], str(tmp_path))
    assert outcome.status == offline.DONE
    seqio.add_global_cache_dirs([str(tmp_path)])
    assert_same(*read_both(task, "validation"))


@pytest.mark.parametrize("num_examples", [1, 17, 300])
def test_the_order_is_kept_whatever_the_number_of_files(cached, tmp_path, num_examples):
    task = cached(num_examples=num_examples)
    assert cache.write_task(task, str(tmp_path / "cached")) == {"train": num_examples}
    seqio.add_global_cache_dirs([str(tmp_path)])
    files = len(list(tmp_path.glob("cached/train.tfrecord-*")))
    assert files == min(16, -(-num_examples // 16))
    assert_same(*read_both(task, "train"))


def as_list(value):
    is_ragged = isinstance(value, tf.RaggedTensor)
    return value.to_list() if is_ragged else np.asarray(value.numpy()).tolist()


def test_fields_of_every_kind_come_back_as_they_were(cached, tmp_path):
    ragged = tf.ragged.constant([["one", "two"], [], ["three"]])
    nested = tf.ragged.constant([[[1, 2], []], [[3]], []], dtype=tf.int32)
    fields = {
        "answers": ragged,
        "spans": nested,
        "pairs": np.arange(12, dtype=np.int32).reshape(3, 2, 2),
        "score": np.array([0.1, 2, 3], np.float32),
        "is_hard": np.array([True, False, True]),
        "idx": np.array([5, 6, 7], np.int64),
    }
    task = cached(num_examples=3, fields=fields)
    cache.write_task(task, str(tmp_path / "cached"))
    seqio.add_global_cache_dirs([str(tmp_path)])
    plain, back = (
        list(task.get_dataset(split="train", use_cached=use_cached, shuffle=False))
        for use_cached in (False, True)
    )
    for one, other in zip(plain, back, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            assert as_list(one[name]) == as_list(other[name]), name


def test_training_from_a_cache_needs_no_data(cached, tmp_path):
    task = cached(num_examples=40)
    cache.write_task(task, str(tmp_path / "cached"))
    seqio.add_global_cache_dirs([str(tmp_path)])
    task = task.replace(source=seqio.TfdsDataSource("glue/rte:2.0.0", str(tmp_path), ["train"]))
    config = pipeline.PipelineConfig(task, LENGTHS, batch_size=4, use_cached=True)
    report = preflight.preflight(config)["cached"]
    assert (report.num_checked, report.mixing.num_examples) == (40, 40)
    batches = []
    for _ in range(2):
        with train_batches.TrainIterator(config) as iterator:
            batches.append([next(iterator).encoder_input_tokens for _ in range(20)])
    np.testing.assert_array_equal(*batches)
    assert len(np.unique(np.concatenate(batches[0][:10]), axis=0)) == 40
    assert mixing.Proportional()(task) == 40


def test_a_task_is_cached_whole_or_not_at_all(cached, tmp_path):
    @seqio.map_over_dataset
    def fail(example):
        with tf.control_dependencies(
            [tf.debugging.assert_none_equal(example["inputs"], "train 3")]
        ):
            return {**example}

    broken, whole = cached(steps=[fail], name="broken"), cached(name="whole")
    first, second = cache.write([broken, whole], str(tmp_path))
    assert (first.status, second.status) == (offline.FAILED, offline.DONE)
    assert second.detail == f"5 train in {tmp_path}/whole"
    seqio.add_global_cache_dirs([str(tmp_path)])
    assert broken.cache_dir is None
    (again,) = cache.write([cached(name="broken")], str(tmp_path))
    assert again.status == offline.DONE
    (kept,) = cache.write([whole], str(tmp_path))
    assert (kept.status, kept.detail) == (offline.WAS_THERE, f"{tmp_path}/whole")


def test_the_files_are_those_of_seqio(cached, tmp_path):
    cache.write_task(cached(num_examples=20), str(tmp_path / "cached"))
    assert sorted(path.name for path in (tmp_path / "cached").iterdir()) == [
        "COMPLETED", "info.train.json", "stats.train.json",
        "train.tfrecord-00000-of-00002", "train.tfrecord-00001-of-00002",
    ]  # fmt: skip
    info = json.loads((tmp_path / "cached/info.train.json").read_text())
    text = {"shape": [], "dtype": "string"}
    assert info["features"] == {"inputs": text, "targets": text}
    assert info["num_shards"] == 2


def test_a_split_without_data_is_left_out_and_named(cached, tmp_path):
    class Folder(seqio.FunctionDataSource):
        def missing(self, split):
            return f"There is no {split}.jsonl in /data." if split == "test" else None

    source = Folder(cached().source._dataset_fn, splits=["train", "test"])
    task = cached().replace(source=source)
    (outcome,) = cache.write([task], str(tmp_path))
    assert outcome.detail.startswith("5 train (without test, whose data are not there) in ")
    seqio.add_global_cache_dirs([str(tmp_path)])
    mixtures.leaf_tasks(task, "train", use_cached=True)
    with pytest.raises(ValueError, match=rf"{tmp_path}/cached has no 'test'\. Delete it and write"):
        mixtures.leaf_tasks(task, "test", use_cached=True)
    source.missing = lambda split: "There is nothing in /data."
    with pytest.raises(ValueError, match="There is nothing in /data"):
        cache.write_task(task, str(tmp_path / "other"))


def test_a_task_that_is_in_no_cache_says_where_it_was_looked_for(cached, tmp_path):
    seqio.set_global_cache_dirs([])
    with pytest.raises(ValueError, match="'cached' is in none: no folder is named"):
        mixtures.leaf_tasks(cached(), "train", use_cached=True)
    seqio.add_global_cache_dirs([str(tmp_path)])
    command = "`hyperdecoders tasks --cache cached --cache_dir=FOLDER`"
    with pytest.raises(ValueError, match=rf"'cached' is in none of \[.*{tmp_path}.*{command}"):
        mixtures.leaf_tasks(cached(), "train", use_cached=True)


def test_a_task_without_a_placeholder_cannot_be_cached(make_task, tmp_path):
    with pytest.raises(ValueError, match=r"CacheDatasetPlaceholder\(\).*'plain' has none. Put"):
        mixtures.leaf_tasks(make_task("plain"), "train", use_cached=True)
    with pytest.raises(ValueError, match="'plain' has none"):
        cache.write_task(make_task("plain"), str(tmp_path / "plain"))


def test_other_splits_than_the_cached_ones_are_refused(cached, register):
    task = cached()
    register(task)
    other = task.replace(source=cached().source)
    with pytest.raises(ValueError, match="others, which this run makes of them"):
        mixtures.leaf_tasks(other, "train", use_cached=True)


def test_a_cache_of_other_data_is_refused_and_written_again(cached, tmp_path):
    def task_of(*words):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(f'{{"inputs": "{word}", "targets": "x"}}\n' for word in words))
        return cached().replace(source=sources.JsonLinesDataSource({"train": path}))

    folder = str(tmp_path / "caches")
    (outcome,) = cache.write([task_of("a", "b")], folder)
    assert outcome.status == offline.DONE
    seqio.add_global_cache_dirs([folder])
    for words, is_same in ((("a", "b"), True), (("a", "c"), False), (("a",), False)):
        task = task_of(*words)
        if is_same:
            mixtures.leaf_tasks(task, "train", use_cached=True)
            continue
        with pytest.raises(ValueError, match=r"of others than 'cached' has in 'train' now\. Write"):
            mixtures.leaf_tasks(task, "train", use_cached=True)
    (outcome,) = cache.write([task], folder)
    assert outcome == offline.Outcome("cached", offline.DONE, f"1 train in {folder}/cached")
    mixtures.leaf_tasks(task, "train", use_cached=True)
    (tmp_path / "rows.jsonl").unlink()  # Without the data there is nothing to compare.
    gone = task.replace(source=sources.JsonLinesDataSource({"train": tmp_path / "rows.jsonl"}))
    mixtures.leaf_tasks(gone, "train", use_cached=True)


def test_a_cache_that_fails_leaves_the_one_of_before(cached, tmp_path):
    cache.write_task(cached(), str(tmp_path / "cached"))
    with pytest.raises(ValueError, match="has none in 'train'"):
        cache.write_task(cached(steps=[lambda ds: ds.take(0)]), str(tmp_path / "cached"))
    seqio.add_global_cache_dirs([str(tmp_path)])
    mixtures.leaf_tasks(cached(), "train", use_cached=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (seqio.TfdsDataSource("glue/rte:2.0.0", splits=["train"]), "glue/rte:2.0.0"),
        (seqio.TextLineDataSource({"train": __file__}), "[('test_cache.py', "),
        (seqio.FunctionDataSource(lambda split, shuffle_files: None, ["train"]), "None"),
    ],
)
def test_other_sources_tell_their_data_if_they_can(source, expected):
    assert str(cache.fingerprint(source, "train")).startswith(expected)
    joined = sources.ConcatenatedSource(source, source)
    assert (cache.fingerprint(joined, "train") is None) == (expected == "None")


def test_an_empty_split_is_not_cached(cached, tmp_path):
    def nothing(dataset):
        return dataset.take(0)

    with pytest.raises(ValueError, match=r"'cached' has none in 'train'\. Check its source"):
        cache.write_task(cached(steps=[nothing]), str(tmp_path / "cached"))


@pytest.mark.parametrize(
    "values", [np.zeros(5, np.float64), tf.ragged.constant([[1.0, 2.0]] * 5, dtype=tf.float64)]
)
def test_a_field_that_seqio_cannot_read_back_is_named(cached, tmp_path, values):
    task = cached(fields={"weight": values})
    with pytest.raises(ValueError, match=r"'weight' of 'cached' is .*float64.*Change it"):
        cache.write_task(task, str(tmp_path / "cached"))
