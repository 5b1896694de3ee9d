"""Classification of one or two texts: IMDB, Yelp, TREC and PAWS, as the original writes them.

Inputs are `<task> <field>: <text> …` (for IMDB without the field's name), targets the numbers of
labels: those of the original, which are TFDS's.

IMDB, Yelp and TREC have no validation split: `validation` and `test` are both their test split.

Source: allenai/hyperdecoders, `tasks.py`; Maas et al. 2011, Zhang et al. 2015 (arXiv:1509.01626),
Li and Roth 2002, Zhang et al. 2019 (arXiv:1904.01130).
"""

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import metrics, postprocessors
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE, join_fields, with_label
from hyperdecoders_jax.tasks.registration import add_task

SPLITS = {"train": "train", "validation": "test", "test": "test"}
PAWS_SPLITS = {"train": "train", "validation": "validation", "test": "test"}

Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def render_imdb(example: Example) -> Example:
    """{"text": "So dull.", "label": 0} -> {"inputs": "imdb So dull.", "targets": "0"}"""
    return with_label(tf.strings.join(["imdb", example["text"]], separator=" "), example)


@seqio.map_over_dataset
def render_yelp_polarity(example: Example) -> Example:
    """Yelp Polarity: is a review positive?

    {"text": "Best rolls in town.", "label": 1} ->
    {"inputs": "yelp_polarity sentence: Best rolls in town.", "targets": "1"}
    """
    inputs = join_fields("yelp_polarity", {"sentence": example["text"]}, "sentence")
    return with_label(inputs, example)


@seqio.map_over_dataset
def render_trec(example: Example) -> Example:
    """TREC: which kind of thing does a question ask for?

    {"text": "Who wrote Emma ?", "label-coarse": 3, "label-fine": 28} ->
    {"inputs": "trec sentence: Who wrote Emma ?", "targets": "3"}

    The labels are description, entity, abbreviation, human, number and location. (The Hugging Face
    hub has ordered them otherwise since the original was written.)
    """
    return {
        "inputs": join_fields("trec", {"sentence": example["text"]}, "sentence"),
        "targets": tf.strings.as_string(example["label-coarse"]),
    }


@seqio.map_over_dataset
def render_paws(example: Example) -> Example:
    """PAWS: do two sentences of the same words mean the same?

    {"sentence1": "From A to B .", "sentence2": "From B to A .", "label": 0} ->
    {"inputs": "paws sentence1: From A to B . sentence2: From B to A .", "targets": "0"}
    """
    return with_label(join_fields("paws", example, "sentence1", "sentence2"), example)


add_task(
    "imdb_v100",
    source=seqio.TfdsDataSource("imdb_reviews/plain_text:1.0.0", splits=SPLITS),
    preprocessors=[render_imdb, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "yelp_polarity_v020",
    source=seqio.TfdsDataSource("yelp_polarity_reviews:0.2.0", splits=SPLITS),
    preprocessors=[render_yelp_polarity, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "trec_v100",
    source=seqio.TfdsDataSource("trec:1.0.0", splits=SPLITS),
    preprocessors=[render_trec, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)

add_task(
    "paws_v110",
    source=seqio.TfdsDataSource("paws_wiki/labeled_final_tokenized:1.1.0", splits=PAWS_SPLITS),
    preprocessors=[render_paws, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.accuracy],
)
