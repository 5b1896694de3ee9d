"""Records in, folders as TFDS prepares them out; SeqIO reads them as it reads downloaded ones.

Features are those of the registered builder, so a task that misnames a field or mistakes a label's
number fails on them as it would on the real data set.
"""

import pathlib

import tensorflow_datasets as tfds

from tests.contracts import records

# The splits of data sets that have others than train, validation and test.
SPLITS = {
    "glue/mnli": (
        "train",
        "validation_matched",
        "validation_mismatched",
        "test_matched",
        "test_mismatched",
    ),
    "definite_pronoun_resolution": ("train", "test"),
    "imdb_reviews/plain_text": ("train", "test", "unsupervised"),
    "yelp_polarity_reviews": ("train", "test"),
    "trec": ("train", "test"),
    "winogrande": ("train_xs", "train_l", "train_xl", "validation", "test"),
    "squad/v1.1": ("train", "validation"),
    "mrqa/squad": ("train", "validation"),
    "mrqa/news_qa": ("train", "validation"),
    "mrqa/trivia_qa": ("train", "validation"),
    "mrqa/search_qa": ("train", "validation"),
    "mrqa/hotpot_qa": ("train", "validation"),
    "mrqa/natural_questions": ("train", "validation"),
    "mrqa/bio_asq": ("test",),
    "mrqa/drop": ("test",),
    "mrqa/duo_rc": ("test",),
    "mrqa/race": ("test",),
    "mrqa/relation_extraction": ("test",),
    "mrqa/textbook_qa": ("test",),
}


def part(split: str, rows: list[records.Record]) -> list[records.Record]:
    """The records of a split: each kind of split gets another number of them, and other ones."""
    if split in ("validation", "validation_matched"):
        return rows[: (len(rows) + 1) // 2]
    if split in ("test", "test_matched", "validation_mismatched"):
        return rows[1:]
    return rows if split in ("train", "train_l") else rows[:1]


def write(name: str, folder: pathlib.Path) -> None:
    """Prepares a data set such as "glue/cola:2.0.0" in `folder`, if it is not there."""
    builder = tfds.builder(name, data_dir=folder)
    if builder.is_prepared():
        return
    data_set = name.partition(":")[0]
    config = builder.builder_config
    tfds.dataset_builders.store_as_tfds_dataset(
        name=builder.name,
        config=config.name if config else None,
        version=builder.version,
        features=builder.info.features,
        split_datasets={
            split: list(enumerate(part(split, records.RECORDS[data_set])))
            for split in SPLITS.get(data_set, ("train", "validation", "test"))
        },
        data_dir=folder,
        disable_shuffling=True,
    )
