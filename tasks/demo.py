"""Six small tasks in real English that ship with the package, and the text to pretrain on.

They differ in kind: two classify a definition, one judges a pair of words, two copy an answer from
a sentence, one inflects. No word of one split is a headword in another (demo_data/build.py).

Source: WordNet 3.0 (Miller 1995) and lemminflect's table; notices in demo_data/NOTICE.md.
"""

import functools
import pathlib

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import metrics, postprocessors
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE, corrupt_spans
from hyperdecoders_jax.tasks.registration import add_task
from hyperdecoders_jax.tasks.sources import JsonLinesDataSource

FOLDER = pathlib.Path(__file__).parent / "demo_data"
SPLITS = ("train", "validation", "test")

Example = dict[str, tf.Tensor]


def _source(folder: str) -> JsonLinesDataSource:
    return JsonLinesDataSource({split: FOLDER / folder / f"{split}.jsonl.gz" for split in SPLITS})


@seqio.map_over_dataset
def render_topic(example: Example) -> Example:
    """What a phrase is about.

    {"text": "juicy yellow pear", "label": "food"} ->
    {"inputs": "topic: juicy yellow pear", "targets": "food"}
    """
    return {"inputs": "topic: " + example["text"], "targets": example["label"]}


@seqio.map_over_dataset
def render_part_of_speech(example: Example) -> Example:
    """The part of speech of a word, from its definition.

    {"text": "in a wicked manner", "label": "adverb"} ->
    {"inputs": "part of speech: in a wicked manner", "targets": "adverb"}
    """
    return {"inputs": "part of speech: " + example["text"], "targets": example["label"]}


@seqio.map_over_dataset
def render_relation(example: Example) -> Example:
    """How two words are related.

    {"first": "lucky", "second": "unlucky", "label": "antonym"} ->
    {"inputs": "relation: lucky | unlucky", "targets": "antonym"}
    """
    pair = example["first"] + " | " + example["second"]
    return {"inputs": "relation: " + pair, "targets": example["label"]}


@seqio.map_over_dataset
def render_genus(example: Example) -> Example:
    """The genus of a word, a word of its definition.

    {"word": "cowbell", "text": "a bell hung around the neck of cow", "answer": "bell"} ->
    {"inputs": "genus of cowbell: a bell hung around the neck of cow", "targets": "bell"}
    """
    inputs = "genus of " + example["word"] + ": " + example["text"]
    return {"inputs": inputs, "targets": example["answer"]}


@seqio.map_over_dataset
def render_find(example: Example) -> Example:
    """The form of a word that a text has.

    {"word": "coach", "text": "She is coaching the crew", "answer": "coaching"} ->
    {"inputs": "find coach in: She is coaching the crew", "targets": "coaching"}
    """
    inputs = "find " + example["word"] + " in: " + example["text"]
    return {"inputs": inputs, "targets": example["answer"]}


@seqio.map_over_dataset
def render_inflect(example: Example) -> Example:
    """A form of a word.

    {"word": "drive", "form": "participle", "answer": "driven"} ->
    {"inputs": "inflect participle: drive", "targets": "driven"}
    """
    inputs = "inflect " + example["form"] + ": " + example["word"]
    return {"inputs": inputs, "targets": example["answer"]}


@seqio.map_over_dataset
def render_text(example: Example) -> Example:
    """{"text": "lie: tell an untruth"} -> {"targets": "lie: tell an untruth"}"""
    return {"targets": example["text"]}


add_task(
    "demo_topic",
    source=_source("topic"),
    preprocessors=[render_topic, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "demo_part_of_speech",
    source=_source("part_of_speech"),
    preprocessors=[render_part_of_speech, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "demo_relation",
    source=_source("relation"),
    preprocessors=[render_relation, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "demo_genus",
    source=_source("genus"),
    preprocessors=[render_genus, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.squad],
)

add_task(
    "demo_find",
    source=_source("find"),
    preprocessors=[render_find, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.squad],
)

add_task(
    "demo_inflect",
    source=_source("inflect"),
    preprocessors=[render_inflect, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

_TEXT_FOLDERS = ("topic", "part_of_speech", "genus", "find")

# Dictionary entries, and the tasks' own texts without their answers, of the same split. The whole
# text is the target: after 1,500 steps a model of 2 M parameters that had learned to restore texts
# had also learned to copy, and adapters could teach it all six tasks; after as many steps of T5's
# objective, with targets of a few words, it still ignored its inputs, and they could teach it none.
add_task(
    "demo_pretrain",
    source=JsonLinesDataSource(
        {
            "train": [
                FOLDER / folder / "train.jsonl.gz" for folder in ("pretrain", *_TEXT_FOLDERS)
            ],
            "validation": [FOLDER / folder / "validation.jsonl.gz" for folder in _TEXT_FOLDERS],
        },
        fields=["text"],
    ),
    preprocessors=[
        render_text,
        seqio.CacheDatasetPlaceholder(),
        seqio.preprocessors.tokenize,
        functools.partial(corrupt_spans, noise_density=0.3, targets="text"),
        seqio.preprocessors.append_eos,
    ],
)
