"""Natural language inference: ANLI, ART, SNLI, SciTail and SICK, as the original writes them.

Inputs are `<task> premise: <premise> hypothesis: <hypothesis>`, targets the labels' numbers; ART
chooses between two hypotheses, and SciTail's texts are called `sentence1` and `sentence2`.
(MNLI, QNLI, RTE and WNLI are in `glue`, SuperGLUE's sets in `super_glue`.)

Source: allenai/hyperdecoders, `tasks.py`; Nie et al. 2020 (arXiv:1910.14599), Bhagavatula et al.
2020 (arXiv:1908.05739), Bowman et al. 2015 (arXiv:1508.05326), Khot et al. 2018, Marelli et al.
2014.
"""

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import metrics, postprocessors, sources
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE, join_fields, with_label
from hyperdecoders_jax.tasks.registration import add_task

SPLITS = {"train": "train", "validation": "validation", "test": "test"}
# ART's test labels are secret.
ART_SPLITS = {"train": "train", "validation": "validation", "test": "validation"}

Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def render_anli(example: Example) -> Example:
    """ANLI: entailment, against examples that models get wrong.

    {"context": "It rains.", "hypothesis": "It is dry.", "label": 2} ->
    {"inputs": "anli premise: It rains. hypothesis: It is dry.", "targets": "2"}
    """
    fields = {"premise": example["context"], "hypothesis": example["hypothesis"]}
    return with_label(join_fields("anli", fields, *fields), example)


@seqio.map_over_dataset
def render_art(example: Example) -> Example:
    """ART: which hypothesis explains what was observed?

    {"observation_1": "Ann left.", "observation_2": "Ann came back wet.",
    "hypothesis_1": "It rained.", "hypothesis_2": "It was dry.", "label": 1} ->
    {"inputs": "art observation 1: Ann left. observation 2: Ann came back wet. "
    "hypothesis 1: It rained. hypothesis 2: It was dry.", "targets": "1"}
    """
    fields = {
        "observation 1": example["observation_1"],
        "observation 2": example["observation_2"],
        "hypothesis 1": example["hypothesis_1"],
        "hypothesis 2": example["hypothesis_2"],
    }
    return with_label(join_fields("art", fields, *fields), example)


@seqio.map_over_dataset
def render_snli(example: Example) -> Example:
    """SNLI: entailment between captions of pictures.

    {"premise": "It rains.", "hypothesis": "It is dry.", "label": 2} ->
    {"inputs": "snli premise: It rains. hypothesis: It is dry.", "targets": "2"}

    A record on which the annotators did not agree has the label "-1", as in the original.
    """
    return with_label(join_fields("snli", example, "premise", "hypothesis"), example)


@seqio.map_over_dataset
def render_scitail(example: Example) -> Example:
    """SciTail: entailment from sentences of science.

    {"premise": "Rain is water.", "hypothesis": "Rain is wet.", "label": 0} ->
    {"inputs": "scitail sentence1: Rain is water. sentence2: Rain is wet.", "targets": "0"}
    """
    fields = {"sentence1": example["premise"], "sentence2": example["hypothesis"]}
    return with_label(join_fields("scitail", fields, *fields), example)


@seqio.map_over_dataset
def render_sick(example: Example) -> Example:
    """SICK: entailment between sentences of few words.

    {"premise": "It rains.", "hypothesis": "It does not rain.", "label": 2} ->
    {"inputs": "sick premise: It rains. hypothesis: It does not rain.", "targets": "2"}
    """
    return with_label(join_fields("sick", example, "premise", "hypothesis"), example)


def sick_from_hub(record: dict) -> sources.Record:
    """A record with the names of the original's files, whose numbers for labels the hub shares.

    >>> sick_from_hub({"id": "7", "sentence_A": "It rains.", "sentence_B": "It pours.", "label": 1})
    {'premise': 'It rains.', 'hypothesis': 'It pours.', 'label': 1}
    """
    return {
        "premise": record["sentence_A"],
        "hypothesis": record["sentence_B"],
        "label": record["label"],
    }


# Its three rounds, one after the other.
add_task(
    "anli_v010",
    source=sources.ConcatenatedSource(
        seqio.TfdsDataSource("anli/r1:0.1.0", splits=SPLITS),
        seqio.TfdsDataSource("anli/r2:0.1.0", splits=SPLITS),
        seqio.TfdsDataSource("anli/r3:0.1.0", splits=SPLITS),
    ),
    preprocessors=[render_anli, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "art",
    source=sources.JsonLinesFolder(
        "art",
        ART_SPLITS,
        fields=["observation_1", "observation_2", "hypothesis_1", "hypothesis_2", "label"],
        labels={"label": ("1", "2")},
        hub="hf://datasets/allenai/art@refs/convert/parquet/anli",
    ),
    preprocessors=[render_art, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "snli_v110",
    source=seqio.TfdsDataSource("snli:1.1.0", splits=SPLITS),
    preprocessors=[render_snli, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

# TFDS reads a quotation mark as a CSV's, and so has 23,097 of the original's 23,596 records.
add_task(
    "scitail_v100",
    source=seqio.TfdsDataSource("sci_tail:1.0.0", splits=SPLITS),
    preprocessors=[render_scitail, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

# The original reads three files that it does not ship; these are the published records.
add_task(
    "sick",
    source=sources.JsonLinesFolder(
        "sick",
        SPLITS,
        fields=["premise", "hypothesis", "label"],
        labels={"label": ("0", "1", "2")},
        hub="hf://datasets/RobZamp/sick@refs/convert/parquet/default",
        from_hub=sick_from_hub,
    ),
    preprocessors=[render_sick, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)
