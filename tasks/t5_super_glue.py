"""SuperGLUE's eight tasks in T5's text format, and pronouns to learn WSC from; for HyperGrid.

Inputs and targets are as in `tasks/t5_glue.py`. Three tasks are different:

- MultiRC is one example per answer, scored over the answers of a question together (`group`).
- ReCoRD is one example per right answer. All are scored as one: `group` and `answers` say of what.
- WSC asks whom or what a marked pronoun stands for. Only pairs of pronoun and referent can be
  trained on; they are few, so Definite Pronoun Resolution is mixed in. In evaluation each record
  asks whether its candidate is the referent, and the answer is yes if the model names it.

`test` can be predicted but not scored: its labels are secret, its targets "<unk>" (WSC's are the
candidates).

Source: google-research/text-to-text-transfer-transformer, `t5/data/{glue_utils,tasks}.py`; Raffel
et al. 2020 (arXiv:1910.10683), section 2.4 and appendix D.
"""

import functools

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import metrics, postprocessors, super_glue_metrics
from hyperdecoders_jax.tasks.preprocessors import (
    TOKENIZE,
    UNKNOWN,
    join_fields,
    label_name,
    with_label_name,
)
from hyperdecoders_jax.tasks.registration import add_task

SPLITS = {"train": "train", "validation": "validation", "test": "test"}

FALSE_TRUE = ("False", "True")
CB_LABELS = ("entailment", "contradiction", "neutral")
COPA_LABELS = ("choice1", "choice2")
RTE_LABELS = ("entailment", "not_entailment")

Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def render_boolq(example: Example) -> Example:
    """BoolQ: a question of yes or no about a passage.

    {"passage": "Rain is water.", "question": "is rain wet", "label": 1} ->
    {"inputs": "boolq passage: Rain is water. question: is rain wet", "targets": "True"}
    """
    inputs = join_fields("boolq", example, "passage", "question")
    return with_label_name(inputs, FALSE_TRUE, example)


@seqio.map_over_dataset
def render_cb(example: Example) -> Example:
    """CB: does the premise entail or contradict the hypothesis?

    {"premise": "I doubt it rains.", "hypothesis": "It rains.", "label": 1} ->
    {"inputs": "cb hypothesis: It rains. premise: I doubt it rains.", "targets": "contradiction"}
    """
    return with_label_name(join_fields("cb", example, "hypothesis", "premise"), CB_LABELS, example)


@seqio.map_over_dataset
def render_copa(example: Example) -> Example:
    """COPA: which choice is the cause, or the effect?

    {"premise": "It rained.", "choice1": "I got wet.", "choice2": "I ran dry.",
     "question": "effect", "label": 0} ->
    {"inputs": "copa choice1: I got wet. choice2: I ran dry. premise: It rained. question: effect",
     "targets": "choice1"}
    """
    return with_label_name(
        join_fields("copa", example, "choice1", "choice2", "premise", "question"),
        COPA_LABELS,
        example,
    )


@seqio.map_over_dataset
def render_multirc(example: Example) -> Example:
    """MultiRC: is the answer to the question true?

    {"question": "Who ran?", "answer": "Ann", "paragraph": "<b>Sent 1: </b>Ann ran.<br>",
     "label": 1, "idx": {"paragraph": 3, "question": 7, "answer": 0}} ->
    {"inputs": "multirc question: Who ran? answer: Ann paragraph: Sent 1: Ann ran. ",
     "targets": "True", "group": [3, 7]}
    """
    inputs = join_fields("multirc", example, "question", "answer", "paragraph")
    inputs = tf.strings.regex_replace(inputs, "<br>", " ")
    return {
        "inputs": tf.strings.regex_replace(inputs, "</?b>", ""),
        "targets": label_name(FALSE_TRUE, example["label"]),
        "group": tf.stack([example["idx"]["paragraph"], example["idx"]["question"]]),
    }


