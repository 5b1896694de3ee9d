"""Texts on which a small T5 is pretrained for CoLA, SST-2 and MRPC, and its vocabulary.

Half of the examples are training sentences of the three tasks, without labels, half are definitions
and quotations of a dictionary (GCIDE, Debian package `dict-gcide`). `--module=small_glue` in this
folder registers the mixture `small_glue_texts`;

    python small_glue.py FOLDER --tfds_data_dir=DIR

writes what it reads, with `--data_dir=FOLDER`, and `FOLDER/small_glue.spiece.model`.
"""

import argparse
import gzip
import json
import pathlib
import re
from collections.abc import Iterator

import sentencepiece
import seqio

from hyperdecoders_jax.tasks import demo  # noqa: F401 (registers demo_pretrain)
from hyperdecoders_jax.tasks.registration import add_mixture, add_task
from hyperdecoders_jax.tasks.sources import JsonLinesFolder

SENTENCES, DICTIONARY = "small_glue_sentences", "small_glue_dictionary"
VOCAB_SIZE = 8000
MIN_WORDS = 5

for task in (SENTENCES, DICTIONARY):
    add_task(
        task,
        source=JsonLinesFolder(task, {"train": "train"}, ["text"]),
        preprocessors=seqio.TaskRegistry.get("demo_pretrain").preprocessors,
    )
add_mixture("small_glue_texts", [SENTENCES, DICTIONARY], default_rate=1.0)


def sentences(tfds_data_dir: str) -> Iterator[str]:
    """The texts of the training splits."""
    import tensorflow_datasets as tfds

    fields = {"cola": ["sentence"], "sst2": ["sentence"], "mrpc": ["sentence1", "sentence2"]}
    for name, of_task in fields.items():
        found = tfds.load(f"glue/{name}:2.0.0", split="train", data_dir=tfds_data_dir)
        for example in tfds.as_numpy(found):
            yield from (example[field].decode().strip() for field in of_task)


def paragraphs(dictionary: str) -> Iterator[str]:
    """Definitions and quotations, without headwords, sources and marks."""
    with gzip.open(dictionary, "rt", encoding="utf-8", errors="ignore") as lines:
        text = "".join(line for line in lines if "\\" not in line)
    text = re.sub(r"\[[^]]*\]|[{}]|--[A-Z][\w. ()]*$", "", text, flags=re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n", text):
        plain = re.sub(r"^(\d+\.|\([a-z]\)|\([A-Z]\w+\.?\)|\s)+", "", " ".join(paragraph.split()))
        if len(plain.split()) >= MIN_WORDS and plain.isascii():
            yield plain


def main() -> None:
    """Writes texts and vocabulary."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tfds_data_dir")
    parser.add_argument("--dictionary", default="/usr/share/dictd/gcide.dict.dz")
    arguments = parser.parse_args()
    texts = {
        SENTENCES: list(sentences(arguments.tfds_data_dir)),
        DICTIONARY: list(paragraphs(arguments.dictionary)),
    }
    for task, of_task in texts.items():
        (arguments.folder / task).mkdir(parents=True, exist_ok=True)
        with gzip.open(arguments.folder / task / "train.jsonl.gz", "wt") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in of_task)
        print(f"{task}: {len(of_task):,} texts, {sum(len(x.split()) for x in of_task):,} words")
    # The tasks' own words, ten times as often as a dictionary would have them.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts[SENTENCES] + texts[DICTIONARY][::10]),
        model_prefix=str(arguments.folder / "small_glue.spiece"),
        vocab_size=VOCAB_SIZE,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        required_chars="".join(map(chr, range(33, 127))),
        num_threads=1,
        minloglevel=2,
    )


if __name__ == "__main__":
    main()
