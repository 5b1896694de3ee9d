"""GLUE's eight tasks in T5's text format, whose labels are words; HyperGrid trains on them.

Inputs are as in `tasks/glue.py`, targets the labels' names, such as "cola sentence: It is raining."
and "acceptable". Metrics compare the labels' numbers; other text is -1.

`validation` is the official one, for MNLI of matched genres; it has `validation_mismatched` too.
`test` (and MNLI's `test_mismatched`) can be predicted but not scored: its labels are secret, and
its targets read "<unk>".

Source: google-research/text-to-text-transfer-transformer, `t5/data/glue_utils.py`; Raffel et al.
2020 (arXiv:1910.10683), appendix D.
"""

import functools

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import metrics, postprocessors
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE, UNKNOWN, join_fields, with_label_name
from hyperdecoders_jax.tasks.registration import add_task

SPLITS = {"train": "train", "validation": "validation", "test": "test"}
MNLI_SPLITS = {
    "train": "train",
    "validation": "validation_matched",
    "validation_mismatched": "validation_mismatched",
    "test": "test_matched",
    "test_mismatched": "test_mismatched",
}

COLA_LABELS = ("unacceptable", "acceptable")
SST2_LABELS = ("negative", "positive")
MRPC_LABELS = ("not_equivalent", "equivalent")
QQP_LABELS = ("not_duplicate", "duplicate")
MNLI_LABELS = ("entailment", "neutral", "contradiction")
QNLI_LABELS = ("entailment", "not_entailment")
RTE_LABELS = ("entailment", "not_entailment")

Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def render_cola(example: Example) -> Example:
    """CoLA: is a sentence acceptable?

    {"sentence": "It rains.", "label": 1} ->
    {"inputs": "cola sentence: It rains.", "targets": "acceptable"}
    """
    return with_label_name(join_fields("cola", example, "sentence"), COLA_LABELS, example)


@seqio.map_over_dataset
def render_sst2(example: Example) -> Example:
    """SST-2: is the sentiment of a sentence positive?

    {"sentence": "so dull ", "label": 0} ->
    {"inputs": "sst2 sentence: so dull ", "targets": "negative"}
    """
    return with_label_name(join_fields("sst2", example, "sentence"), SST2_LABELS, example)


@seqio.map_over_dataset
def render_mrpc(example: Example) -> Example:
    """MRPC: are two sentences paraphrases?

    {"sentence1": "It rains.", "sentence2": "It pours.", "label": 1} ->
    {"inputs": "mrpc sentence1: It rains. sentence2: It pours.", "targets": "equivalent"}
    """
    inputs = join_fields("mrpc", example, "sentence1", "sentence2")
    return with_label_name(inputs, MRPC_LABELS, example)


@seqio.map_over_dataset
def render_stsb(example: Example) -> Example:
    """STS-B: how similar are two sentences, from 0 to 5?

    {"sentence1": "It rains.", "sentence2": "It pours.", "label": 3.75} ->
    {"inputs": "stsb sentence1: It rains. sentence2: It pours.", "targets": "3.8"}

    The score is rounded to 0.2, half to even. A secret one is -1.
    """
    score = tf.strings.as_string(tf.round(example["label"] * 5) / 5, precision=1)
    return {
        "inputs": join_fields("stsb", example, "sentence1", "sentence2"),
        "targets": tf.where(example["label"] < 0, UNKNOWN, score),
    }


@seqio.map_over_dataset
def render_qqp(example: Example) -> Example:
    """QQP: do two questions ask the same?

    {"question1": "Does it rain?", "question2": "Is it raining?", "label": 1} ->
    {"inputs": "qqp question1: Does it rain? question2: Is it raining?", "targets": "duplicate"}
    """
    inputs = join_fields("qqp", example, "question1", "question2")
    return with_label_name(inputs, QQP_LABELS, example)


@seqio.map_over_dataset
def render_mnli(example: Example) -> Example:
    """MNLI: does the premise entail or contradict the hypothesis?

    {"premise": "It rains.", "hypothesis": "It is dry.", "label": 2} ->
    {"inputs": "mnli hypothesis: It is dry. premise: It rains.", "targets": "contradiction"}
    """
    inputs = join_fields("mnli", example, "hypothesis", "premise")
    return with_label_name(inputs, MNLI_LABELS, example)


@seqio.map_over_dataset
def render_qnli(example: Example) -> Example:
    """QNLI: does the sentence answer the question?

    {"question": "Does it rain?", "sentence": "It pours.", "label": 0} ->
    {"inputs": "qnli question: Does it rain? sentence: It pours.", "targets": "entailment"}
    """
    inputs = join_fields("qnli", example, "question", "sentence")
    return with_label_name(inputs, QNLI_LABELS, example)


@seqio.map_over_dataset
def render_rte(example: Example) -> Example:
    """RTE: does the first sentence entail the second?

    {"sentence1": "It pours.", "sentence2": "It rains.", "label": 0} ->
    {"inputs": "rte sentence1: It pours. sentence2: It rains.", "targets": "entailment"}
    """
    inputs = join_fields("rte", example, "sentence1", "sentence2")
    return with_label_name(inputs, RTE_LABELS, example)


add_task(
    "t5_glue_cola_v200",
    source=seqio.TfdsDataSource("glue/cola:2.0.0", splits=SPLITS),
    preprocessors=[render_cola, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=COLA_LABELS),
    metric_fns=[metrics.matthews_corrcoef],
)

add_task(
    "t5_glue_sst2_v200",
    source=seqio.TfdsDataSource("glue/sst2:2.0.0", splits=SPLITS),
    preprocessors=[render_sst2, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=SST2_LABELS),
    metric_fns=[metrics.accuracy],
)

add_task(
    "t5_glue_mrpc_v200",
    source=seqio.TfdsDataSource("glue/mrpc:2.0.0", splits=SPLITS),
    preprocessors=[render_mrpc, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=MRPC_LABELS),
    metric_fns=[metrics.f1_score_with_invalid, metrics.accuracy],
)

add_task(
    "t5_glue_stsb_v200",
    source=seqio.TfdsDataSource("glue/stsb:2.0.0", splits=SPLITS),
    preprocessors=[render_stsb, *TOKENIZE],
    postprocess_fn=postprocessors.to_float,
    metric_fns=[metrics.pearson_corrcoef, metrics.spearman_corrcoef],
)

add_task(
    "t5_glue_qqp_v200",
    source=seqio.TfdsDataSource("glue/qqp:2.0.0", splits=SPLITS),
    preprocessors=[render_qqp, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=QQP_LABELS),
    metric_fns=[metrics.f1_score_with_invalid, metrics.accuracy],
)

add_task(
    "t5_glue_mnli_v200",
    source=seqio.TfdsDataSource("glue/mnli:2.0.0", splits=MNLI_SPLITS),
    preprocessors=[render_mnli, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=MNLI_LABELS),
    metric_fns=[metrics.accuracy],
)

add_task(
    "t5_glue_qnli_v200",
    source=seqio.TfdsDataSource("glue/qnli:2.0.0", splits=SPLITS),
    preprocessors=[render_qnli, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=QNLI_LABELS),
    metric_fns=[metrics.accuracy],
)

add_task(
    "t5_glue_rte_v200",
    source=seqio.TfdsDataSource("glue/rte:2.0.0", splits=SPLITS),
    preprocessors=[render_rte, *TOKENIZE],
    postprocess_fn=functools.partial(postprocessors.to_label, labels=RTE_LABELS),
    metric_fns=[metrics.accuracy],
)
