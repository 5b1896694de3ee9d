"""Text, direction, splits, data and metrics of the tasks of translation are the original's."""

import pytest
import seqio

from hyperdecoders_jax.tasks import sources, translation
from tests.tasks import rendering

SPLITS = {"train": "train", "validation": "validation", "test": "test"}


@pytest.mark.parametrize(
    ("function", "languages", "prefix"),
    [
        (translation.render_wmt16_en_ro, "en ro", "Translate English to Romanian"),
        (translation.render_wmt16_ro_en, "ro en", "Translate Romanian to English"),
        (translation.render_wmt16_en_cs, "en cs", "Translate English to Czech"),
        (translation.render_wmt16_en_fi, "en fi", "Translate English to Finnish"),
        (translation.render_wmt14_hi_en, "en hi", "Translate English to Hindi"),
        (translation.render_iwslt2017_ro_nl, "ro nl", "Translate Romanian to Dutch"),
        (translation.render_iwslt2017_en_nl, "en nl", "Translate English to Dutch"),
    ],
)
def test_the_prefix_says_the_direction(function, languages, prefix):
    source, target = languages.split()
    record = {source: "Één: alpha.", target: "beta बा"}
    assert rendering.render(function, **record) == (f"{prefix} Één: alpha.", "beta बा")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("wmt16_en_ro_v100", "wmt16_translate/ro-en:1.0.0"),
        ("wmt16_ro_en_v100", "wmt16_translate/ro-en:1.0.0"),
        ("wmt16_en_cs_v100", "wmt16_translate/cs-en:1.0.0"),
        ("wmt16_en_fi_v100", "wmt16_translate/fi-en:1.0.0"),
        ("wmt14_hi_en_v100", "wmt14_translate/hi-en:1.0.0"),
    ],
)
def test_data_of_wmt_are_those_of_tfds(name, data):
    assert rendering.data_of(name) == (data, SPLITS)


@pytest.mark.parametrize("name", ["iwslt2017_ro_nl", "iwslt2017_en_nl"])
def test_data_of_iwslt_are_in_a_folder(name, monkeypatch):
    monkeypatch.setenv(sources.DATA_DIR_VARIABLE, "/data")
    source = seqio.TaskRegistry.get(name).source
    for split in SPLITS:
        assert source.list_shards(split) == [f"/data/{name}/{split}.jsonl"]


def test_a_translation_is_scored_by_bleu_and_counted():
    texts = ["Het regent de hele dag."]
    assert rendering.score("iwslt2017_en_nl", texts, texts, num_tokens=[7]) == {
        "bleu": pytest.approx(100),
        "gen_len": 7.0,
    }