def render_record(dataset: tf.data.Dataset) -> tf.data.Dataset:
    r"""ReCoRD: which entity of the passage fills the blank?

    {"passage": "Ann runs\n@highlight\nBob sits", "query": "@placeholder is fast.",
     "entities": ["Ann", "Bob"], "answers": ["Ann"], "idx": {"passage": 3, "query": 7}} ->
    {"inputs": "record query: @placeholder is fast. entities: Ann, Bob passage: Ann runs. Bob sits",
     "targets": "Ann", "answers": ["Ann"], "group": [3, 7]}

    A record with two answers becomes two examples, which differ in their target alone.
    """
    return _render_answers(dataset).unbatch()


@seqio.map_over_dataset
def _render_answers(example: Example) -> Example:
    # The summary's points follow the text; some end in a full stop.
    passage = tf.strings.regex_replace(example["passage"], r"""([.?!"'])\n@highlight\n""", r"\1 ")
    fields = {
        "query": example["query"],
        "entities": tf.strings.reduce_join(example["entities"], separator=", "),
        "passage": tf.strings.regex_replace(passage, r"\n@highlight\n", ". "),
    }
    num_examples = tf.maximum(tf.size(example["answers"]), 1)
    shared = {
        "inputs": join_fields("record", fields, "query", "entities", "passage"),
        "answers": example["answers"],
        "group": tf.stack([example["idx"]["passage"], example["idx"]["query"]]),
    }
    copies = {name: tf.repeat(value[None], num_examples, 0) for name, value in shared.items()}
    return {**copies, "targets": tf.concat([example["answers"], [UNKNOWN]], 0)[:num_examples]}


@seqio.map_over_dataset
def render_rte(example: Example) -> Example:
    """RTE: does the first sentence entail the second?

    {"premise": "It pours.", "hypothesis": "It rains.", "label": 0} ->
    {"inputs": "rte hypothesis: It rains. premise: It pours.", "targets": "entailment"}
    """
    inputs = join_fields("rte", example, "hypothesis", "premise")
    return with_label_name(inputs, RTE_LABELS, example)


@seqio.map_over_dataset
def render_wic(example: Example) -> Example:
    """WiC: does a word mean the same in two sentences?

    {"sentence1": "I can run.", "sentence2": "A can of peas.", "word": "can", "label": 0} ->
    {"inputs": "wic sentence1: I can run. sentence2: A can of peas. word: can", "targets": "False"}
    """
    inputs = join_fields("wic", example, "sentence1", "sentence2", "word")
    return with_label_name(inputs, FALSE_TRUE, example)


@seqio.map_over_dataset
def render_wsc(example: Example) -> Example:
    """WSC: to whom does the marked pronoun refer?

    {"text": "Ann asked Bob if he could run.", "span1_text": "Bob", "span2_text": "he",
     "span2_index": 4, "label": 1} ->
    {"inputs": "wsc: Ann asked Bob if *he* could run.", "targets": "Bob", "label": 1}

    The pronoun closest to `span2_index` is marked: in one record this is the word before it. In
    another a comma sticks to the pronoun; it is set apart.
    """
    words, pronoun = tf.strings.split(example["text"], " "), example["span2_text"]
    indices = tf.range(tf.size(words))
    is_pronoun = tf.strings.regex_full_match(words, tf.strings.join([r"\Q", pronoun, r"\E\W*"]))
    tf.debugging.Assert(
        tf.reduce_any(is_pronoun),
        ["The pronoun must be a word of the text; got", pronoun, "in", example["text"]],
    )
    distances = tf.where(is_pronoun, tf.abs(indices - example["span2_index"]), tf.int32.max)
    is_marked = indices == tf.argmin(distances, output_type=tf.int32)
    marked = tf.strings.regex_replace(words, tf.strings.join([r"^(\Q", pronoun, r"\E)"]), r"*\1* ")
    words = tf.where(is_marked, tf.strings.strip(marked), words)
    return {
        "inputs": tf.strings.join(["wsc:", tf.strings.reduce_join(words, separator=" ")], " "),
        "targets": example["span1_text"],
        "label": example["label"],
    }


