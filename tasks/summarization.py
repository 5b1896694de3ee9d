"""Summaries: XSum, CNN/DailyMail and WikiLingua (English), as the original writes them.

Inputs are `summarize: <text>`. All three have the same prefix, so nothing in a text tells which set
it is from.

Source: allenai/hyperdecoders, `tasks.py`; Narayan et al. 2018 (arXiv:1808.08745), See et al. 2017
(arXiv:1704.04368), Ladhak et al. 2020 (arXiv:2010.03093).
"""

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import metrics, postprocessors, sources
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE
from hyperdecoders_jax.tasks.registration import add_task

SPLITS = {"train": "train", "validation": "validation", "test": "test"}

Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def render_xsum(example: Example) -> Example:
    """XSum: an article of the BBC in one sentence.

    {"document": "It rained all day.", "summary": "It rained."} ->
    {"inputs": "summarize: It rained all day.", "targets": "It rained."}
    """
    return {"inputs": "summarize: " + example["document"], "targets": example["summary"]}


@seqio.map_over_dataset
def render_cnn_dailymail(example: Example) -> Example:
    """CNN/DailyMail: the highlights of an article.

    {"article": "LONDON -- It rained all day.", "highlights": "It rained."} ->
    {"inputs": "summarize: LONDON -- It rained all day.", "targets": "It rained."}
    """
    return {"inputs": "summarize: " + example["article"], "targets": example["highlights"]}


@seqio.map_over_dataset
def render_wiki_lingua(example: Example) -> Example:
    """WikiLingua: the gist of a section of a how-to article.

    {"source": "Fill a pot with water and wait.", "target": "Boil water."} ->
    {"inputs": "summarize: Fill a pot with water and wait.", "targets": "Boil water."}
    """
    return {"inputs": "summarize: " + example["source"], "targets": example["target"]}


# TFDS's own has to be downloaded by hand.
add_task(
    "xsum",
    source=sources.JsonLinesFolder(
        "xsum",
        SPLITS,
        fields=["document", "summary"],
        hub="hf://datasets/EdinburghNLP/xsum@refs/convert/parquet/default",
    ),
    preprocessors=[render_xsum, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.rouge, metrics.gen_len],
)

# The original reads version 3.0.0, which has a space before the full stops that it adds.
add_task(
    "cnn_dailymail_v340",
    source=seqio.TfdsDataSource("cnn_dailymail:3.4.0", splits=SPLITS),
    preprocessors=[render_cnn_dailymail, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.rouge, metrics.gen_len],
)

add_task(
    "wiki_lingua_english_en_v110",
    source=seqio.TfdsDataSource("gem/wiki_lingua_english_en:1.1.0", splits=SPLITS),
    preprocessors=[render_wiki_lingua, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.rouge, metrics.gen_len],
)
