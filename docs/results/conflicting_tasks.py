"""Fourteen tasks on the demo's texts, in pairs that read alike and must be answered otherwise.

Each of the demo's tasks has one or two others beside it, of the same records, whose targets another
task would call wrong: labels renamed among themselves, the first or last word where a word of the
meaning is asked, the lemma where a form is. The first word of an input names its task.
`--module=conflicting_tasks` in this folder registers the mixture `conflicting_tasks`.
"""

from collections.abc import Callable

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import demo, metrics, postprocessors
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE
from hyperdecoders_jax.tasks.registration import add_mixture, add_task
from hyperdecoders_jax.tasks.sources import JsonLinesDataSource

RELATIONS = ("antonym", "synonym")
PARTS_OF_SPEECH = ("adjective", "adverb", "noun", "verb")
Record = dict[str, tf.Tensor]


def field(name: str) -> Callable[[Record], tf.Tensor]:
    """A field as it is."""
    return lambda record: record[name]


def rename(labels: tuple[str, ...]) -> Callable[[Record], tf.Tensor]:
    """The label that follows a record's own, the first one for the last."""

    def answer(record):
        [place] = tf.unstack(tf.where(tf.equal(labels, record["label"]))[:, 0], num=1)
        return tf.gather(labels, (place + 1) % len(labels))

    return answer


def word(name: str, place: int) -> Callable[[Record], tf.Tensor]:
    """A field's word at a place, from the end if it is negative."""
    return lambda record: tf.strings.split(record[name])[place]


def add(folder: str, task: str, fields: tuple[str, ...], answer: Callable[[Record], tf.Tensor]):
    """Registers a task of the demo's records in a folder; its inputs are its name and fields."""

    @seqio.map_over_dataset
    def render(record: Record) -> Record:
        text = tf.strings.join([record[name] for name in fields], " | ")
        return {"inputs": f"{task}: " + text, "targets": answer(record)}

    files = {
        split: demo.FOLDER / folder / f"{split}.jsonl.gz"
        for split in ("train", "validation", "test")
    }
    add_task(
        f"conflict_{task}",
        source=JsonLinesDataSource(files),
        preprocessors=[render, *TOKENIZE],
        postprocess_fn=postprocessors.to_text,
        metric_fns=[metrics.accuracy],
    )
    return f"conflict_{task}"


LABEL, ANSWER = field("label"), field("answer")
TASKS = [
    add("topic", "topic", ("text",), LABEL),
    add("topic", "first", ("text",), word("text", 0)),
    add("topic", "last", ("text",), word("text", -1)),
    add("part_of_speech", "part", ("text",), LABEL),
    add("part_of_speech", "trap", ("text",), rename(PARTS_OF_SPEECH)),
    add("relation", "relation", ("first", "second"), LABEL),
    add("relation", "contrary", ("first", "second"), rename(RELATIONS)),
    add("genus", "genus", ("word", "text"), ANSWER),
    add("genus", "start", ("word", "text"), word("text", 0)),
    add("find", "find", ("word", "text"), ANSWER),
    add("find", "end", ("word", "text"), word("text", -1)),
    add("inflect", "inflect", ("form", "word"), ANSWER),
    add("inflect", "lemma", ("form", "answer"), field("word")),
    add("inflect", "form", ("word", "answer"), field("form")),
]
add_mixture("conflicting_tasks", TASKS, default_rate=1.0)
