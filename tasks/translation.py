"""Translation: pairs of WMT 2014, WMT 2016 and IWSLT 2017, as the original writes them.

Inputs are `Translate <language> to <language> <text>`. The direction is that of the prefix:
`wmt14_hi_en_v100` is from English, as in the original.

Source: allenai/hyperdecoders, `tasks.py`; Bojar et al. 2014 and 2016, Cettolo et al. 2017.
"""

import seqio
import tensorflow as tf

from hyperdecoders_jax.tasks import metrics, postprocessors, sources
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE
from hyperdecoders_jax.tasks.registration import add_task

SPLITS = {"train": "train", "validation": "validation", "test": "test"}

Example = dict[str, tf.Tensor]


@seqio.map_over_dataset
def render_wmt16_en_ro(example: Example) -> Example:
    """WMT16, English to Romanian.

    {"en": "It rains.", "ro": "Plouă."} ->
    {"inputs": "Translate English to Romanian It rains.", "targets": "Plouă."}
    """
    return {"inputs": "Translate English to Romanian " + example["en"], "targets": example["ro"]}


@seqio.map_over_dataset
def render_wmt16_ro_en(example: Example) -> Example:
    """WMT16, Romanian to English.

    {"ro": "Plouă.", "en": "It rains."} ->
    {"inputs": "Translate Romanian to English Plouă.", "targets": "It rains."}
    """
    return {"inputs": "Translate Romanian to English " + example["ro"], "targets": example["en"]}


@seqio.map_over_dataset
def render_wmt16_en_cs(example: Example) -> Example:
    """WMT16, English to Czech.

    {"en": "It rains.", "cs": "Prší."} ->
    {"inputs": "Translate English to Czech It rains.", "targets": "Prší."}
    """
    return {"inputs": "Translate English to Czech " + example["en"], "targets": example["cs"]}


@seqio.map_over_dataset
def render_wmt16_en_fi(example: Example) -> Example:
    """WMT16, English to Finnish.

    {"en": "It rains.", "fi": "Sataa."} ->
    {"inputs": "Translate English to Finnish It rains.", "targets": "Sataa."}
    """
    return {"inputs": "Translate English to Finnish " + example["en"], "targets": example["fi"]}


@seqio.map_over_dataset
def render_wmt14_hi_en(example: Example) -> Example:
    """WMT14 (hi-en), English to Hindi.

    {"en": "It rains.", "hi": "बारिश हो रही है।"} ->
    {"inputs": "Translate English to Hindi It rains.", "targets": "बारिश हो रही है।"}
    """
    return {"inputs": "Translate English to Hindi " + example["en"], "targets": example["hi"]}


@seqio.map_over_dataset
def render_iwslt2017_ro_nl(example: Example) -> Example:
    """IWSLT 2017, Romanian to Dutch.

    {"ro": "Plouă.", "nl": "Het regent."} ->
    {"inputs": "Translate Romanian to Dutch Plouă.", "targets": "Het regent."}
    """
    return {"inputs": "Translate Romanian to Dutch " + example["ro"], "targets": example["nl"]}


@seqio.map_over_dataset
def render_iwslt2017_en_nl(example: Example) -> Example:
    """IWSLT 2017, English to Dutch.

    {"en": "It rains.", "nl": "Het regent."} ->
    {"inputs": "Translate English to Dutch It rains.", "targets": "Het regent."}
    """
    return {"inputs": "Translate English to Dutch " + example["en"], "targets": example["nl"]}


def iwslt_from_hub(record: dict) -> sources.Record:
    """A record with a field for each language.

    >>> iwslt_from_hub({"translation": {"en": "It rains.", "nl": "Het regent."}})
    {'en': 'It rains.', 'nl': 'Het regent.'}
    """
    return record["translation"]


add_task(
    "wmt16_en_ro_v100",
    source=seqio.TfdsDataSource("wmt16_translate/ro-en:1.0.0", splits=SPLITS),
    preprocessors=[render_wmt16_en_ro, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.bleu, metrics.gen_len],
)

add_task(
    "wmt16_ro_en_v100",
    source=seqio.TfdsDataSource("wmt16_translate/ro-en:1.0.0", splits=SPLITS),
    preprocessors=[render_wmt16_ro_en, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.bleu, metrics.gen_len],
)

# The original reads the hub's copy, which leaves CzEng out; TFDS insists on it.
add_task(
    "wmt16_en_cs_v100",
    source=seqio.TfdsDataSource("wmt16_translate/cs-en:1.0.0", splits=SPLITS),
    preprocessors=[render_wmt16_en_cs, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.bleu, metrics.gen_len],
)

add_task(
    "wmt16_en_fi_v100",
    source=seqio.TfdsDataSource("wmt16_translate/fi-en:1.0.0", splits=SPLITS),
    preprocessors=[render_wmt16_en_fi, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.bleu, metrics.gen_len],
)

# The original reads the hub's copy, which leaves HindEnCorp out; TFDS insists on it.
add_task(
    "wmt14_hi_en_v100",
    source=seqio.TfdsDataSource("wmt14_translate/hi-en:1.0.0", splits=SPLITS),
    preprocessors=[render_wmt14_hi_en, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.bleu, metrics.gen_len],
)

add_task(
    "iwslt2017_ro_nl",
    source=sources.JsonLinesFolder(
        "iwslt2017_ro_nl",
        SPLITS,
        fields=["ro", "nl"],
        hub="hf://datasets/IWSLT/iwslt2017@refs/convert/parquet/iwslt2017-ro-nl",
        from_hub=iwslt_from_hub,
    ),
    preprocessors=[render_iwslt2017_ro_nl, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.bleu, metrics.gen_len],
)

add_task(
    "iwslt2017_en_nl",
    source=sources.JsonLinesFolder(
        "iwslt2017_en_nl",
        SPLITS,
        fields=["en", "nl"],
        hub="hf://datasets/IWSLT/iwslt2017@refs/convert/parquet/iwslt2017-en-nl",
        from_hub=iwslt_from_hub,
    ),
    preprocessors=[render_iwslt2017_en_nl, *TOKENIZE],
    postprocess_fn=postprocessors.to_text,
    metric_fns=[metrics.bleu, metrics.gen_len],
)