@seqio.map_over_dataset
def render_dpr(example: Example) -> Example:
    """DPR: to whom does the marked pronoun refer?

    {"sentence": "Bees like flowers because they smell.", "pronoun": "they",
     "candidates": ["Bees", "flowers"], "label": 1} ->
    {"inputs": "wsc: Bees like flowers because *they* smell.", "targets": "flowers"}

    The first pronoun inside the sentence is marked, and none if it only begins the sentence.
    """
    pattern = tf.strings.join([r" (\Q", example["pronoun"], r"\E)([ .,])"])
    sentence = tf.strings.regex_replace(
        example["sentence"], pattern, r" *\1*\2", replace_global=False
    )
    return {
        "inputs": tf.strings.join(["wsc:", sentence], " "),
        "targets": example["candidates"][example["label"]],
    }


class TruePairsForTraining(seqio.TfdsDataSource):
    """A TFDS set whose `train` split has only the records with label 1."""

    def get_dataset(self, split: str | None = None, **arguments) -> tf.data.Dataset:
        dataset = super().get_dataset(split, **arguments)
        return dataset.filter(lambda record: record["label"] == 1) if split == "train" else dataset

    def num_input_examples(self, split: str) -> int:
        if split != "train":
            return super().num_input_examples(split)
        return sum(1 for _ in self.get_dataset(split, shuffle=False))  # TFDS counts all: 554.


add_task(
    "t5_super_glue_boolq_v102",
    source=seqio.TfdsDataSource("super_glue/boolq:1.0.2", splits=SPLITS),
    preprocessors=[render_boolq, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=FALSE_TRUE),
    metric_fns=[metrics.accuracy],
)

add_task(
    "t5_super_glue_cb_v102",
    source=seqio.TfdsDataSource("super_glue/cb:1.0.2", splits=SPLITS),
    preprocessors=[render_cb, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=CB_LABELS),
    metric_fns=[super_glue_metrics.mean_3class_f1, metrics.accuracy],
)

add_task(
    "t5_super_glue_copa_v102",
    source=seqio.TfdsDataSource("super_glue/copa:1.0.2", splits=SPLITS),
    preprocessors=[render_copa, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=COPA_LABELS),
    metric_fns=[metrics.accuracy],
)

add_task(
    "t5_super_glue_multirc_v102",
    source=seqio.TfdsDataSource("super_glue/multirc:1.0.2", splits=SPLITS),
    preprocessors=[render_multirc, *TOKENIZE],
    postprocess_fn=postprocessors.multirc,
    metric_fns=[super_glue_metrics.multirc],
)

add_task(
    "t5_super_glue_record_v102",
    source=seqio.TfdsDataSource("super_glue/record:1.0.2", splits=SPLITS),
    preprocessors=[render_record, *TOKENIZE],
    postprocess_fn=postprocessors.record,
    metric_fns=[super_glue_metrics.record],
)

add_task(
    "t5_super_glue_rte_v102",
    source=seqio.TfdsDataSource("super_glue/rte:1.0.2", splits=SPLITS),
    preprocessors=[render_rte, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=RTE_LABELS),
    metric_fns=[metrics.accuracy],
)

add_task(
    "t5_super_glue_wic_v102",
    source=seqio.TfdsDataSource("super_glue/wic:1.0.2", splits=SPLITS),
    preprocessors=[render_wic, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=FALSE_TRUE),
    metric_fns=[metrics.accuracy],
)

add_task(
    "t5_super_glue_wsc_v102",
    source=TruePairsForTraining("super_glue/wsc.fixed:1.0.2", splits=SPLITS),
    preprocessors=[render_wsc, *TOKENIZE],
    postprocess_fn=postprocessors.wsc,
    metric_fns=[metrics.accuracy],
)

# For training alone: more pronouns to resolve, in WSC's format.
add_task(
    "t5_dpr_v110",
    source=seqio.TfdsDataSource("definite_pronoun_resolution:1.1.0", splits=["train"]),
    preprocessors=[render_dpr, *TOKENIZE],
    metric_fns=[],
)
