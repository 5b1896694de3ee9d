"""GLUE's nine tasks: text, labels, splits and metrics of the original Hyperdecoders.

Inputs are `<task> <field>: <value> …`, targets the labels' numbers, such as
"cola sentence: It is raining." and "1". A task's name ends in the version of its data set (v200 is
TFDS 2.0.0). Data are read from `--tfds_data_dir` (`seqio.set_tfds_data_dir_override`), else from
`$TFDS_DATA_DIR`, else from `~/tensorflow_datasets`.

GLUE's test labels are secret: `test` is the official validation split here, and so is `validation`,
except for MNLI, which is selected on mismatched and reported on matched genres.

Source: allenai/hyperdecoders, `tasks.py`; Wang et al. 2019 (arXiv:1804.07461).
"""

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import metrics, postprocessors
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE, join_fields, with_label
from hyperdecoders_jax.tasks.registration import add_task

SPLITS = {"train": "train", "validation": "validation", "test": "validation"}
MNLI_SPLITS = {
    "train": "train",
    "validation": "validation_mismatched",
    "test": "validation_matched",
}

Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def render_cola(example: Example) -> Example:
    """CoLA: is a sentence acceptable?

    {"sentence": "It rains.", "label": 1} ->
    {"inputs": "cola sentence: It rains.", "targets": "1"}
    """
    return with_label(join_fields("cola", example, "sentence"), example)


@seqio.map_over_dataset
def render_sst2(example: Example) -> Example:
    """SST-2: is the sentiment of a sentence positive?

    {"sentence": "so dull ", "label": 0} ->
    {"inputs": "sst2 sentence: so dull ", "targets": "0"}
    """
    return with_label(join_fields("sst2", example, "sentence"), example)


@seqio.map_over_dataset
def render_mrpc(example: Example) -> Example:
    """MRPC: are two sentences paraphrases?

    {"sentence1": "It rains.", "sentence2": "It pours.", "label": 1} ->
    {"inputs": "mrpc sentence1: It rains. sentence2: It pours.", "targets": "1"}
    """
    return with_label(join_fields("mrpc", example, "sentence1", "sentence2"), example)


@seqio.map_over_dataset
def render_stsb(example: Example) -> Example:
    """STS-B: how similar are two sentences, from 0 to 5?

    {"sentence1": "It rains.", "sentence2": "It pours.", "label": 3.75} ->
    {"inputs": "stsb sentence1: It rains. sentence2: It pours.", "targets": "3.8"}

    The score is rounded to 0.1, half to even. (The original means to round to 0.2, but does not.)
    """
    score = tf.round(tf.cast(example["label"], tf.float64) * 5 / 5 * 10) / 10
    return {
        "inputs": join_fields("stsb", example, "sentence1", "sentence2"),
        "targets": tf.strings.as_string(score, precision=1),
    }


@seqio.map_over_dataset
def render_qqp(example: Example) -> Example:
    """QQP: do two questions ask the same?

    {"question1": "Does it rain?", "question2": "Is it raining?", "label": 1} ->
    {"inputs": "qqp question1: Does it rain? question2: Is it raining?", "targets": "1"}
    """
    return with_label(join_fields("qqp", example, "question1", "question2"), example)


@seqio.map_over_dataset
def render_mnli(example: Example) -> Example:
    """MNLI: does the premise entail or contradict the hypothesis?

    {"premise": "It rains.", "hypothesis": "It is dry.", "label": 2} ->
    {"inputs": "mnli premise: It rains. hypothesis: It is dry.", "targets": "2"}
    """
    return with_label(join_fields("mnli", example, "premise", "hypothesis"), example)


@seqio.map_over_dataset
def render_qnli(example: Example) -> Example:
    """QNLI: does the sentence answer the question?

    {"question": "Does it rain?", "sentence": "It pours.", "label": 0} ->
    {"inputs": "qnli question: Does it rain? sentence: It pours.", "targets": "0"}
    """
    return with_label(join_fields("qnli", example, "question", "sentence"), example)


@seqio.map_over_dataset
def render_rte(example: Example) -> Example:
    """RTE: does the first sentence entail the second?

    {"sentence1": "It pours.", "sentence2": "It rains.", "label": 0} ->
    {"inputs": "rte sentence1: It pours. sentence2: It rains.", "targets": "0"}
    """
    return with_label(join_fields("rte", example, "sentence1", "sentence2"), example)


@seqio.map_over_dataset
def render_wnli(example: Example) -> Example:
    """WNLI: does the second sentence follow, with its pronoun resolved?

    {"sentence1": "The ball broke the box as it was big.", "sentence2": "The ball was big.",
    "label": 1} ->
    {"inputs": "wnli sentence1: The ball broke the box as it was big. sentence2: The ball was big.",
    "targets": "1"}
    """
    return with_label(join_fields("wnli", example, "sentence1", "sentence2"), example)


add_task(
    "glue_cola_v200",
    source=seqio.TfdsDataSource("glue/cola:2.0.0", splits=SPLITS),
    preprocessors=[render_cola, *TOKENIZE],
    postprocess_fn=postprocessors.to_int,
    metric_fns=[metrics.matthews_corrcoef],
)

add_task(
    "glue_sst2_v200",
    source=seqio.TfdsDataSource("glue/sst2:2.0.0", splits=SPLITS),
    preprocessors=[render_sst2, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "glue_mrpc_v200",
    source=seqio.TfdsDataSource("glue/mrpc:2.0.0", splits=SPLITS),
    preprocessors=[render_mrpc, *TOKENIZE],
    postprocess_fn=postprocessors.to_int,
    metric_fns=[metrics.f1_score_with_invalid, metrics.accuracy],
)

add_task(
    "glue_stsb_v200",
    source=seqio.TfdsDataSource("glue/stsb:2.0.0", splits=SPLITS),
    preprocessors=[render_stsb, *TOKENIZE],
    postprocess_fn=postprocessors.to_float,
    metric_fns=[metrics.pearson_corrcoef, metrics.spearman_corrcoef],
)

add_task(
    "glue_qqp_v200",
    source=seqio.TfdsDataSource("glue/qqp:2.0.0", splits=SPLITS),
    preprocessors=[render_qqp, *TOKENIZE],
    postprocess_fn=postprocessors.to_int,
    metric_fns=[metrics.f1_score_with_invalid, metrics.accuracy],
)

add_task(
    "glue_mnli_v200",
    source=seqio.TfdsDataSource("glue/mnli:2.0.0", splits=MNLI_SPLITS),
    preprocessors=[render_mnli, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "glue_qnli_v200",
    source=seqio.TfdsDataSource("glue/qnli:2.0.0", splits=SPLITS),
    preprocessors=[render_qnli, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "glue_rte_v200",
    source=seqio.TfdsDataSource("glue/rte:2.0.0", splits=SPLITS),
    preprocessors=[render_rte, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

# Papers leave it out, and so does the mixture.
add_task(
    "glue_wnli_v200",
    source=seqio.TfdsDataSource("glue/wnli:2.0.0", splits=SPLITS),
    preprocessors=[render_wnli, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)
