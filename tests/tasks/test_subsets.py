"""Tasks with other splits: what is in them, in every process, in SeqIO and in our pipeline."""

import itertools

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from hyperdecoders_jax.data import eval_batches, mixtures, pipeline, train_batches
from hyperdecoders_jax.tasks import (  # noqa: F401 (some only register their tasks)
    classification,
    glue,
    multiple_choice,
    nli,
    splits,
    subsets,
    super_glue,
)
from hyperdecoders_jax.tasks.sources import JsonLinesDataSource

FEATURES = {name: seqio.Feature(seqio.ByteVocabulary()) for name in ("inputs", "targets")}
LENGTHS = {"inputs": 8, "targets": 3}
SPLITS = ("train", "validation", "test")
DIVIDED = splits.SplitConfig(split_validation_test=True)
# Sorted by these, the records of a split are in the order of the original's files.
LINE_NUMBERS = np.random.default_rng(0).permutation(40)[:23] * 3


@seqio.map_over_dataset
def render(record):
    return {"inputs": tf.strings.as_string(record["idx"]), "targets": "no"}


def make_task(name="glue_rte_v200", takes_seed=True, counts=True, line_numbers=LINE_NUMBERS):
    """A task whose three splits hold the same records, named by their line numbers."""

    def read(split, shuffle_files, seed=None):
        assert not shuffle_files, "places would mean nothing"
        return tf.data.Dataset.from_tensor_slices({"idx": line_numbers})

    def read_without_seed(split, shuffle_files):
        return read(split, shuffle_files)

    return seqio.Task(
        name,
        source=seqio.FunctionDataSource(
            read if takes_seed else read_without_seed,
            splits=SPLITS,
            num_input_examples=dict.fromkeys(SPLITS, len(line_numbers)) if counts else None,
        ),
        preprocessors=[
            render,
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos,
        ],
        output_features=FEATURES,
    )


def read(task, split, **arguments):
    ds = task.get_dataset(LENGTHS, split, shuffle=False, **arguments)
    return [int(example["inputs_pretokenized"]) for example in ds.as_numpy_iterator()]


def test_the_examples_are_those_of_the_original():
    # Of 23 lines: the original selects by place, which is the rank of a line's number.
    lines = np.sort(LINE_NUMBERS)[splits.permutation(23)]
    task = subsets.resplit(make_task(), DIVIDED)
    assert set(read(task, "validation")) == {*lines[:11]}
    assert set(read(task, "test")) == {*lines[11:]}
    assert read(task, "train") == LINE_NUMBERS.tolist()


def test_records_keep_the_order_of_their_source():
    place = LINE_NUMBERS.tolist().index
    numbers = read(subsets.resplit(make_task(), DIVIDED), "test")
    assert numbers == sorted(numbers, key=place)


def test_the_order_of_the_source_does_not_matter_where_lines_are_numbered():
    config = splits.SplitConfig(num_validation=5, num_train=7, drop_last_example=True)
    tasks = [make_task(line_numbers=numbers) for numbers in (LINE_NUMBERS, LINE_NUMBERS[::-1])]
    for split, size in zip(SPLITS, (7, 5, 22), strict=True):
        one, other = (sorted(read(subsets.resplit(task, config), split)) for task in tasks)
        assert one == other
        assert len(one) == size


def test_without_line_numbers_places_are_those_of_the_source(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(f'{{"number": {n}, "idx": "a"}}\n' for n in range(9)))
    source = JsonLinesDataSource({"train": path})
    subset = subsets.SubsetSource(source, "mine", splits.SplitConfig(num_train=4))
    numbers = [record["number"] for record in subset.get_dataset("train").as_numpy_iterator()]
    assert numbers == sorted(splits.permutation(9)[:4])


def test_sizes_are_exact_with_and_without_the_source_s():
    for counts in (True, False):
        task = subsets.resplit(make_task(counts=counts), DIVIDED)
        assert [task.num_input_examples(split) for split in SPLITS[1:]] == [11, 12]
    # What is left alone is not counted.
    assert task.num_input_examples("train") is None
    table = mixtures.mixing_table(task, "validation")
    assert table == {"glue_rte_v200": mixtures.MixingRow(1.0, 11)}


def test_a_task_that_nothing_changes_is_itself():
    task = make_task("anli_v010")
    assert subsets.resplit(task, DIVIDED) is task
    assert subsets.resplit(task, splits.SplitConfig(num_test=9)) is not task


def test_a_task_that_is_tested_on_its_validation_split_is_told(caplog):
    for name, is_told in (("superglue_rte_v102", True), ("glue_mnli_v200", False)):
        caplog.clear()
        task = seqio.TaskRegistry.get(name)
        assert subsets.resplit(task, DIVIDED) is task
        assert (f"validation and test of {name} are the same" in caplog.text) == is_told


