"""SuperGLUE's BoolQ, CB and RTE, as the original Hyperdecoders write them.

Inputs are `superglue-<task> <field>: <value> …`, targets the labels' numbers. (All of SuperGLUE in
T5's words is in `t5_super_glue`.)

Test labels are secret: `test` is the official validation split here, and so is `validation`.

Source: allenai/hyperdecoders, `tasks.py`; Wang et al. 2019 (arXiv:1905.00537).
"""

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import metrics, postprocessors
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE, join_fields, with_label
from hyperdecoders_jax.tasks.registration import add_task

SPLITS = {"train": "train", "validation": "validation", "test": "validation"}

Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def render_boolq(example: Example) -> Example:
    """BoolQ: a question of yes or no about a passage.

    {"question": "is rain wet", "passage": "Rain -- Rain is water.", "label": 1} ->
    {"inputs": "superglue-boolq question: is rain wet passage: Rain -- Rain is water.",
    "targets": "1"}
    """
    return with_label(join_fields("superglue-boolq", example, "question", "passage"), example)


@seqio.map_over_dataset
def render_cb(example: Example) -> Example:
    """CB: does the premise entail or contradict the hypothesis?

    {"premise": "B: I think it rains.", "hypothesis": "it rains", "label": 2} ->
    {"inputs": "superglue-cb premise: B: I think it rains. hypothesis: it rains", "targets": "2"}

    The labels are entailment, contradiction and neutral: not in the order of other sets.
    """
    return with_label(join_fields("superglue-cb", example, "premise", "hypothesis"), example)


@seqio.map_over_dataset
def render_rte(example: Example) -> Example:
    """RTE: does the first sentence entail the second?

    {"premise": "It pours.", "hypothesis": "It rains.", "label": 0} ->
    {"inputs": "superglue-rte premise: It pours. hypothesis: It rains.", "targets": "0"}
    """
    return with_label(join_fields("superglue-rte", example, "premise", "hypothesis"), example)


add_task(
    "superglue_boolq_v102",
    source=seqio.TfdsDataSource("super_glue/boolq:1.0.2", splits=SPLITS),
    preprocessors=[render_boolq, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "superglue_cb_v102",
    source=seqio.TfdsDataSource("super_glue/cb:1.0.2", splits=SPLITS),
    preprocessors=[render_cb, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "superglue_rte_v102",
    source=seqio.TfdsDataSource("super_glue/rte:1.0.2", splits=SPLITS),
    preprocessors=[render_rte, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)
