"""Text, splits, data and metrics of the tasks of summarisation are the original's."""

import pytest
import seqio

from hyperdecoders_jax.tasks import sources, summarization
from tests.tasks import rendering


@pytest.mark.parametrize(
    ("function", "source", "target"),
    [
        (summarization.render_xsum, "document", "summary"),
        (summarization.render_cnn_dailymail, "article", "highlights"),
        (summarization.render_wiki_lingua, "source", "target"),
    ],
)
def test_all_texts_have_the_same_prefix_and_keep_their_lines(function, source, target):
    record = {source: "It rained.\nIt poured.", target: "Rain .\nMuch rain ."}
    assert rendering.render(function, **record) == (
        "summarize: It rained.\nIt poured.",
        "Rain .\nMuch rain .",
    )


def test_data_and_splits_are_the_originals(monkeypatch):
    splits = {"train": "train", "validation": "validation", "test": "test"}
    cnn, wiki = "cnn_dailymail_v340", "wiki_lingua_english_en_v110"
    assert rendering.data_of(cnn) == ("cnn_dailymail:3.4.0", splits)
    assert rendering.data_of(wiki) == ("gem/wiki_lingua_english_en:1.1.0", splits)
    monkeypatch.setenv(sources.DATA_DIR_VARIABLE, "/data")
    xsum = seqio.TaskRegistry.get("xsum").source
    assert [path for split in splits for path in xsum.list_shards(split)] == [
        "/data/xsum/train.jsonl",
        "/data/xsum/validation.jsonl",
        "/data/xsum/test.jsonl",
    ]


@pytest.mark.parametrize("name", ["xsum", "cnn_dailymail_v340", "wiki_lingua_english_en_v110"])
def test_a_summary_is_scored_by_shared_words_and_counted(name):
    texts = ["It rained all day."]
    assert rendering.score(name, texts, texts, num_tokens=[6]) == {
        "rouge1": pytest.approx(100),
        "rouge2": pytest.approx(100),
        "rougeL": pytest.approx(100),
        "rougeLsum": pytest.approx(100),
        "gen_len": 6.0,
    }