def test_a_copy_is_not_read_from_the_cache_of_the_registered_task():
    task = seqio.TaskRegistry.get("glue_rte_v200")
    assert task.supports_caching
    copy = subsets.resplit(task, DIVIDED)
    assert not copy.supports_caching
    with pytest.raises(
        ValueError, match=r"A cache holds the splits that .* registered with; 'glue"
    ):
        mixtures.check_data_are_there(copy, "test", use_cached=True)


def test_every_task_that_has_a_rule_is_registered():
    assert set(seqio.TaskRegistry.names()) >= splits.HALVED | splits.CARVED


@pytest.mark.parametrize("num_shards", [2, 3])
def test_processes_share_a_split_without_overlap(num_shards):
    task = subsets.resplit(make_task(), DIVIDED)
    shards = [
        read(task, "test", shard_info=seqio.ShardInfo(index, num_shards))
        for index in range(num_shards)
    ]
    assert {len(shard) for shard in shards} == {12 // num_shards}
    assert sorted(itertools.chain(*shards)) == sorted(read(task, "test"))


def test_files_are_shared_without_overlap(tmp_path):
    paths = [tmp_path / f"{place}.jsonl" for place in range(4)]
    for place, path in enumerate(paths):
        path.write_text("".join(f'{{"number": {10 * place + n}}}\n' for n in range(5)))
    source = subsets.SubsetSource(
        JsonLinesDataSource({"train": paths}), "mine", splits.SplitConfig(drop_last_example=True)
    )
    shards = [
        [
            int(record["number"])
            for record in source.get_dataset(
                "train", seed=3, shard_info=seqio.ShardInfo(index, 2)
            ).as_numpy_iterator()
        ]
        for index in range(2)
    ]
    assert len(source.list_shards("train")) == 4
    assert len(shards[0]) + len(shards[1]) == len({*shards[0], *shards[1]}) == 19


@pytest.mark.parametrize("process_count", [1, 2])
def test_the_pipeline_trains_on_the_examples_of_the_split_alone(process_count):
    task = subsets.resplit(
        make_task(takes_seed=False), splits.SplitConfig(num_train=10, num_validation=3)
    )
    config = pipeline.PipelineConfig(task, LENGTHS, batch_size=10, examples_per_turn=10)
    seen = []
    for index in range(process_count):
        with train_batches.TrainIterator(config, index, process_count) as iterator:
            rows = next(iterator).encoder_input_tokens
        decode = seqio.ByteVocabulary().decode
        seen += [int(decode([int(i) for i in row])) for row in rows]
    assert sorted(seen) == sorted(read(task, "train"))
    test = eval_batches.read_examples(task, 0, LENGTHS, "test").examples
    assert [int(e["inputs_pretokenized"]) for e in test] == LINE_NUMBERS.tolist()
    examples = eval_batches.read_examples(task, 0, LENGTHS, "validation").examples
    assert [int(e["inputs_pretokenized"]) for e in examples] == read(task, "validation")


def test_two_runs_of_one_seed_are_equal_and_of_another_are_not():
    def run(seed):
        config = splits.SplitConfig(num_train=10, seed=seed)
        return read(subsets.resplit(make_task(), config), "train")

    assert run(42) == run(42) != run(1)


def test_seqio_itself_reads_the_splits():
    task = subsets.resplit(make_task(), DIVIDED)
    ds = seqio.get_dataset(
        seqio.Mixture("divided", [(task, 1.0)]),
        LENGTHS,
        dataset_split="test",
        shuffle=False,
        seed=0,
        num_epochs=1,
        feature_converter=seqio.EncDecFeatureConverter(pack=False),
    )
    assert len(list(ds)) == 12


def test_glue_s_records_are_chosen_by_their_line_number(tmp_path):
    """Through TFDS, which stores records in an order of its own."""
    numbers = LINE_NUMBERS[:8]
    records = tf.data.Dataset.from_tensor_slices({"idx": numbers.astype("int32")})
    tfds.dataset_builders.store_as_tfds_dataset(
        name="numbered",
        version="1.0.0",
        features=tfds.features.FeaturesDict({"idx": np.int32}),
        split_datasets={"train": records, "validation": records},
        data_dir=str(tmp_path),
        disable_shuffling=False,
    )
    source = seqio.TfdsDataSource(
        "numbered:1.0.0",
        tfds_data_dir=str(tmp_path),
        splits={"train": "train", "validation": "validation", "test": "validation"},
    )
    subset = subsets.SubsetSource(source, "glue_cola_v200", DIVIDED)
    lines = np.sort(numbers)[splits.permutation(8)]
    for split, expected in (("validation", lines[:4]), ("test", lines[4:]), ("train", lines)):
        ds = subset.get_dataset(split, shuffle=True, seed=1)
        assert {int(record["idx"]) for record in ds} == {*expected}
        assert subset.num_input_examples(split) == len(expected)
